"""A replay's figures as a person reads them. Promises: pure; fits 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spillway.cli.replay_figures import MIX, Figures
from spillway.cli.terminal import ms, percent, titled_table, usd
from spillway.intervals import Interval

__all__ = ["replay_view"]


def replay_view(figures: Sequence[Figures], flagship: str) -> RenderableType:
    """Quality and cost of each task and of the mix, how they were routed, and the sum of it in a sentence."""
    return Group(_quality(figures, flagship), "", _routing(figures), "", _verdict(figures[-1], flagship))


def _quality(figures: Sequence[Figures], flagship: str) -> Table:
    table = _table(f"accuracy in %, with 95 % intervals, and cost · flagship: {flagship or 'unknown'}")
    for name in ("n", "accuracy", "flagship", "difference", "cost", "flagship", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in figures:
        table.add_row(
            Text(one.task),
            str(one.prompts),
            _share(one.accuracy),
            _share(one.flagship_accuracy),
            _points(one.accuracy_difference),
            usd(one.cost_nanousd),
            usd(one.flagship_cost_nanousd),
            Text(percent(one.savings), style="green" if one.savings and one.savings > 0 else "yellow"),
            style="bold" if one.task == MIX else "",
        )
    return table


def _routing(figures: Sequence[Figures]) -> Table:
    table = _table("routing")
    table.add_column("tiers")
    for name in ("escalated", "fallbacks", "hits", "unproven", "errors", "not as recorded", "p50", "p95"):
        table.add_column(name, justify="right", overflow="fold")
    for one in figures:
        answered = sum(one.tier_mix.values())
        tiers = ", ".join(f"{tier} {percent(count / answered, 0)}" for tier, count in one.tier_mix.items())
        errors = sum(one.errors.values())
        table.add_row(
            Text(one.task),
            Text(tiers or "–"),
            percent(one.escalation_rate),
            str(one.fallbacks),
            str(one.cache_hits),
            str(one.unproven),
            Text(str(errors), style="red" if errors else ""),
            Text(str(one.mismatches), style="red" if one.mismatches else ""),
            ms(one.latency_p50_s),
            ms(one.latency_p95_s),
            style="bold" if one.task == MIX else "",
        )
    return table


def _verdict(mix: Figures, flagship: str) -> Text:
    text = Text(f"{percent(mix.savings)} cheaper than {flagship or 'the flagship'} alone", style="bold")
    difference = mix.accuracy_difference
    if difference is not None:
        text.append(f", accuracy {difference.value * 100:+.2f} points", style="bold")
        text.append(f" (95 %: {difference.low * 100:+.2f} to {difference.high * 100:+.2f})")
    if mix.flagship_accuracy is None:
        text.append(" by the suite's own estimate; the flagship was not called")
    if mix.errors:
        reasons = ", ".join(f"{count} {reason}" for reason, count in mix.errors.items())
        text.append(f"\nerrors, counted as wrong: {reasons}", style="red")
    if mix.flagship_errors:
        text.append(f"\nflagship calls that failed, counted as wrong and free: {mix.flagship_errors}", style="red")
    return text


def _table(title: str) -> Table:
    table = titled_table(title)
    table.header_style = "dim"
    table.add_column("task", no_wrap=True)
    return table


def _share(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value * 100:.1f} [{interval.low * 100:.1f}, {interval.high * 100:.1f}]"


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value * 100:+.1f} [{interval.low * 100:+.1f}, {interval.high * 100:+.1f}]"
