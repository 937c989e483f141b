"""Completions and explanations as a person reads them. Promises: pure; values in, rich renderables out."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spillway.cli.plan_view import plan_view, route_text, rules_view
from spillway.cli.terminal import ms, percent, saved, titled_table, usd
from spillway.routing import (
    Attempt,
    AttemptOutcome,
    CacheKind,
    CacheOutcome,
    Classification,
    Completion,
    Explanation,
    GateVerdict,
    Verdict,
)

__all__ = ["cache_text", "completion_view", "explanation_view", "gate_marks", "hops_view", "saved_text"]

SIGNALS_SHOWN_MAX = 8
SANDBOX_BEGINS = "This is Spillway's sandbox, which stands in for a model provider"
"""So begins what the sandbox says to a prompt that it has no answer to."""
_NO_ANSWER = (
    "it has no answer to this prompt and says one fixed text. Gates, costs and the cache treat that like any answer, "
    "so they say nothing of quality here"
)
LABEL_COLUMNS = 10
_MARKS = {Verdict.PASS: ("✓", "green"), Verdict.FAIL: ("✗", "red"), Verdict.ABSTAIN: ("?", "yellow")}
_OUTCOME_STYLES = {
    AttemptOutcome.ACCEPTED: "bold green",
    AttemptOutcome.REJECTED: "yellow",
    AttemptOutcome.EVIDENCE: "cyan",
    AttemptOutcome.SKIPPED: "dim",
    AttemptOutcome.CANCELLED: "dim",
}


def completion_view(completion: Completion) -> RenderableType:
    """The path an answer took and what it cost; not the answer itself."""
    rows = _labelled()
    rows.add_row("answered", _who(completion))
    rows.add_row("route", route_text(completion.routing))
    if completion.routing.classification is not None:
        rows.add_row("judged", _judged(completion.routing.classification))
    rows.add_row("cache", cache_text(completion.cache))
    rows.add_row("cost", _cost(completion))
    if completion.text.startswith(SANDBOX_BEGINS):
        rows.add_row("sandbox", Text(_NO_ANSWER, style="yellow"))
    parts: list[RenderableType] = [rows]
    if completion.attempts:
        parts += ["", Padding(_attempts(completion.attempts), (0, 0, 0, 1))]
    return Group(*parts)


def explanation_view(explanation: Explanation) -> RenderableType:
    """The plan for a request, and why."""
    routing = explanation.routing
    rows = _labelled()
    rows.add_row("route", route_text(routing))
    parts: list[RenderableType] = [rows]
    if routing.classification is not None:
        rows.add_row("judged", _judged(routing.classification))
        rows.add_row("because", Text(routing.classification.reason or "–"))
    rows.add_row("cache", cache_text(explanation.cache))
    if routing.plan is not None:
        parts += ["", Padding(plan_view(routing.plan), (0, 0, 0, 1))]
    if explanation.rules:
        parts += ["", Padding(rules_view(explanation.rules), (0, 0, 0, 1))]
    if routing.classification is not None and routing.classification.signals:
        parts += ["", Padding(_signals(routing.classification), (0, 0, 0, 1))]
    return Group(*parts)


def hops_view(completion: Completion) -> RenderableType:
    """How long each hop took: what is left to show without a trace."""
    rows = _labelled()
    for hop in completion.hops:
        rows.add_row(hop.hop, Text(ms(hop.latency_s)))
    return rows


def cache_text(cache: CacheOutcome) -> Text:
    """What the cache said, and why."""
    hit = cache.kind in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT}
    text = Text(cache.kind.value.replace("_", " "), style="bold green" if hit else "")
    if cache.age_s is not None and hit:
        text.append(f" · {cache.age_s:.0f} s old")
    if cache.reason:
        text.append(f" · {cache.reason}", style="dim")
    return text


def gate_marks(verdicts: tuple[GateVerdict, ...], *, reasons: bool = True) -> Text:
    """A mark and a name for each verdict; the reason too, when a gate did not pass."""
    text = Text()
    for number, verdict in enumerate(verdicts):
        mark, style = _MARKS[verdict.verdict]
        text.append(", " if number else "")
        text.append(f"{mark} {verdict.gate}", style=style)
        if reasons and verdict.reason and verdict.verdict is not Verdict.PASS:
            text.append(f" ({verdict.reason})", style="dim")
    return text


def saved_text(cost_nanousd: int, flagship_nanousd: int) -> Text:
    """The share saved, green when there is one."""
    ratio = saved(cost_nanousd, flagship_nanousd)
    return Text(percent(ratio, 0), style="" if ratio is None else "bold green" if ratio > 0 else "yellow")


def _labelled() -> Table:
    table = Table.grid(padding=(0, 2, 0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=LABEL_COLUMNS)
    table.add_column(overflow="fold")
    return table


def _who(completion: Completion) -> Text:
    text = Text(f"{completion.tier} · {completion.target}", style="bold")
    text.append(f" ({completion.model})", style="dim")
    text.append(" · accepted" if completion.accepted else " · not proven", "green" if completion.accepted else "yellow")
    usage = completion.usage
    text.append(f" · {completion.finish_reason.value} · {usage.input_tokens} in, {usage.output_tokens} out tokens")
    return text


def _judged(found: Classification) -> Text:
    simple, medium, hard = found.probabilities
    text = Text(f"{found.task_type.value}, {found.complexity.value}", style="bold")
    text.append(f" · confidence {found.confidence:.2f} · simple {simple:.2f}, medium {medium:.2f}, complex {hard:.2f}")
    if found.language:
        text.append(f" · in {found.language}")
    text.append(f" · by {found.layer.value}", style="dim")
    return text


def _cost(completion: Completion) -> Text:
    """A call that nobody counted and that a budget has booked at its bound is in it as what is estimated."""
    cost = completion.cost
    excess_nanousd = sum(attempt.cost_excess_nanousd for attempt in completion.attempts)
    cost_nanousd = cost.cost_nanousd - excess_nanousd
    text = Text(usd(cost_nanousd), style="bold")
    if cost.flagship_cost_nanousd:
        text.append(f" · {cost.flagship_target} alone about {usd(cost.flagship_cost_nanousd)} · saved ")
        text.append_text(saved_text(cost_nanousd, cost.flagship_cost_nanousd))
    if excess_nanousd:
        text.append(f" · at most {usd(excess_nanousd)} more, for calls that nobody counted", style="yellow")
    return text


def _attempts(attempts: tuple[Attempt, ...]) -> Table:
    table = titled_table("attempts")
    for name in ("tier", "target"):
        table.add_column(name, no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("gates", ratio=1, overflow="fold")
    for name in ("tokens", "cost", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for attempt in attempts:
        outcome = Text(attempt.outcome.value, style=_OUTCOME_STYLES.get(attempt.outcome, "red"))
        usage = attempt.usage
        table.add_row(
            Text(attempt.tier),
            Text(attempt.target),
            outcome,
            gate_marks(attempt.verdicts) if attempt.verdicts else Text(attempt.error_reason, style="red"),
            "–" if usage is None else f"{usage.input_tokens}+{usage.output_tokens}",
            usd(attempt.cost_nanousd),
            ms(attempt.latency_s),
        )
    return table


def _signals(found: Classification) -> Table:
    table = titled_table("signals, strongest first")
    for name in ("signal", "value", "towards complex", "evidence"):
        table.add_column(name, overflow="fold")
    for signal in found.signals[:SIGNALS_SHOWN_MAX]:
        style = "yellow" if signal.contribution > 0 else "green"
        contribution = Text(f"{signal.contribution:+.2f}", style=style)
        table.add_row(Text(signal.name), f"{signal.value:.2f}", contribution, Text(signal.evidence, style="dim"))
    return table
