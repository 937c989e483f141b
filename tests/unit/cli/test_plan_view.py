"""What a plan looks like to a person: the gates and thresholds that a request would meet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from spillway.cli.plan_view import gate_text, plan_view, route_text, rules_view
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
    Strategy,
    StreamPrefix,
)


def shown(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(view)
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize(
    ("gate", "asked", "text"),
    [
        (SelfConfidenceSpec(4), None, "self_confidence ≥ 4 of 5"),
        (AgreementSpec(), None, "agreement with the tier's next target or a second sample"),
        (AgreementSpec("a2", Normalizer.NUMBER), None, "agreement with a2, as number"),
        (AgreementSpec("a2", further_targets=("b1",)), None, "agreement with 2 of a2, b1"),
        (AgreementSpec("a2", further_targets=("b1",), agreeing_min=1), None, "agreement with 1 of a2, b1"),
        (
            AgreementSpec("a2", further_targets=("b1",), agreeing_min=1, in_turn=True),
            None,
            "agreement with 1 of a2, b1, asked in turn",
        ),
        (
            AgreementSpec(agreeing_min=1, count_earlier=True),
            None,
            "agreement with 1 of the tier's next target if there is one, what earlier tiers said",
        ),
        (AgreementSpec("a2", count_earlier=True), None, "agreement with all of a2, what earlier tiers said"),
        (
            RulesSpec(chars_min=5, require_citation=True, language="de"),
            None,
            "rules: ≥ 5 characters, a citation, in de",
        ),
        (RulesSpec(must_match=("SECRET",)), None, "rules: must match 1 pattern"),
        (RulesSpec(must_not_match=("A", "B"), number_max=9), None, "rules: must not match 2 patterns, number ≤ 9"),
        (SelfEvaluationSpec(), None, "self_evaluation by the target that answered ≥ 0.7"),
        (SelfEvaluationSpec("b1"), 0.9, "self_evaluation by b1 ≥ 0.9"),
        (JudgeSpec("c1", 0.8, "SECRET"), None, "judge c1 ≥ 0.8, its own rubric"),
        (LogprobSpec(mean_min=-0.5, span_mean_min=-1), None, "logprob: mean ≥ -0.5, mean of the final answer ≥ -1"),
        (LogprobSpec(), None, "logprob: for the record"),
        (CompositeSpec(0.6), 0.9, "composite: P(acceptable) ≥ 0.6"),
        (CompositeSpec(None, 5_000_000), 0.9, "composite: P(acceptable) ≥ 0.9"),
        (CompositeSpec(), None, "composite: P(acceptable) ≥ the executor's least confidence"),
        (
            CompositeSpec(None, 2_000_000_000),
            None,
            "composite: P(acceptable) ≥ what pays when a wrong answer costs $2.00",
        ),
    ],
)
def test_a_gate_says_what_it_asks_for(gate: GateSpec, asked: float | None, text: str) -> None:
    assert gate_text(gate, asked) == text


def test_a_plan_shows_limits_streams_and_the_way_out() -> None:
    plan = Plan(
        (
            PlannedTier("simple", ("a1", "a2"), (SelfConfidenceSpec(),), 5.0, escape_valve=True),
            PlannedTier("medium", ("b1",), (JudgeSpec("c1"),), 20.0, stream_prefix=StreamPrefix(64, 2.0)),
            PlannedTier("complex", ("c1",), (), 60.0, escape_valve=True),
        ),
        Strategy.HEDGED,
        1,
        10_000_000,
        0.9,
    )
    text = shown(plan_view(plan))
    assert "plan: hedged, at most 1 escalations, at most $0.0100, confidence ≥ 0.9" in text
    assert text.count("an answer at all") == 3
    assert text.count("escape valve") == 1  # from the last tier nothing can follow
    for piece in ("when accepted", "after 64 tokens or 2.0 s", "as it is written", "at most 5.0 s", "judge c1 ≥ 0.9"):
        assert piece in text


def test_a_route_says_its_step_its_rule_its_arm_why_and_by_which_configuration() -> None:
    routing = RoutingDecision(
        policy_step="rollout",
        reason="outside the share that is routed: the baseline mid-1 answers, as before",
        rule="office-hours",
        degraded=("classifier",),
        arm="baseline",
        config_version="0123456789ab",
    )
    assert route_text(routing).plain == (
        "rollout office-hours · baseline arm · outside the share that is routed: the baseline mid-1 answers, as before"
        " · without classifier · config 0123456789ab"
    )
    assert route_text(RoutingDecision()).plain == "–"
    assert route_text(RoutingDecision(reason="answered from the cache")).plain == "answered from the cache"


def test_rules_are_shown_in_the_order_in_which_they_were_tried() -> None:
    trials = [RuleTrial("[vip]", False, "user_tier: not one of those named"), RuleTrial("night", True)]
    text = shown(rules_view(trials))
    assert text.index("[vip] ✗ user_tier: not one of those named") < text.index("night ✓")
