"""New users, specialists, the cost-aware choice, and a rule's own gates: where each leads, and when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.policy.policy import Policy
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.policy.quality import QualityTable
from spillway.routing import (
    AgreementSpec,
    Classification,
    CompletionRequest,
    Complexity,
    MeasuredQuality,
    RoutingDecision,
    SelfConfidenceSpec,
    Strategy,
    TaskType,
)
from spillway.settings import Settings
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier

SIMPLE, MEDIUM, COMPLEX = Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX


def decided(
    settings: Settings,
    request: CompletionRequest | None = None,
    judgement: Classification | None = None,
    state: PolicyState | None = None,
) -> RoutingDecision:
    decision = Policy(settings).decide(request or request_of(), judgement or judged(), state or PolicyState()).decision
    assert decision.reason
    return decision


def tiers_of(decision: RoutingDecision) -> list[str]:
    assert decision.plan is not None
    return [each.name for each in decision.plan.tiers]


def first_targets(decision: RoutingDecision) -> tuple[str, ...]:
    assert decision.plan is not None
    return decision.plan.tiers[0].targets


# New users.


@pytest.mark.parametrize(
    ("before", "step", "tiers"),
    [(0, "new_user", ["complex"]), (9, "new_user", ["complex"]), (10, "complexity", ["simple", "medium", "complex"])],
)
def test_a_users_first_messages_get_the_strongest_tier(before: int, step: str, tiers: list[str]) -> None:
    decision = decided(settings_of(), request_of(end_user="ann"), state=PolicyState(user_messages=before))
    assert (decision.policy_step, tiers_of(decision)) == (step, tiers)


@pytest.mark.parametrize(
    ("fields", "policy", "messages"),
    [
        ({"end_user": "ann"}, {}, None),
        ({"end_user": "ann"}, {"new_users": {"messages": 0}}, 0),
        ({}, {}, 0),
    ],
)
def test_who_is_not_known_to_be_new_is_not(
    fields: dict[str, Any], policy: dict[str, Any], messages: int | None
) -> None:
    decision = decided(settings_of(policy=policy), request_of(**fields), state=PolicyState(user_messages=messages))
    assert decision.policy_step == "complexity"


NEW = PolicyState(user_messages=0)


@pytest.mark.parametrize(
    ("fields", "step"),
    [({"pinned_target": "simple-1"}, "pinned"), ({"endpoint": "alarm"}, "bypass"), ({"tags": ("a",)}, "rule")],
)
def test_what_is_decided_before_asks_for_no_user(fields: dict[str, Any], step: str) -> None:
    rule = {"name": "r", "when": {"tags": ["a"]}, "then": {"start_tier": "simple"}}
    policy = Policy(settings_of(policy={"rules": [rule], "bypass_endpoints": ["alarm"]}))
    request = request_of(end_user="ann", **fields)
    assert not policy.open(request).needs_user
    assert policy.decide(request, judged(), NEW).decision.policy_step == step


def test_the_count_is_asked_for_where_it_may_decide_and_not_again() -> None:
    policy = Policy(settings_of())
    assert policy.open(request_of(end_user="ann")).needs_user
    assert policy.open(request_of(end_user="ann"), judged()).needs_user
    assert not policy.open(request_of(end_user="ann"), state=NEW).needs_user
    assert not policy.open(request_of()).needs_user
    assert not Policy(settings_of(policy={"new_users": {"messages": 0}})).open(request_of(end_user="ann")).needs_user


def test_the_baseline_asks_for_no_user_and_answers_new_ones_as_well() -> None:
    policy = Policy(settings_of(policy={"rollout": {"percent": 0}}))
    assert not policy.open(request_of(end_user="ann")).needs_user
    assert policy.decide(request_of(end_user="ann"), judged(), NEW).decision.policy_step == "rollout"


def test_from_the_cache_a_new_user_gets_answers_of_the_strongest_tier_alone() -> None:
    policy = Policy(settings_of())
    request = request_of(end_user="ann", tier_ceiling="medium")
    opening = policy.open(request, state=NEW)
    assert opening.step == "new_user"
    assert opening.objection("simple", "simple-1", None)
    assert not opening.objection("medium", "medium-1", None)
    assert tiers_of(policy.decide(request, judged(), NEW).decision) == ["medium"]


def test_of_a_new_user_an_open_rule_asks_for_the_judgement_first() -> None:
    hard = {"name": "hard", "when": {"complexity": ["complex"]}, "then": {"start_tier": "simple"}}
    policy = Policy(settings_of(policy={"rules": [hard]}))
    request = request_of(end_user="ann")
    assert not policy.open(request).judge_first
    assert policy.open(request, state=NEW).judge_first
    assert policy.open(request, judged(COMPLEX), NEW).step == "rule"
    assert policy.open(request, judged(), NEW).step == "new_user"


def test_a_rules_choice_of_tiers_holds_for_new_users() -> None:
    cheap = {"name": "cheap", "when": {}, "then": {"tiers": ["simple", "medium"]}}
    decision = decided(settings_of(policy={"rules": [cheap]}), request_of(end_user="ann"), state=NEW)
    assert (decision.policy_step, decision.rule, tiers_of(decision)) == ("new_user", "cheap", ["medium"])


def test_an_input_that_the_strongest_tier_has_no_room_for_falls_back_below() -> None:
    settings = settings_of(tier("simple"), tier("complex", target("complex-1", window=256)))
    decision = decided(settings, request_of("x" * 1_000, end_user="ann"), state=NEW)
    assert (decision.policy_step, tiers_of(decision)) == ("new_user", ["simple"])


# Specialists.


def with_specialist(**more: Any) -> Settings:
    middle = tier("medium", target("m1"), target("coder"), target("m3"), **more)
    return settings_of(tier("simple"), middle, tier("complex"), policy={"specialists": {"code": "coder"}})


CODE = judged(task_type=TaskType.CODE)


def test_a_specialist_is_asked_first_for_its_kind_of_work_and_escalates_as_usual() -> None:
    decision = decided(with_specialist(), judgement=CODE)
    assert (decision.policy_step, tiers_of(decision)) == ("specialist", ["medium", "complex"])
    assert first_targets(decision) == ("coder", "m1", "m3")
    assert decision.reason == "coder is the specialist for code"
    assert decided(with_specialist()).policy_step == "complexity"


def test_where_the_executor_chooses_the_order_the_specialist_is_alone() -> None:
    assert first_targets(decided(with_specialist(balance="least_loaded"), judgement=CODE)) == ("coder",)


@pytest.mark.parametrize(
    ("gate", "spec"),
    [
        ({}, AgreementSpec("m1")),
        ({"second_target": "coder"}, AgreementSpec("m1")),
        ({"second_target": "m3", "further_targets": ["m1"]}, AgreementSpec("m3", further_targets=("m1",))),
    ],
)
def test_targets_that_do_not_answer_still_give_second_opinions(gate: dict[str, Any], spec: AgreementSpec) -> None:
    settings = with_specialist(balance="weighted", gates=[{"kind": "agreement", **gate}])
    plan = decided(settings, judgement=CODE).plan
    assert plan is not None
    assert (plan.tiers[0].targets, plan.tiers[0].gates) == (("coder",), (spec,))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tier_floor": "complex"}, "whose tier medium may not answer"),
        ({"tier_ceiling": "simple"}, "whose tier medium may not answer"),
        ({"tags": ("few",)}, "whose tier medium may not answer"),
    ],
)
def test_a_specialist_that_may_not_answer_is_passed_over(fields: dict[str, Any], why: str) -> None:
    few = {"name": "few", "when": {"tags": ["few"]}, "then": {"tiers": ["simple", "complex"]}}
    settings = settings_of(policy={"specialists": {"code": "medium-1"}, "rules": [few]})
    decision = decided(settings, request_of(**fields), CODE)
    assert decision.policy_step == "complexity"
    assert decision.reason.startswith(f"not by the specialist medium-1, {why}: complexity simple")


def test_a_specialist_without_room_for_the_input_is_passed_over() -> None:
    middle = tier("medium", target("m1"), target("coder", window=256))
    settings = settings_of(tier("simple"), middle, tier("complex"), policy={"specialists": {"code": "coder"}})
    decision = decided(settings, request_of("x" * 1_000), CODE)
    assert (decision.policy_step, tiers_of(decision)) == ("complexity", ["simple", "medium", "complex"])
    assert "whose context window is too small" in decision.reason


def test_new_users_go_before_specialists() -> None:
    assert decided(with_specialist(), request_of(end_user="ann"), CODE, NEW).policy_step == "new_user"


# The cost-aware choice.

TWO_EACH = (
    tier("simple", target("s-dear", usd=2), target("s-cheap", usd=1)),
    tier("medium", target("m1", usd=5), target("m2", usd=5)),
    tier("complex", target("flagship", usd=20), target("other", usd=30)),
)


def measured(**ratios: float | tuple[float, int]) -> PolicyState:
    """Qualities for factual_qa: the lower bound by target ("_" for "-"), with 50 grades or the number given."""
    found = {
        name.replace("_", "-"): value if isinstance(value, tuple) else (value, 50) for name, value in ratios.items()
    }
    return PolicyState(
        qualities=QualityTable.of(
            MeasuredQuality(name, TaskType.FACTUAL_QA, grades, 0.9, 1.0, ratio)
            for name, (ratio, grades) in found.items()
        )
    )


COST_AWARE: list[tuple[str, PolicyState, Classification, str, list[str], tuple[str, ...]]] = [
    (
        "the cheapest of two that are good",
        measured(s_dear=0.95, s_cheap=0.91),
        judged(),
        "cost_aware",
        ["simple", "medium", "complex"],
        ("s-cheap", "s-dear"),
    ),
    (
        "the one that is good",
        measured(s_dear=0.95, s_cheap=0.89),
        judged(),
        "cost_aware",
        ["simple", "medium", "complex"],
        ("s-dear",),
    ),
    (
        "too few grades",
        measured(s_cheap=(0.99, 49), m1=0.9, m2=0.9),
        judged(),
        "cost_aware",
        ["medium", "complex"],
        ("m1", "m2"),
    ),
    ("no evidence", measured(), judged(), "cost_aware", ["complex"], ("flagship",)),
    ("never down", measured(s_cheap=0.99, m2=0.99), judged(MEDIUM), "cost_aware", ["medium", "complex"], ("m2",)),
    (
        "from the bumped tier",
        measured(s_cheap=0.99, m2=0.99),
        judged(SIMPLE, 0.5),
        "cost_aware",
        ["medium", "complex"],
        ("m2",),
    ),
    ("of another kind of work", measured(s_cheap=0.99), CODE, "cost_aware", ["complex"], ("flagship",)),
    (
        "all are good, in the order of the file",
        measured(m1=0.99, m2=0.99),
        judged(MEDIUM),
        "complexity",
        ["medium", "complex"],
        ("m1", "m2"),
    ),
    ("not a number", measured(s_cheap=float("nan"), m1=0.95), judged(), "cost_aware", ["medium", "complex"], ("m1",)),
]


@pytest.mark.parametrize(
    ("state", "judgement", "step", "tiers", "first"),
    [row[1:] for row in COST_AWARE],
    ids=[row[0] for row in COST_AWARE],
)
def test_a_plan_starts_at_the_cheapest_targets_that_are_measured_to_be_good_enough(
    state: PolicyState, judgement: Classification, step: str, tiers: list[str], first: tuple[str, ...]
) -> None:
    settings = settings_of(*TWO_EACH, flagship="flagship", policy={"cost_aware": {}})
    decision = decided(settings, judgement=judgement, state=state)
    assert (decision.policy_step, tiers_of(decision), first_targets(decision)) == (step, tiers, first)
    assert "; cost-aware: " in decision.reason
    assert decision.reason.startswith("complexity ")


def test_while_nobody_has_said_what_was_measured_nothing_is_moved() -> None:
    settings = settings_of(*TWO_EACH, flagship="flagship", policy={"cost_aware": {}})
    decision = decided(settings, state=PolicyState())
    assert (decision.policy_step, first_targets(decision)) == ("complexity", ("s-dear", "s-cheap"))
    assert decision.reason.endswith("; not cost-aware: nobody has said yet what was measured")


def test_without_the_section_grades_change_nothing() -> None:
    settings = settings_of(*TWO_EACH, flagship="flagship")
    decision = decided(settings, state=measured(s_cheap=0.99))
    assert (decision.policy_step, first_targets(decision)) == ("complexity", ("s-dear", "s-cheap"))


def test_below_a_ceiling_without_proof_the_last_tier_answers() -> None:
    settings = settings_of(*TWO_EACH, flagship="flagship", policy={"cost_aware": {}})
    decision = decided(settings, request_of(tier_ceiling="medium"), state=measured())
    assert (decision.policy_step, tiers_of(decision), first_targets(decision)) == (
        "cost_aware",
        ["medium"],
        ("m1", "m2"),
    )
    assert "no target is measured to be good enough for factual_qa" in decision.reason


def test_a_good_target_without_room_is_passed_over() -> None:
    tiers = [tier("simple", target("s1", window=256)), tier("medium", target("m1")), tier("complex")]
    settings = settings_of(*tiers, policy={"cost_aware": {}})
    assert tiers_of(decided(settings, request_of("x" * 1_000), state=measured(s1=0.99, m1=0.99))) == [
        "medium",
        "complex",
    ]


def test_where_the_executor_chooses_the_order_the_cheapest_is_alone() -> None:
    simple = {**TWO_EACH[0], "balance": "weighted"}
    settings = settings_of(simple, *TWO_EACH[1:], flagship="flagship", policy={"cost_aware": {}})
    assert first_targets(decided(settings, state=measured(s_dear=0.95, s_cheap=0.95))) == ("s-cheap",)


@pytest.mark.parametrize("step", ["rule", "specialist"])
def test_what_is_decided_otherwise_is_not_moved(step: str) -> None:
    rule = {"name": "r", "when": {"tags": ["a"]}, "then": {"start_tier": "simple"}}
    policy = {"cost_aware": {}, "specialists": {"factual_qa": "m1"}, "rules": [rule]}
    tags = ("a",) if step == "rule" else ()
    assert (
        decided(settings_of(*TWO_EACH, flagship="flagship", policy=policy), request_of(tags=tags)).policy_step == step
    )


# A rule's own gates.


def test_a_rules_gates_replace_those_of_every_tier_and_none_leaves_those_that_always_apply() -> None:
    gates = [{"kind": "self_confidence", "threshold": 5}]
    strict = {"name": "strict", "when": {"tags": ["strict"]}, "then": {"gates": gates}}
    loose = {"name": "loose", "when": {"tags": ["loose"]}, "then": {"gates": []}}
    own = [{"kind": "self_confidence", "threshold": 1}]
    settings = settings_of(tier("simple", gates=own), tier("complex"), policy={"rules": [strict, loose]})

    def gates_for(*tags: str, **fields: Any) -> list[tuple[Any, ...]]:
        plan = decided(settings, request_of(tags=tags, **fields)).plan
        assert plan is not None
        return [each.gates for each in plan.tiers]

    assert gates_for("strict") == [(SelfConfidenceSpec(5),)] * 2
    assert gates_for("loose") == [(), ()]
    assert gates_for() == [(SelfConfidenceSpec(1),), ()]
    assert gates_for("strict", pinned_target="simple-1") == [(SelfConfidenceSpec(5),)]


def test_of_a_pinned_request_a_judged_rule_with_gates_waits_for_the_judgement_but_the_cache_does_not() -> None:
    gates = [{"kind": "self_confidence", "threshold": 5}]
    rule = {"name": "hard", "when": {"complexity": ["complex"]}, "then": {"gates": gates}}
    policy = Policy(settings_of(policy={"rules": [rule]}))
    request = request_of(pinned_target="simple-1")
    opening = policy.open(request)
    assert (opening.needs_judgement, opening.judge_first) == (True, False)
    plan = policy.decide(request, judged(COMPLEX)).decision.plan
    assert plan is not None
    assert plan.tiers[0].gates == (SelfConfidenceSpec(5),)


# Time, and what a configuration may name.


def test_rules_look_at_when_the_request_came_in() -> None:
    night = {"name": "night", "when": {"time": {"start": "22:00", "end": "06:00"}}, "then": {"strategy": "direct"}}
    settings = settings_of(policy={"rules": [night]})
    at_night, at_noon = PolicyState(received_at_unix_s=1_700_000_000.0), PolicyState(received_at_unix_s=1_699_963_200.0)
    assert decided(settings, state=at_night).rule == "night"
    assert decided(settings, state=at_noon).rule == ""
    plan = decided(settings, state=at_night).plan
    assert plan is not None
    assert plan.strategy is Strategy.DIRECT


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"specialists": {"code": "gone"}}, "there is no target 'gone'"),
        ({"start_tier": {"simple": "gone"}}, "there is no tier 'gone'"),
        (
            {"rules": [{"name": "r", "when": {"none_of": [{"time": {"timezone": "Mars"}}]}, "then": {}}]},
            "there is no time zone 'Mars'",
        ),
    ],
)
def test_a_policy_is_not_made_of_names_that_do_not_exist(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Policy(settings_of(policy=policy))
