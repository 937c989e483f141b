"""The policy under any configuration, request and state: one explained decision, inside the limits, always the same;
and a rollout that meets its share, keeps its users, and only grows.

The long form, `HYPOTHESIS_PROFILE=thorough`, tries more of each.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from services.orchestrator.policy.opening import NoEligibleTargetError
from services.orchestrator.policy.policy import Policy, Routed
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.policy.quality import QualityTable
from spillway.routing import (
    CacheMode,
    Classification,
    CompletionRequest,
    Complexity,
    MeasuredQuality,
    Plan,
    Strategy,
    TaskType,
    TierSufficiency,
)
from spillway.settings import Settings
from tests.support.hypothesis_profiles import examples
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier

STEPS = {
    "pinned",
    "bypass",
    "rule",
    "rollout",
    "new_user",
    "specialist",
    "sufficiency",
    "complexity",
    "confidence_bump",
    "cost_aware",
}
BEFORE_THE_ROLLOUT = {"pinned", "bypass", "rule"}
TIERS = ("simple", "middling", "complex", "supreme")

tier_names = st.sampled_from([*[""] * 10, *TIERS[:3], "unknown"])
optional_tiers = st.none() | st.sampled_from(TIERS[:2])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "user_tier": st.just(["vip"]),
        "tags": st.just(["a"]),
        "task_type": st.just(["math"]),
        "complexity": st.just(["complex"]),
        "input_chars_min": st.just(20),
        "input_tokens_max": st.just(30),
        "language": st.just(["de"]),
        "time": st.just({"start": "22:00", "end": "06:00"}),
        "any_of": st.just([{"tags": ["a"]}, {"complexity": ["simple"]}]),
        "none_of": st.just([{"user_tier": ["vip"]}, {"task_type": ["math"]}]),
    },
)
actions = st.fixed_dictionaries(
    {},
    optional={
        "target": st.sampled_from(["simple-1", "middling-1"]),
        "start_tier": optional_tiers,
        "tier_floor": optional_tiers,
        "tier_ceiling": optional_tiers,
        "tiers": st.sets(st.sampled_from(TIERS[:3]), min_size=1).map(lambda names: [n for n in TIERS if n in names]),
        "strategy": st.sampled_from(["direct", "cheap_first"]),
        "cache_mode": st.sampled_from(["use", "refresh", "bypass"]),
        "gates": st.sampled_from([[], [{"kind": "self_confidence"}]]),
    },
)
percents = st.sampled_from([0.0, 5.0, 50.0, 100.0])
rollouts = st.fixed_dictionaries(
    {},
    optional={
        "percent": percents,
        "task_types": st.fixed_dictionaries({"math": percents}),
        "baseline": st.sampled_from(["simple-1", "middling-1"]),
    },
)


@st.composite
def configurations(draw: st.DrawFn) -> Settings:
    count = draw(st.integers(2, 4))
    tiers = [
        tier(
            name,
            *(target(f"{name}-{n}", window=draw(st.sampled_from([256, 128_000])), usd=3 - n) for n in (1, 2)),
            balance=draw(st.sampled_from(["order", "weighted"])),
        )
        for name in TIERS[:count]
    ]
    rules = [{"name": f"r{n}", "when": draw(conditions), "then": draw(actions)} for n in range(draw(st.integers(0, 3)))]
    start: dict[str, str] = draw(st.dictionaries(st.sampled_from(list(Complexity)), st.sampled_from(TIERS[:2])))
    policy = {
        "bypass_endpoints": ["alarm"],
        "rules": rules,
        "start_tier": start,
        "rollout": draw(rollouts),
        "new_users": {"messages": draw(st.sampled_from([0, 3, 3]))},
        "specialists": draw(st.sampled_from([{}, {"math": "middling-2"}])),
        "cost_aware": draw(st.none() | st.just({})),
    }
    return settings_of(*tiers, policy={**policy, "sufficiency_min": draw(st.none() | st.floats(0, 1))})


requests = st.builds(
    request_of,
    st.sampled_from(["Hi", "x" * 100, "x" * 900]),
    endpoint=st.sampled_from(["", "", "", "", "alarm"]),
    user_tier=st.sampled_from(["", "vip"]),
    tags=st.sampled_from([(), ("a",)]),
    tier_floor=tier_names,
    tier_ceiling=tier_names,
    pinned_target=st.sampled_from([*[""] * 8, "simple-1", "middling-1", "unknown"]),
    strategy=st.sampled_from([None, *Strategy]),
    cache_mode=st.sampled_from([None, *CacheMode]),
    end_user=st.sampled_from(["", *(f"user-{n}" for n in range(6))]),
)
qualities = st.lists(
    st.builds(
        lambda tier_name, n, kind, ratio: MeasuredQuality(f"{tier_name}-{n}", kind, 60, 0.9, 1.0, ratio),
        st.sampled_from(TIERS),
        st.sampled_from([1, 2]),
        st.sampled_from([TaskType.MATH, TaskType.OTHER]),
        st.sampled_from([0.5, 0.95]),
    ),
    max_size=6,
).map(QualityTable.of)
states = st.builds(
    PolicyState,
    received_at_unix_s=st.sampled_from([1_700_000_000.0, 1_699_963_200.0]),
    request_id=st.sampled_from(["", "r1", "r2", "r3"]),
    user_messages=st.sampled_from([None, 0, 1, 2, 3]),
    qualities=st.none() | qualities,
)
sufficiencies = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(
    lambda values: dict(zip(TIERS, sorted(values), strict=True))
)
judgements = st.builds(
    judged,
    st.sampled_from(list(Complexity)),
    st.floats(0.34, 1),
    st.sampled_from([TaskType.MATH, TaskType.OTHER]),
    suffices=st.just({}) | sufficiencies,
)


def outcome(
    config: Settings, request: CompletionRequest, judgement: Classification | None, state: PolicyState
) -> Routed | str:
    try:
        return Policy(config).decide(request, judgement, state)
    except NoEligibleTargetError as refused:
        return refused.public


def plan_of(routed: Routed) -> Plan:
    assert routed.decision.plan is not None
    return routed.decision.plan


@settings(max_examples=examples(300, 4_000))
@given(configurations(), requests, judgements, states)
def test_every_request_gets_exactly_one_explained_decision_inside_its_limits(
    config: Settings, request: CompletionRequest, judgement: Classification, state: PolicyState
) -> None:
    first, second = outcome(config, request, judgement, state), outcome(config, request, judgement, state)
    assert first == second
    if isinstance(first, str):
        event("refused")
        return
    decision, plan = first.decision, plan_of(first)
    event(decision.policy_step)
    assert decision.policy_step in STEPS
    assert decision.reason
    names = [each.name for each in config.tiers]
    rungs = [names.index(each.name) for each in plan.tiers]
    assert rungs == sorted(set(rungs))
    rule = next((r for r in config.policy.rules if r.name == decision.rule), None)
    floors = [request.options.tier_floor, (rule.then.tier_floor or "") if rule else ""]
    ceilings = [request.options.tier_ceiling, (rule.then.tier_ceiling or "") if rule else ""]
    assert all(rungs[0] >= names.index(floor) for floor in floors if floor)
    assert all(rungs[-1] <= names.index(ceiling) for ceiling in ceilings if ceiling)
    baseline = config.policy.rollout.baseline or config.flagship_target.name
    only = (
        request.options.pinned_target
        or (rule.then.target if rule else None)
        or (baseline if decision.policy_step == "rollout" else None)
    )
    if only:
        assert [each.targets for each in plan.tiers] == [(only,)]
        assert plan.strategy is Strategy.DIRECT
    elif rule is not None and rule.then.tiers is not None:
        assert {each.name for each in plan.tiers} <= set(rule.then.tiers)
    for each in plan.tiers:
        assert 0 < len(each.targets) == len(set(each.targets))
        assert set(each.targets) <= {t.name for t in config.tiers[names.index(each.name)].targets}
        if rule is not None and rule.then.gates is not None:
            assert len(each.gates) == len(rule.then.gates)
    if plan.strategy is Strategy.DIRECT:
        assert len(rungs) == 1
    matched = [trial.rule for trial in first.trials if trial.matched]
    assert matched == ([decision.rule] if decision.rule else [])


@settings(max_examples=examples(200, 3_000))
@given(configurations(), requests, judgements, states)
def test_steps_come_in_their_order_and_arms_only_with_a_rollout(
    config: Settings, request: CompletionRequest, judgement: Classification, state: PolicyState
) -> None:
    routed = outcome(config, request, judgement, state)
    if isinstance(routed, str):
        return
    decision = routed.decision
    opening = Policy(config).open(request, judgement, state)
    rule = next((r for r in config.policy.rules if r.name == decision.rule), None)
    assert (decision.policy_step == "pinned") == bool(request.options.pinned_target)
    if decision.policy_step == "bypass":
        assert not routed.trials
    elif not request.options.pinned_target and rule is not None and (rule.then.target or rule.then.start_tier):
        assert decision.policy_step == "rule"
    assert (decision.arm == "baseline") == (decision.policy_step == "rollout")
    if decision.policy_step in BEFORE_THE_ROLLOUT or not config.policy.rollout.model_fields_set:
        assert decision.arm == ""
    assert decision.arm == opening.arm
    if decision.arm == "baseline":
        assert opening.cache_mode is CacheMode.BYPASS
    if decision.policy_step in STEPS - BEFORE_THE_ROLLOUT - {"rollout", "new_user"}:
        new = state.user_messages is not None and state.user_messages < config.policy.new_users.messages
        assert not (new and request.end_user)
    if decision.policy_step == "cost_aware":
        assert config.policy.cost_aware is not None


@settings(max_examples=examples(200, 3_000))
@given(configurations(), requests, judgements, states)
def test_what_is_said_before_the_judgement_still_holds_after_it(
    config: Settings, request: CompletionRequest, judgement: Classification, state: PolicyState
) -> None:
    policy = Policy(config)
    try:
        before, after = policy.open(request, state=state), policy.open(request, judgement, state)
    except NoEligibleTargetError:
        return
    assert not after.needs_judgement
    assert not after.judge_first
    event(f"judge first: {before.judge_first}")
    if before.judge_first:
        return
    assert before.cache_mode is after.cache_mode
    assert before.arm in {"", after.arm}
    answers = [(name, f"{name}-{n}") for name in [*TIERS, "retired"] for n in (1, 2)]
    assert [before.objection(*each, None) for each in answers] == [after.objection(*each, None) for each in answers]
    if not before.needs_judgement:
        early, late = outcome(config, request, None, state), outcome(config, request, judgement, state)
        if isinstance(late, str) or isinstance(early, str):
            assert early == late
        else:
            assert plan_of(early) == plan_of(late)


@settings(max_examples=examples(150, 2_000))
@given(configurations(), requests, judgements, states)
def test_nobody_is_asked_for_a_count_that_could_change_nothing(
    config: Settings, request: CompletionRequest, judgement: Classification, state: PolicyState
) -> None:
    unknown = replace(state, user_messages=None)
    try:
        needed = Policy(config).open(request, judgement, unknown).needs_user
    except NoEligibleTargetError:
        return
    if not needed:
        for count in (0, 100):
            state = replace(unknown, user_messages=count)
            assert outcome(config, request, judgement, state) == outcome(config, request, judgement, unknown)


@settings(max_examples=examples(150, 2_000))
@given(configurations(), requests, judgements, states, sufficiencies, st.floats(0, 1), st.floats(0, 1))
def test_asking_for_more_certainty_never_starts_at_a_cheaper_tier(
    config: Settings,
    request: CompletionRequest,
    judgement: Classification,
    state: PolicyState,
    suffices: dict[str, float],
    one: float,
    another: float,
) -> None:
    sufficiency = tuple(TierSufficiency(*each) for each in suffices.items())
    starts = []
    for least in sorted((one, another)):
        policy = config.policy.model_copy(update={"sufficiency_min": least})
        routed = outcome(
            config.model_copy(update={"policy": policy}), request, replace(judgement, sufficiency=sufficiency), state
        )
        if isinstance(routed, str):
            return
        starts.append(TIERS.index(plan_of(routed).tiers[0].name))
    assert starts == sorted(starts)


# The rollout. Names and salts are drawn, so no place is known beforehand.

USERS = 2_000
# A count in the outer 1e-9 of a binomial distribution's tail is no chance.
TAIL_MIN = 1e-9
salts = st.text(max_size=8)
tenants = st.text(max_size=8)
kinds = st.sampled_from([TaskType.MATH, TaskType.OTHER])


def binomial_tail(count: int, probability: float) -> float:
    """The smaller of P(X <= count) and P(X >= count), exactly, for X ~ Binomial(USERS, probability)."""

    def exactly(k: int) -> float:
        log_ways = math.lgamma(USERS + 1) - math.lgamma(k + 1) - math.lgamma(USERS - k + 1)
        return math.exp(log_ways + k * math.log(probability) + (USERS - k) * math.log1p(-probability))

    return min(math.fsum(exactly(k) for k in range(count + 1)), math.fsum(exactly(k) for k in range(count, USERS + 1)))


def routed_users(tenant: str, salt: str, kind: TaskType, **rollout: Any) -> set[int]:
    """Which of the users are in the routed arm."""
    config = settings_of(policy={"rollout": {"salt": salt, "baseline": "complex-1", **rollout}})
    policy, judgement = Policy(config), judged(task_type=kind)
    return {
        number
        for number in range(USERS)
        if policy.open(request_of(tenant=tenant, end_user=f"u{number}"), judgement).arm == "routed"
    }


@settings(max_examples=examples(6, 60))
@given(tenants, salts, st.sampled_from([1.0, 5.0, 10.0, 25.0, 50.0, 90.0]))
@example("", "", 5.0)
def test_the_share_that_is_routed_lies_within_binomial_bounds(tenant: str, salt: str, percent: float) -> None:
    count = len(routed_users(tenant, salt, TaskType.OTHER, percent=percent))
    assert binomial_tail(count, percent / 100) > TAIL_MIN


@settings(max_examples=examples(4, 40))
@given(tenants, salts, st.lists(st.floats(0, 100), min_size=2, max_size=2).map(sorted))
def test_growing_the_percentage_only_adds_users_and_each_kind_of_work_has_its_own(
    tenant: str, salt: str, percents: list[float]
) -> None:
    less, more = percents
    few = routed_users(tenant, salt, TaskType.OTHER, percent=less)
    assert few == routed_users(tenant, salt, TaskType.OTHER, percent=less, task_types={"math": more})
    many = routed_users(tenant, salt, TaskType.MATH, percent=less, task_types={"math": more})
    assert few <= many
    assert many == routed_users(tenant, salt, TaskType.OTHER, percent=more)


@settings(max_examples=examples(100, 2_000))
@given(requests, judgements, states, states, st.floats(0, 100))
def test_a_user_stays_in_an_arm_whatever_is_asked_and_whenever(
    request: CompletionRequest, judgement: Classification, one: PolicyState, other: PolicyState, percent: float
) -> None:
    policy = Policy(settings_of(policy={"rollout": {"percent": percent, "salt": "x"}}))
    arms = {
        policy.open(replace(asked, end_user="ann", request_id=state.request_id), judgement, state).arm
        for asked in (request_of("another question"), replace(request, options=request_of().options))
        for state in (one, other)
    }
    assert len(arms) == 1


@settings(max_examples=examples(4, 40))
@given(salts, salts)
def test_another_salt_puts_other_users_into_the_share(salt: str, other: str) -> None:
    one = routed_users("acme", salt, TaskType.OTHER, percent=50)
    two = routed_users("acme", other, TaskType.OTHER, percent=50)
    if salt == other:
        assert one == two
    else:
        # As many in both as by chance: a quarter.
        assert binomial_tail(len(one & two), 0.25) > TAIL_MIN
