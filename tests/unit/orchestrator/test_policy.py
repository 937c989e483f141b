"""The routing policy as a table: which request goes where, and why."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.orchestrator.policy.opening import NoEligibleTargetError
from services.orchestrator.policy.policy import Policy
from spillway.routing import AgreementSpec, Classification, Complexity, Normalizer, Strategy, TaskType
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier
from tests.unit.orchestrator.policies import POLICY

SIMPLE, MEDIUM, COMPLEX = Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX

TABLE: list[tuple[str, dict[str, Any], Classification | None, str, str, list[str]]] = [
    (
        "a pin overrides a rule",
        {"pinned_target": "medium-1", "user_tier": "vip"},
        None,
        "pinned",
        "vip",
        ["medium"],
    ),
    ("a bypass goes straight to the top", {"endpoint": "pay/card"}, None, "bypass", "", ["complex"]),
    (
        "without a star all of the name counts",
        {"endpoint": "alarm/x"},
        judged(),
        "complexity",
        "",
        ["simple", "medium", "complex"],
    ),
    ("a pin beats a bypass", {"endpoint": "alarm", "pinned_target": "simple-1"}, None, "pinned", "", ["simple"]),
    ("a rule's start tier beats complexity", {"user_tier": "vip"}, None, "rule", "vip", ["complex"]),
    ("a judged rule", {}, judged(task_type=TaskType.MATH), "rule", "maths", ["medium"]),
    ("a rule that only limits", {"user_tier": "free"}, judged(), "complexity", "free", ["simple", "medium"]),
    ("a ceiling holds the start down", {"user_tier": "free"}, judged(COMPLEX), "complexity", "free", ["medium"]),
    ("simple starts at the bottom", {}, judged(SIMPLE), "complexity", "", ["simple", "medium", "complex"]),
    ("medium starts in the middle", {}, judged(MEDIUM), "complexity", "", ["medium", "complex"]),
    ("complex starts at the top", {}, judged(COMPLEX), "complexity", "", ["complex"]),
    ("unsure of simple", {}, judged(SIMPLE, 0.74), "confidence_bump", "", ["medium", "complex"]),
    ("just sure of simple", {}, judged(SIMPLE, 0.75), "complexity", "", ["simple", "medium", "complex"]),
    ("unsure of medium", {}, judged(MEDIUM, 0.79), "confidence_bump", "", ["complex"]),
    ("just sure of medium", {}, judged(MEDIUM, 0.80), "complexity", "", ["medium", "complex"]),
    ("unsure of complex is complex", {}, judged(COMPLEX, 0.4), "complexity", "", ["complex"]),
    ("a bump stops at the ceiling", {"tier_ceiling": "simple"}, judged(SIMPLE, 0.4), "complexity", "", ["simple"]),
    (
        "no bump below the floor",
        {"tier_floor": "complex"},
        judged(SIMPLE, 0.4),
        "complexity",
        "",
        ["complex"],
    ),
    ("a floor lifts the start", {"tier_floor": "medium"}, judged(), "complexity", "", ["medium", "complex"]),
    ("a ceiling ends the plan", {"tier_ceiling": "medium"}, judged(), "complexity", "", ["simple", "medium"]),
    ("direct is one tier", {"strategy": Strategy.DIRECT}, judged(MEDIUM), "complexity", "", ["medium"]),
    ("a bypass respects a ceiling", {"endpoint": "alarm", "tier_ceiling": "medium"}, None, "bypass", "", ["medium"]),
]


@pytest.mark.parametrize(
    ("fields", "judgement", "step", "rule", "tiers"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_policy_table(
    fields: dict[str, Any], judgement: Classification | None, step: str, rule: str, tiers: list[str]
) -> None:
    routed = Policy(settings_of(policy=POLICY)).decide(request_of(**fields), judgement)
    assert routed.decision.policy_step == step
    assert routed.decision.rule == rule
    assert routed.decision.plan is not None
    assert [each.name for each in routed.decision.plan.tiers] == tiers
    assert routed.decision.reason
    assert routed.decision.classification is judgement


# One file, two ladders: code climbs by "second", everything else by "first".
BY_TASK = {
    "start_tier": {"medium": "first", "complex": "second"},
    "rules": [{"name": "code", "when": {"task_type": ["code"]}, "then": {"tiers": ["low", "second", "top"]}}],
}
CHOICES: list[tuple[str, dict[str, Any], Classification, list[str], str]] = [
    ("chosen tiers", {}, judged(SIMPLE, task_type=TaskType.CODE), ["low", "second", "top"], "low, second, top take"),
    ("another task", {}, judged(SIMPLE), ["low", "first", "second", "top"], ""),
    ("a start moves up", {}, judged(MEDIUM, task_type=TaskType.CODE), ["second", "top"], "moves it to second"),
    ("a start that takes part", {}, judged(COMPLEX, task_type=TaskType.CODE), ["second", "top"], ""),
    ("a bump is to the next", {}, judged(SIMPLE, 0.5, TaskType.CODE), ["second", "top"], "one tier up, at second"),
    ("a bump from a moved start", {}, judged(MEDIUM, 0.5, TaskType.CODE), ["top"], "one tier up, at top"),
    ("a floor moves up", {"tier_floor": "first"}, judged(SIMPLE, task_type=TaskType.CODE), ["second", "top"], "floor"),
    ("a ceiling moves down", {"tier_ceiling": "first"}, judged(SIMPLE, task_type=TaskType.CODE), ["low"], "low"),
    (
        "a ceiling holds a moved start",
        {"tier_ceiling": "first"},
        judged(MEDIUM, task_type=TaskType.CODE),
        ["low"],
        "which moves it to second; the tier ceiling moves it to low",
    ),
]


@pytest.mark.parametrize(
    ("fields", "judgement", "tiers", "said"), [row[1:] for row in CHOICES], ids=[row[0] for row in CHOICES]
)
def test_a_rule_chooses_the_tiers_that_take_part(
    fields: dict[str, Any], judgement: Classification, tiers: list[str], said: str
) -> None:
    names = [tier("low"), tier("first"), tier("second"), tier("top")]
    routed = Policy(settings_of(*names, policy=BY_TASK)).decide(request_of(**fields), judgement)
    assert routed.decision.plan is not None
    assert [each.name for each in routed.decision.plan.tiers] == tiers
    assert said in routed.decision.reason


def test_a_choice_of_tiers_is_no_limit_for_a_pin_or_the_cache() -> None:
    names = [tier("low"), tier("first"), tier("second"), tier("top")]
    policy = Policy(settings_of(*names, policy=BY_TASK))
    code = judged(task_type=TaskType.CODE)
    assert not policy.open(request_of()).judge_first
    assert not policy.open(request_of(), code).objection("first", "first-1", None)
    pinned = request_of(pinned_target="first-1")
    assert not policy.open(pinned).needs_judgement
    decision = policy.decide(pinned, code).decision
    assert decision.plan is not None
    assert [each.targets for each in decision.plan.tiers] == [("first-1",)]
    assert "take part" not in decision.reason
    both = request_of(pinned_target="first-1", tier_floor="first", tier_ceiling="first")
    assert policy.decide(both, code).decision.policy_step == "pinned"


def test_a_ladder_without_a_tier_between_the_bounds_is_refused() -> None:
    names = [tier("low"), tier("first"), tier("second"), tier("top")]
    policy, code = Policy(settings_of(*names, policy=BY_TASK)), judged(task_type=TaskType.CODE)
    with pytest.raises(NoEligibleTargetError) as refused:
        policy.open(request_of(tier_floor="first", tier_ceiling="first"), code)
    assert refused.value.public == "no tier that may take part lies between the tier floor and the tier ceiling"


@pytest.mark.parametrize(
    ("fields", "public"),
    [
        ({"tier_floor": "complex", "tier_ceiling": "simple"}, "the tier floor is above the tier ceiling"),
        ({"tier_floor": "galactic"}, "there is no tier of the name that was given; there are simple, medium, complex"),
        (
            {"tier_ceiling": "galactic"},
            "there is no tier of the name that was given; there are simple, medium, complex",
        ),
        (
            {"pinned_target": "galactic"},
            "there is no target of the name that was given; there are simple-1, medium-1, complex-1",
        ),
        (
            {"pinned_target": "complex-1", "user_tier": "free"},
            "the target that was named is outside the tier floor and ceiling",
        ),
        ({"tier_floor": "complex", "user_tier": "free"}, "the tier floor is above the tier ceiling"),
    ],
)
def test_a_request_that_leaves_no_target_is_refused(fields: dict[str, Any], public: str) -> None:
    with pytest.raises(NoEligibleTargetError) as refused:
        Policy(settings_of(policy=POLICY)).open(request_of(**fields), judged())
    assert refused.value.public == public


def test_the_trials_name_each_rule_up_to_the_one_that_matched() -> None:
    routed = Policy(settings_of(policy=POLICY)).decide(request_of(tags=("private",)), judged())
    assert [(t.rule, t.matched) for t in routed.trials] == [("vip", False), ("maths", False), ("private", True)]
    assert routed.trials[0].reason == "user_tier: not one of those named"
    assert routed.trials[1].reason == "task_type: factual_qa is not one of those named"
    assert routed.trials[2].reason == ""


def test_a_bypassed_request_tries_no_rule() -> None:
    routed = Policy(settings_of(policy=POLICY)).decide(request_of(endpoint="alarm", user_tier="vip"))
    assert routed.trials == ()


def test_the_requests_strategy_beats_the_rules_and_the_rules_beats_the_configured_one() -> None:
    rules = [{"name": "r", "when": {}, "then": {"strategy": "direct"}}]
    ruled = Policy(settings_of(policy={"rules": rules}))
    plan = ruled.decide(request_of(), judged()).decision.plan
    assert plan is not None
    assert (plan.strategy, len(plan.tiers)) == (Strategy.DIRECT, 1)
    plan = ruled.decide(request_of(strategy=Strategy.CHEAP_FIRST), judged()).decision.plan
    assert plan is not None
    assert (plan.strategy, len(plan.tiers)) == (Strategy.CHEAP_FIRST, 3)


@pytest.mark.parametrize("strategy", [Strategy.RACE, Strategy.HEDGED, Strategy.WATERFALL])
def test_a_request_may_ask_for_any_strategy(strategy: Strategy) -> None:
    plan = Policy(settings_of()).decide(request_of(strategy=strategy), judged()).decision.plan
    assert plan is not None
    assert (plan.strategy, len(plan.tiers)) == (strategy, 3)


def test_a_waterfall_is_never_configured() -> None:
    waterfall = {"name": "r", "when": {}, "then": {"strategy": "waterfall"}}
    for policy in ({"strategy": "waterfall"}, {"rules": [waterfall]}):
        with pytest.raises(ValidationError, match="strategy"):
            settings_of(policy=policy)


def test_the_requests_budgets_travel_in_the_plan() -> None:
    policy = Policy(settings_of(policy={"escalations_max": 1}))
    plan = policy.decide(request_of(), judged()).decision.plan
    assert plan is not None
    assert (plan.escalations_max, plan.cost_nanousd_max, plan.confidence_min) == (1, None, None)
    asked = request_of(escalations_max=0, cost_nanousd_max=5, confidence_min=0.9)
    plan = policy.decide(asked, judged()).decision.plan
    assert plan is not None
    assert (plan.escalations_max, plan.cost_nanousd_max, plan.confidence_min) == (0, 5, 0.9)


def test_everything_an_agreement_gate_says_reaches_the_plan() -> None:
    gate = {
        "kind": "agreement",
        "second_target": "b",
        "normalizer": "number",
        "further_targets": ["c"],
        "agreeing_min": 1,
        "in_turn": True,
        "count_earlier": True,
    }
    only = tier("only", target("a"), target("b"), target("c"), gates=[gate])
    plan = Policy(settings_of(only)).decide(request_of(), judged()).decision.plan
    assert plan is not None
    assert plan.tiers[0].gates == (AgreementSpec("b", Normalizer.NUMBER, ("c",), 1, in_turn=True, count_earlier=True),)
