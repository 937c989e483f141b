"""The rollout: who is in which arm, and what the baseline arm gets."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.policy.opening import Opening
from services.orchestrator.policy.policy import Policy
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.policy.rollout import Arm, Arms, place
from spillway.routing import CacheMode, CompletionRequest, JudgeSpec, RoutingDecision, Strategy, TaskType
from spillway.settings import Rollout
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier

HALF = {"percent": 50, "baseline": "medium-1"}


def user_below(percent: float, *, above: float = 0.0, rollout: Rollout | None = None) -> str:
    """An end user whose place is between the two."""
    for number in range(10_000):
        at = place(rollout or Rollout(), "", f"user-{number}", "")
        if at is not None and above <= at < percent:
            return f"user-{number}"
    raise AssertionError("there is no such user")


def policy_of(rollout: dict[str, Any], **policy: Any) -> Policy:
    gates = [{"kind": "self_confidence"}]
    tiers = [tier("simple", gates=gates), tier("medium", gates=gates, escape_valve=True), tier("complex")]
    return Policy(settings_of(*tiers, policy={"rollout": rollout, **policy}))


def decided(policy: Policy, request: CompletionRequest, **judgement: Any) -> RoutingDecision:
    return policy.decide(request, judged(**judgement)).decision


def test_without_a_rollout_nobody_is_in_an_arm() -> None:
    assert not Arms(Rollout()).is_configured
    policy = Policy(settings_of())
    assert policy.open(request_of(end_user="ann")).arm == ""
    assert decided(policy, request_of(end_user="ann")).arm == ""


def test_outside_the_share_the_baseline_answers_alone_without_cache_and_without_gates() -> None:
    policy = policy_of(HALF)
    request = request_of(end_user=user_below(100, above=50), strategy=Strategy.RACE, cache_mode=CacheMode.USE)
    opening = policy.open(request)
    assert (opening.step, opening.arm, opening.cache_mode) == ("rollout", "baseline", CacheMode.BYPASS)
    decision = decided(policy, request)
    assert (decision.policy_step, decision.arm) == ("rollout", "baseline")
    assert decision.reason == "outside the share that is routed: the baseline medium-1 answers, as before"
    assert decision.plan is not None
    (rung,) = decision.plan.tiers
    assert (rung.targets, rung.gates, rung.escape_valve) == (("medium-1",), (), False)
    assert decision.plan.strategy is Strategy.DIRECT


def test_inside_the_share_the_request_is_routed_as_ever() -> None:
    request = request_of(end_user=user_below(50))
    decision = decided(policy_of(HALF), request)
    assert (decision.policy_step, decision.arm) == ("complexity", "routed")
    assert decision.plan == decided(policy_of({}), request).plan
    assert policy_of(HALF).open(request).cache_mode is CacheMode.USE


def test_the_baseline_is_the_flagship_unless_another_is_named() -> None:
    decision = decided(policy_of({"percent": 0}), request_of(end_user="ann"))
    assert decision.plan is not None
    assert decision.plan.tiers[0].targets == ("complex-1",)


def test_at_its_last_step_all_are_routed_and_still_in_an_arm() -> None:
    for name in ("ann", "ben", "cem"):
        for rollout in ({"baseline": "medium-1"}, {"percent": 100}, {"percent": 100, "task_types": {}}):
            assert decided(policy_of(rollout), request_of(end_user=name)).arm == "routed"


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"pinned_target": "simple-1"}, "pinned"),
        ({"endpoint": "alarm"}, "bypass"),
        ({"tags": ("named",)}, "rule"),
        ({"tags": ("started",)}, "rule"),
    ],
)
def test_what_is_decided_before_the_rollout_is_in_no_arm(fields: dict[str, Any], step: str) -> None:
    rules = [
        {"name": "named", "when": {"tags": ["named"]}, "then": {"target": "simple-1"}},
        {"name": "started", "when": {"tags": ["started"]}, "then": {"start_tier": "simple"}},
    ]
    policy = policy_of({"percent": 0}, rules=rules, bypass_endpoints=["alarm"])
    decision = decided(policy, request_of(end_user="ann", **fields))
    assert (decision.policy_step, decision.arm) == (step, "")


def test_a_rules_limits_hold_for_the_baseline_too() -> None:
    gates = [{"kind": "judge", "target": "complex-1"}]
    rules = [{"name": "limits", "when": {}, "then": {"tier_floor": "medium", "gates": gates, "cache_mode": "refresh"}}]
    decision = decided(policy_of({**HALF, "percent": 0}, rules=rules), request_of(end_user="ann"))
    assert (decision.policy_step, decision.rule, decision.arm) == ("rollout", "limits", "baseline")
    assert decision.plan is not None
    assert decision.plan.tiers[0].gates == (JudgeSpec("complex-1"),)


@pytest.mark.parametrize("fields", [{"tier_floor": "complex"}, {"tier_ceiling": "simple"}])
@pytest.mark.parametrize("percent", [0, 100])
def test_a_request_that_the_baseline_may_not_answer_is_routed_and_in_no_arm_whatever_its_place(
    fields: dict[str, Any], percent: float
) -> None:
    decision = decided(policy_of({**HALF, "percent": percent}), request_of(end_user="ann", **fields))
    assert (decision.policy_step, decision.arm) == ("complexity", "")
    assert "in no arm of the rollout: its baseline medium-1 is outside" in decision.reason


def test_a_request_that_the_baseline_has_no_room_for_is_in_no_arm() -> None:
    tiers = [tier("simple"), tier("medium", target("medium-1", window=256)), tier("complex")]
    policy = Policy(settings_of(*tiers, policy={"rollout": {**HALF, "percent": 0}}))
    decision = decided(policy, request_of("x" * 1_000, end_user="ann"))
    assert (decision.policy_step, decision.arm) == ("complexity", "")
    assert "has no room for the input" in decision.reason


BY_TASK = {"percent": 50, "task_types": {"code": 10, "math": 90}, "baseline": "medium-1"}


@pytest.mark.parametrize(
    ("above", "below", "first"), [(0, 10, False), (10, 50, True), (50, 90, True), (90, 100, False)]
)
def test_the_judgement_comes_first_only_where_the_kind_of_work_decides_the_arm(
    above: float, below: float, first: bool
) -> None:
    policy = policy_of(BY_TASK)
    request = request_of(end_user=user_below(below, above=above))
    opening = policy.open(request)
    assert (opening.judge_first, opening.arm == "") == (first, first)
    arms = {kind: decided(policy, request, task_type=kind).arm for kind in TaskType}
    assert arms[TaskType.CODE] == ("routed" if below <= 10 else "baseline")
    assert arms[TaskType.MATH] == ("routed" if below <= 90 else "baseline")
    assert arms[TaskType.OTHER] == ("routed" if below <= 50 else "baseline")


def open_for(then: dict[str, Any], place_above: float) -> Opening:
    hard = {"name": "hard", "when": {"complexity": ["complex"]}, "then": then}
    request = request_of(end_user=user_below(place_above + 50, above=place_above))
    return policy_of(HALF, rules=[hard]).open(request)


def test_while_a_rule_is_open_the_baseline_waits_for_the_judgement() -> None:
    start, limit = {"start_tier": "complex"}, {"strategy": "direct"}
    assert open_for(start, 50).judge_first
    assert open_for(limit, 50).judge_first
    routed = open_for(limit, 0)
    assert (routed.judge_first, routed.arm) == (False, "routed")
    # The rule may yet take it out of the rollout.
    assert (open_for(start, 0).judge_first, open_for(start, 0).arm) == (False, "")


def test_without_an_end_user_the_requests_id_decides_and_without_any_it_is_routed() -> None:
    policy = policy_of(HALF)
    arms = {decided(policy, request_of(request_id=f"r{n}")).arm for n in range(20)}
    assert arms == {"routed", "baseline"}
    for number in range(20):
        state = PolicyState(request_id=f"r{number}")
        given = policy.decide(request_of(), judged(), state).decision.arm
        assert given == decided(policy, request_of(request_id=f"r{number}")).arm
    assert decided(policy_of({"percent": 0}), request_of()).arm == "routed"


def test_names_that_run_together_have_places_of_their_own() -> None:
    rollout = Rollout()
    places = [
        place(rollout, "a", "bc", ""),
        place(rollout, "b", "bc", ""),
        place(rollout, "ab", "c", ""),
        place(rollout, "a", "", "bc"),
        place(rollout, "", "abc", ""),
        place(Rollout(salt="a"), "", "bc", ""),
        place(rollout, "a", '", "bc', ""),
    ]
    assert len(set(places)) == len(places)
    assert place(rollout, "a", "\ud800", "") != place(rollout, "a", "\udfff", "")


def test_a_users_requests_are_all_in_one_arm() -> None:
    policy = policy_of(HALF)
    assert len({decided(policy, request_of(end_user="ann", request_id=f"r{n}")).arm for n in range(20)}) == 1


def test_an_arm_has_a_place_for_everybody() -> None:
    nobody, everybody = Arms(Rollout(percent=0)), Arms(Rollout(percent=100))
    for number in range(200):
        request = request_of(end_user=f"user-{number}")
        assert nobody.find(request, "", None) is Arm.BASELINE
        assert everybody.find(request, "", None) is Arm.ROUTED


def test_an_unknown_baseline_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ValueError, match="there is no target 'gone'"):
        policy_of({"baseline": "gone"})
