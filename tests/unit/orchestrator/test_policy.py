"""The routing policy as a table: which request goes where, and why."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.orchestrator.policy.opening import NoEligibleTargetError
from services.orchestrator.policy.policy import Policy
from services.orchestrator.policy.rungs import estimated_tokens
from spillway.chat import ChatRequest, GenerationParams, ImagePart, Message, Role, TextPart, ToolDefinition
from spillway.routing import AgreementSpec, CacheMode, Classification, Complexity, Normalizer, Strategy, TaskType
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier

SIMPLE, MEDIUM, COMPLEX = Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX

VIP = {"name": "vip", "when": {"user_tier": ["vip"]}, "then": {"start_tier": "complex"}}
MATHS = {"name": "maths", "when": {"task_type": ["math"]}, "then": {"target": "medium-1"}}
PRIVATE = {"name": "private", "when": {"tags": ["private"]}, "then": {"cache_mode": "bypass"}}
FREE = {"name": "free", "when": {"user_tier": ["free"]}, "then": {"tier_ceiling": "medium"}}
POLICY = {"bypass_endpoints": ["pay/*", "alarm"], "rules": [VIP, MATHS, PRIVATE, FREE]}

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
        ({"tier_floor": "galactic"}, "there is no tier of the name that was given"),
        ({"tier_ceiling": "galactic"}, "there is no tier of the name that was given"),
        ({"pinned_target": "galactic"}, "there is no target of the name that was given"),
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


@pytest.mark.parametrize(
    ("asked", "ruled", "enabled", "mode"),
    [
        (None, None, True, CacheMode.USE),
        (CacheMode.REFRESH, None, True, CacheMode.REFRESH),
        (CacheMode.USE, "bypass", True, CacheMode.BYPASS),
        (CacheMode.BYPASS, "use", True, CacheMode.BYPASS),
        (CacheMode.REFRESH, "use", True, CacheMode.REFRESH),
        (CacheMode.USE, None, False, CacheMode.BYPASS),
    ],
)
def test_of_two_cache_modes_the_stricter_holds(
    asked: CacheMode | None, ruled: str | None, enabled: bool, mode: CacheMode
) -> None:
    rules = [{"name": "r", "when": {}, "then": {"cache_mode": ruled}}] if ruled else []
    policy = Policy(settings_of(policy={"rules": rules}, cache={"enabled": enabled}))
    assert policy.open(request_of(cache_mode=asked)).cache_mode is mode


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


def test_an_answer_from_the_cache_must_be_one_that_the_route_allows() -> None:
    policy = Policy(settings_of(policy=POLICY))
    plain = policy.open(request_of())
    assert not plain.objection("simple", "simple-1", None)
    assert not plain.objection("retired", "retired-1", None)
    floored = policy.open(request_of(tier_floor="medium"))
    assert floored.objection("simple", "simple-1", None)
    assert floored.objection("retired", "retired-1", None)
    assert not floored.objection("complex", "complex-1", None)
    assert policy.open(request_of(tier_ceiling="medium")).objection("complex", "complex-1", None)
    assert policy.open(request_of(pinned_target="medium-1")).objection("medium", "medium-2", None)
    assert policy.open(request_of(endpoint="alarm")).objection("medium", "medium-1", None)


@pytest.mark.parametrize(
    ("asked", "score", "served"),
    [
        (None, None, True),
        (None, 0.1, True),
        (0.0, None, True),
        (0.9, 0.9, True),
        (0.9, 0.89, False),
        (0.9, None, False),
    ],
)
def test_an_answer_from_the_cache_must_have_the_score_that_is_asked_for(
    asked: float | None, score: float | None, served: bool
) -> None:
    opening = Policy(settings_of(policy=POLICY)).open(request_of(confidence_min=asked))
    objection = opening.objection("simple", "simple-1", score)
    assert (objection == "") is served
    assert served or "asks for 0.9" in objection


def test_a_judged_rule_that_may_limit_the_cache_asks_for_the_judgement_first() -> None:
    hard = {"name": "hard", "when": {"complexity": ["complex"]}, "then": {"start_tier": "complex"}}
    assert not Policy(settings_of(policy={"rules": [hard]})).open(request_of()).judge_first
    policy = Policy(settings_of(policy={"rules": [hard, PRIVATE]}))
    assert not policy.open(request_of()).judge_first
    private = policy.open(request_of(tags=("private",)))
    assert private.judge_first
    assert private.needs_judgement
    assert Policy(settings_of(policy={"rules": [MATHS]})).open(request_of()).judge_first


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, True),
        ({"pinned_target": "simple-1"}, False),
        ({"endpoint": "alarm"}, False),
        ({"user_tier": "vip"}, False),
        ({"user_tier": "free"}, True),
    ],
)
def test_a_judgement_is_needed_only_where_it_decides(fields: dict[str, Any], needed: bool) -> None:
    policy = {"bypass_endpoints": ["alarm"], "rules": [VIP, FREE]}
    assert Policy(settings_of(policy=policy)).open(request_of(**fields)).needs_judgement is needed


def test_deciding_without_the_judgement_that_is_needed_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="needs a judgement"):
        Policy(settings_of()).decide(request_of())


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
