"""A report as tables in a terminal.

Promises: pure; fits 120 columns; an interval stands beside every share; no name commands the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from services.ledger.report.figures import (
    ALARM_ESCALATED,
    HEALTHY_ESCALATED,
    HEALTHY_SIMPLE,
    Report,
    TierFigures,
)
from services.ledger.report.names import visible
from services.ledger.report.tallies import CONFIDENCE_BINS, Group
from spillway.cli.terminal import ms, percent, usd
from spillway.intervals import Interval

__all__ = ["bound_note", "hit_share", "quality_cells", "report_view", "span", "state_of_escalation", "tries"]

SIMPLE: str = "simple"


def report_view(report: Report, title: str) -> RenderableType:
    """Every section that has something to say."""
    if report.all is None:
        return Text(f"{visible(title)}: no requests")
    parts: list[RenderableType] = [Text(visible(title), style="bold"), "", *_summary(report, report.all), ""]
    parts += [_tiers(report.tiers), "", _quality(report.tiers), ""]
    for kind in ("arm", "task type", "user tier", "tenant", "endpoint", "tag"):
        groups = report.of_kind(kind)
        if len(groups) > 1 or (groups and kind == "arm"):
            parts += [_groups(kind, groups), ""]
    if len(report.days) > 1:
        parts += [_groups("day", report.days), ""]
    parts += [_hops(report), "", *_judgement(report)]
    return Stack(*parts)


def quality_cells(tier: TierFigures) -> tuple[str, ...]:
    """Accepted, grade, its difference from the flagship's, grades, disliked, regenerated, complaints."""
    return (
        span(tier.accepted),
        span(tier.grade),
        span(tier.grade_difference),
        f"{tier.grades:,}",
        span(tier.disliked),
        span(tier.regenerated),
        span(tier.complained),
    )


def span(value: Interval | None) -> str:
    """A share with its interval, in per cent, e.g. "12.0 [10.1, 14.2]"; a dash where one value has none."""
    if value is None or not (math.isfinite(value.low) and math.isfinite(value.high)):
        return "–"
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def hit_share(group: Group) -> str:
    """Of the requests, how many came from the cache, in per cent; a dash without requests."""
    hits = group.exact_hits + group.semantic_hits + group.shared
    return percent(hits / group.requests if group.requests else None)


def tries(group: Group) -> str:
    """A remark on failed tries; empty where there were none."""
    return f" ({group.failed_tries:,} more tries failed)" if group.failed_tries else ""


def bound_note(report: Report, whole: Group) -> str:
    """What calls that nobody counted can have cost on top; empty where there was none."""
    if not report.calls_bounded:
        return ""
    calls = "1 call" if report.calls_bounded == 1 else f"{report.calls_bounded:,} calls"
    return (
        f"at most {usd(whole.cost_excess_nanousd)} more, for {calls} that nobody counted: the cost has an estimate of "
        "them, budgets the most that they can have cost"
    )


def state_of_escalation(tier: str, escalated: Interval | None) -> str:
    """ "healthy", "watch" or "alarm", by the bands; empty where nothing was asked."""
    if escalated is None:
        return ""
    if tier == SIMPLE:
        low, high = HEALTHY_SIMPLE
        if low <= escalated.value <= high:
            return "healthy"
    elif escalated.value <= HEALTHY_ESCALATED:
        return "healthy"
    return "alarm" if escalated.value >= ALARM_ESCALATED else "watch"


def _summary(report: Report, whole: Group) -> Iterable[RenderableType]:
    flagship = visible(", ".join(report.flagship_targets)) or "unknown"
    answered = whole.requests - whole.failed
    each = usd(round(whole.cost_nanousd / max(whole.requests, 1)))
    failed = f"{whole.failed:,} failed{tries(whole)}"
    yield Text(f"{whole.requests:,} requests, {answered:,} answered, {failed}; {each} a request")
    yield Text(
        f"cost {usd(whole.cost_nanousd)} against {usd(whole.flagship_cost_nanousd)} with {flagship} for everything: "
        f"{percent(whole.savings)} saved",
        style="bold",
    )
    yield Text(
        f"from the cache {hit_share(whole)}: {whole.exact_hits:,} exact, {whole.semantic_hits:,} by "
        f"meaning, {whole.shared:,} shared; escalated {span(whole.escalated)} % "
        f"({state_of_escalation('', whole.escalated) or 'nothing asked'}), {whole.fallbacks:,} fallbacks"
    )
    yield Text(
        f"gates and judges {usd(report.gates_cost_nanousd)} of the cost; canary {usd(report.canary_cost_nanousd)} "
        f"beside it, for {report.canary_grades:,} grades; audits {usd(report.audits_cost_nanousd)} beside it"
    )
    if bounded := bound_note(report, whole):
        yield Text(bounded, style="yellow")
    if report.cost_unknown:
        yield Text(f"of {report.cost_unknown:,} requests that were broken off the cost is not known", style="yellow")


def _tiers(tiers: Sequence[TierFigures]) -> Table:
    table = _table(
        "tiers; in %, with 95 % intervals",
        ("tier",),
        ("asked", "answered", "cost", "per asked", "escalated", "", "fallback", "schema failed"),
    )
    for tier in tiers:
        state = state_of_escalation(tier.tier, tier.escalated)
        table.add_row(
            Text(visible(tier.tier) or "–"),
            f"{tier.asked:,}",
            f"{tier.answered:,}",
            usd(tier.cost_nanousd),
            usd(round(tier.cost_nanousd / tier.asked)) if tier.asked else "–",
            span(tier.escalated),
            Text(state, style={"alarm": "red", "watch": "yellow"}.get(state, "green")),
            span(tier.fallback),
            span(tier.schema_failed),
        )
    return table


def _quality(tiers: Sequence[TierFigures]) -> Table:
    columns = ("accepted", "grade", "− flagship", "n", "disliked", "regenerated", "complaints")
    table = _table("quality, by the tier that answered; in %, with 95 % intervals", ("tier",), columns)
    for tier in tiers:
        table.add_row(Text(visible(tier.tier) or "–"), *quality_cells(tier))
    return table


def _groups(kind: str, groups: Sequence[Group]) -> Table:
    columns = ("requests", "failed", "cost", "saved", "hits", "escalated", "p50", "p95", "p99")
    table = _table(f"by {kind}; escalated in %", (kind,), columns)
    for group in groups:
        latency = group.latency
        table.add_row(
            Text(visible(group.name)),
            f"{group.requests:,}",
            f"{group.failed:,}",
            usd(group.cost_nanousd),
            percent(group.savings),
            hit_share(group),
            span(group.escalated),
            *((ms(latency.p50_s), ms(latency.p95_s), ms(latency.p99_s)) if latency else ("–", "–", "–")),
        )
    return table


def _hops(report: Report) -> Table:
    table = _table("latency of each hop", ("hop",), ("n", "p50", "p95", "p99"))
    for hop, latency in report.hops.items():
        table.add_row(Text(visible(hop)), f"{latency.count:,}", ms(latency.p50_s), ms(latency.p95_s), ms(latency.p99_s))
    return table


def _judgement(report: Report) -> Iterable[RenderableType]:
    steps = ", ".join(f"{name} {count:,}" for name, count in report.policy_steps.items())
    yield Text(visible(f"decided by: {steps}"))
    if any(report.confidence_counts):
        most = max(report.confidence_counts)
        bars = "".join("▁▂▃▄▅▆▇█"[(count * 7) // most] if count else "·" for count in report.confidence_counts)
        yield Text(f"confidence 0 to 1 in {CONFIDENCE_BINS} bins: {bars}")
    if report.drift:
        words = ", ".join(f"{name} {index:.3f}" for name, index in report.drift.items())
        yield Text(f"drift between the halves (PSI; above 0.25 is another population): {words}")
    if report.feedback:
        yield Text("feedback: " + ", ".join(f"{kind} {count:,}" for kind, count in report.feedback.items()))


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table
