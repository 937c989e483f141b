"""At which tier a plan starts, and what moves it: configured tiers, what is likely to suffice, room for the input."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.policy.opening import NoEligibleTargetError
from services.orchestrator.policy.policy import Policy
from services.orchestrator.policy.rungs import estimated_tokens
from spillway.chat import ChatRequest, GenerationParams, ImagePart, Message, Role, TextPart, ToolDefinition
from spillway.routing import AgreementSpec, Classification, Complexity
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier
from tests.unit.orchestrator.policies import VIP

MEDIUM, COMPLEX = Complexity.MEDIUM, Complexity.COMPLEX


@pytest.mark.parametrize(
    ("names", "starts"),
    [
        (["only"], ["only", "only", "only"]),
        (["cheap", "dear"], ["cheap", "cheap", "dear"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        (["a", "b", "c", "d"], ["a", "b", "d"]),
        (["tiny", "simple", "complex"], ["simple", "simple", "complex"]),
    ],
)
def test_a_complexity_starts_at_the_tier_of_its_name_or_at_the_nearest(names: list[str], starts: list[str]) -> None:
    policy = Policy(settings_of(*(tier(name) for name in names)))
    for complexity, start in zip(Complexity, starts, strict=True):
        plan = policy.decide(request_of(), judged(complexity)).decision.plan
        assert plan is not None
        assert plan.tiers[0].name == start


def test_a_configured_start_tier_wins_over_the_name() -> None:
    policy = Policy(settings_of(policy={"start_tier": {"complex": "simple"}}))
    plan = policy.decide(request_of(), judged(COMPLEX)).decision.plan
    assert plan is not None
    assert plan.tiers[0].name == "simple"


LIKELY = {"simple": 0.7, "medium": 0.9, "complex": 1.0}
SUFFICIENT: list[tuple[str, float, dict[str, Any], Classification, str, list[str], str]] = [
    ("the cheapest", 0.7, {}, judged(COMPLEX, suffices=LIKELY), "sufficiency", ["simple", "medium", "complex"], "0.70"),
    ("the next", 0.71, {}, judged(suffices=LIKELY), "sufficiency", ["medium", "complex"], "P(medium suffices) is 0.90"),
    ("no bump", 0.9, {}, judged(MEDIUM, 0.4, suffices=LIKELY), "sufficiency", ["medium", "complex"], "at least 0.90"),
    ("nothing is certain", 1.0, {}, judged(suffices=LIKELY), "sufficiency", ["complex"], "tier complex"),
    (
        "the last when none does",
        0.9,
        {},
        judged(suffices={"simple": 0.1, "medium": 0.2, "complex": 0.8}),
        "sufficiency",
        ["complex"],
        "no tier has P(suffices) of at least 0.90: starts at the last, complex (0.80)",
    ),
    (
        "what nobody vouches for",
        0.5,
        {},
        judged(suffices={"retired": 0.9, "complex": 1.0}),
        "sufficiency",
        ["complex"],
        "P(complex suffices)",
    ),
    ("a floor", 0.5, {"tier_floor": "medium"}, judged(suffices=LIKELY), "sufficiency", ["medium", "complex"], "floor"),
    ("a ceiling", 0.99, {"tier_ceiling": "medium"}, judged(suffices=LIKELY), "sufficiency", ["medium"], "ceiling"),
    ("a rule goes first", 0.5, {"user_tier": "vip"}, judged(suffices=LIKELY), "rule", ["complex"], "rule vip"),
    ("a choice of tiers", 0.5, {"tags": ("dear",)}, judged(suffices=LIKELY), "sufficiency", ["medium", "complex"], ""),
    (
        "no such probability",
        0.5,
        {},
        judged(MEDIUM),
        "complexity",
        ["medium", "complex"],
        "without a P(tier suffices): complexity medium with confidence 0.95 starts at tier medium",
    ),
    ("none, and unsure", 0.5, {}, judged(MEDIUM, 0.4), "confidence_bump", ["complex"], "without a P(tier suffices)"),
    (
        "of strangers alone",
        0.5,
        {},
        judged(suffices={"retired": 1.0}),
        "complexity",
        ["simple", "medium", "complex"],
        "without a P(tier suffices)",
    ),
]


@pytest.mark.parametrize(
    ("least", "fields", "judgement", "step", "tiers", "said"),
    [row[1:] for row in SUFFICIENT],
    ids=[row[0] for row in SUFFICIENT],
)
def test_a_plan_starts_at_the_cheapest_tier_that_is_likely_enough_to_suffice(
    least: float, fields: dict[str, Any], judgement: Classification, step: str, tiers: list[str], said: str
) -> None:
    dear = {"name": "dear", "when": {"tags": ["dear"]}, "then": {"tiers": ["medium", "complex"]}}
    policy = Policy(settings_of(policy={"sufficiency_min": least, "rules": [VIP, dear]}))
    decision = policy.decide(request_of(**fields), judgement).decision
    assert decision.policy_step == step
    assert decision.plan is not None
    assert [each.name for each in decision.plan.tiers] == tiers
    assert said in decision.reason


def test_without_a_configured_least_the_complexity_decides_whatever_suffices() -> None:
    decision = Policy(settings_of()).decide(request_of(), judged(COMPLEX, suffices=LIKELY)).decision
    assert (decision.policy_step, decision.reason) == (
        "complexity",
        "complexity complex with confidence 0.95 starts at tier complex",
    )


def test_targets_without_room_for_the_input_are_left_out_with_their_second_opinions() -> None:
    gates = [{"kind": "agreement", "second_target": "small"}]
    policy = Policy(settings_of(tier("simple", target("big"), target("small", window=256), gates=gates)))
    short = policy.decide(request_of(), judged()).decision.plan
    long = policy.decide(request_of("x" * 1_000), judged()).decision.plan
    assert short is not None
    assert long is not None
    assert (short.tiers[0].targets, short.tiers[0].gates) == (("big", "small"), (AgreementSpec("small"),))
    assert (long.tiers[0].targets, long.tiers[0].gates) == (("big",), (AgreementSpec(""),))


def test_a_tier_without_room_is_passed_over_upwards_then_downwards_but_never_below_the_floor() -> None:
    policy = Policy(settings_of(tier("simple"), tier("medium"), tier("complex", target("c", window=256))))
    long = "x" * 1_000
    routed = policy.decide(request_of(long), judged(COMPLEX))
    assert routed.decision.plan is not None
    assert [each.name for each in routed.decision.plan.tiers] == ["medium"]
    assert "has room" in routed.decision.reason
    with pytest.raises(NoEligibleTargetError, match="context window"):
        policy.decide(request_of(long, tier_floor="complex"), judged(COMPLEX))


def test_tokens_are_estimated_from_everything_that_is_sent() -> None:
    text = Message(Role.USER, (TextPart("x" * 9), ImagePart(url="https://example.org/a.png")))
    chat = ChatRequest((text,), GenerationParams(max_output_tokens=50), (ToolDefinition("t", "d" * 6, "s" * 3),))
    assert estimated_tokens(chat) == 6 + 1_000 + 50
