"""A decision as a person reads it: which step of the policy made it, in which arm of the rollout, and why; the rules
that were tried; and the plan: for every tier whom it asks, what an answer must pass, how it streams, what bounds it.

Promises: pure; values in, rich renderables out. Patterns and rubrics are counted, not shown: they may be long, and are
the operator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from spillway.cli.terminal import ms, titled_table, usd
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    JudgeSpec,
    LogprobSpec,
    Normalizer,
    Plan,
    PlannedTier,
    RoutingDecision,
    RulesSpec,
    RuleTrial,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
)

__all__ = ["gate_text", "plan_view", "route_text", "rules_view"]

_ALWAYS: Final = "an answer at all, in the form asked for"


def route_text(routing: RoutingDecision) -> Text:
    """The step that decided, the rule that matched, the arm, why, what had to be done without, and by which file."""
    parts = [Text(routing.policy_step, style="bold")]
    if routing.rule:
        parts[0].append(f" {routing.rule}", style="cyan")
    if routing.arm:
        parts.append(Text(f"{routing.arm} arm", style="magenta"))
    parts.append(Text(routing.reason))
    if routing.degraded:
        parts.append(Text(f"without {', '.join(routing.degraded)}", style="yellow"))
    if routing.config_version:
        parts.append(Text(f"config {routing.config_version}", style="dim"))
    return Text(" · ").join(part for part in parts if part) or Text("–")


def rules_view(rules: Sequence[RuleTrial]) -> Table:
    """The rules in the order in which they were tried; after one that matched none is."""
    table = titled_table("rules tried, in order")
    for name in ("rule", "matched", "first condition that did not hold"):
        table.add_column(name, overflow="fold")
    for trial in rules:
        matched = Text("✓", style="green") if trial.matched else Text("✗", style="dim")
        table.add_row(Text(trial.rule), matched, Text(trial.reason, style="dim"))
    return table


def plan_view(plan: Plan) -> Table:
    """The plan as a table, its limits in the title."""
    table = titled_table(f"plan: {plan.strategy.value}, {', '.join(_limits(plan))}")
    table.add_column("tier", no_wrap=True)
    table.add_column("targets", overflow="fold")
    table.add_column("gates", overflow="fold", ratio=1)
    table.add_column("streams", overflow="fold")
    table.add_column("time", no_wrap=True)
    for tier in plan.tiers:
        is_last = tier is plan.tiers[-1]
        table.add_row(
            Text(tier.name),
            Text(", ".join(tier.targets)),
            Text("\n".join(_gates(tier, plan, is_last=is_last))),
            Text(_streams(tier, is_last=is_last)),
            f"at most {ms(tier.attempt_timeout_s)}",
        )
    return table


def gate_text(gate: GateSpec, confidence_min: float | None) -> str:
    """A gate and its threshold, in words. `confidence_min` is the request's own least confidence."""
    match gate:
        case SelfConfidenceSpec():
            return f"self_confidence ≥ {gate.threshold} of 5"
        case AgreementSpec():
            return _agreement(gate)
        case RulesSpec():
            return f"rules: {', '.join(_rules(gate)) or 'none'}"
        case SelfEvaluationSpec():
            by = gate.target or "the target that answered"
            return f"self_evaluation by {by} ≥ {max(gate.score_min, confidence_min or 0):g}"
        case LogprobSpec():
            return f"logprob: {', '.join(_logprob(gate)) or 'for the record'}"
        case JudgeSpec():
            rubric = "its own rubric" if gate.rubric else "the general rubric"
            return f"judge {gate.target} ≥ {max(gate.score_min, confidence_min or 0):g}, {rubric}"
        case CompositeSpec():
            return f"composite: P(acceptable) ≥ {_threshold(gate, confidence_min)}"


def _limits(plan: Plan) -> list[str]:
    limits = [f"at most {plan.escalations_max} escalations"]
    if plan.cost_nanousd_max is not None:
        limits.append(f"at most {usd(plan.cost_nanousd_max)}")
    if plan.confidence_min is not None:
        limits.append(f"confidence ≥ {plan.confidence_min:g}")
    return limits


def _gates(tier: PlannedTier, plan: Plan, *, is_last: bool) -> list[str]:
    lines = [_ALWAYS, *(gate_text(gate, plan.confidence_min) for gate in tier.gates)]
    if tier.escape_valve and not is_last:
        lines.append("escape valve: the model may ask to escalate")
    return lines


def _streams(tier: PlannedTier, *, is_last: bool) -> str:
    prefix = tier.stream_prefix
    if prefix is not None:
        return f"after {prefix.tokens} tokens or {ms(prefix.wait_s)}"
    return "as it is written" if is_last and not tier.gates else "when accepted"


def _agreement(gate: AgreementSpec) -> str:
    other = "if there is one" if gate.count_earlier else "or a second sample"
    first = gate.second_target or f"the tier's next target {other}"
    asked = [first, *gate.further_targets]
    needed = min(gate.agreeing_min, len(asked)) or len(asked)
    count = "" if len(asked) == 1 else f"{needed} of "
    if gate.count_earlier:
        asked.append("what earlier tiers said")
        count = f"{gate.agreeing_min or 'all'} of "
    turns = ", asked in turn" if gate.in_turn else ""
    form = "" if gate.normalizer is Normalizer.AUTO else f", as {gate.normalizer.value}"
    return f"agreement with {count}{', '.join(asked)}{turns}{form}"


def _rules(gate: RulesSpec) -> list[str]:
    found = []
    if gate.chars_min:
        found.append(f"≥ {gate.chars_min} characters")
    if gate.chars_max:
        found.append(f"≤ {gate.chars_max} characters")
    for name, patterns in (("must match", gate.must_match), ("must not match", gate.must_not_match)):
        if patterns:
            found.append(f"{name} {len(patterns)} pattern{'s' if len(patterns) > 1 else ''}")
    if gate.require_code_block:
        found.append("a code block")
    if gate.require_citation:
        found.append("a citation")
    if gate.language:
        found.append(f"in {gate.language}")
    if gate.number_min is not None:
        found.append(f"number ≥ {gate.number_min:g}")
    if gate.number_max is not None:
        found.append(f"number ≤ {gate.number_max:g}")
    return found


def _logprob(gate: LogprobSpec) -> list[str]:
    bounds = (("mean", gate.mean_min), ("least", gate.least_min), ("mean of the final answer", gate.span_mean_min))
    return [f"{name} ≥ {least:g}" for name, least in bounds if least is not None]


def _threshold(gate: CompositeSpec, confidence_min: float | None) -> str:
    if gate.threshold is not None:
        return f"{gate.threshold:g}"
    if confidence_min is not None:
        return f"{confidence_min:g}"
    if gate.wrong_answer_cost_nanousd is not None:
        return f"what pays when a wrong answer costs {usd(gate.wrong_answer_cost_nanousd)}"
    return "the executor's least confidence"
