"""The policy under any configuration and request: one decision, inside the limits, always the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.opening import NoEligibleTargetError
from services.orchestrator.policy import Policy
from spillway.routing import Classification, CompletionRequest, Complexity, Strategy, TaskType, TierSufficiency
from spillway.settings import Settings
from tests.unit.orchestrator.ladder import judged, request_of, settings_of, target, tier

STEPS = {"pinned", "bypass", "rule", "sufficiency", "complexity", "confidence_bump"}
TIERS = ("simple", "middling", "complex", "supreme")

tier_names = st.sampled_from(["", "", *TIERS[:3], "unknown"])
optional_tiers = st.none() | st.sampled_from(TIERS[:2])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "user_tier": st.just(["vip"]),
        "tags": st.just(["a"]),
        "task_type": st.just(["math"]),
        "complexity": st.just(["complex"]),
        "input_chars_min": st.just(20),
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
    },
)


@st.composite
def configurations(draw: st.DrawFn) -> Settings:
    count = draw(st.integers(2, 4))
    windows = [draw(st.sampled_from([256, 128_000])) for _ in range(count)]
    tiers = [tier(name, target(f"{name}-1", window=w)) for name, w in zip(TIERS, windows, strict=False)]
    rules = [{"name": f"r{n}", "when": draw(conditions), "then": draw(actions)} for n in range(draw(st.integers(0, 3)))]
    start: dict[str, str] = draw(st.dictionaries(st.sampled_from(list(Complexity)), st.sampled_from(TIERS[:2])))
    policy = {"bypass_endpoints": ["alarm"], "rules": rules, "start_tier": start}
    return settings_of(*tiers, policy={**policy, "sufficiency_min": draw(st.none() | st.floats(0, 1))})


requests = st.builds(
    request_of,
    st.sampled_from(["Hi", "x" * 100, "x" * 900]),
    endpoint=st.sampled_from(["", "alarm"]),
    user_tier=st.sampled_from(["", "vip"]),
    tags=st.sampled_from([(), ("a",)]),
    tier_floor=tier_names,
    tier_ceiling=tier_names,
    pinned_target=st.sampled_from(["", "", "", "simple-1", "middling-1", "unknown"]),
    strategy=st.sampled_from([None, *Strategy]),
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


def outcome(config: Settings, request: CompletionRequest, judgement: Classification | None) -> Any:
    try:
        return Policy(config).decide(request, judgement)
    except NoEligibleTargetError as refused:
        return refused.public


@settings(max_examples=300, deadline=None)
@given(configurations(), requests, judgements)
def test_every_request_gets_exactly_one_decision_inside_its_limits(
    config: Settings, request: CompletionRequest, judgement: Classification
) -> None:
    first, second = outcome(config, request, judgement), outcome(config, request, judgement)
    assert first == second
    if isinstance(first, str):
        return
    decision = first.decision
    assert decision.policy_step in STEPS
    names = [each.name for each in config.tiers]
    plan = [names.index(each.name) for each in decision.plan.tiers]
    assert plan == sorted(set(plan))
    rule = next((r for r in config.policy.rules if r.name == decision.rule), None)
    floors = [request.options.tier_floor, (rule.then.tier_floor or "") if rule else ""]
    ceilings = [request.options.tier_ceiling, (rule.then.tier_ceiling or "") if rule else ""]
    assert all(plan[0] >= names.index(floor) for floor in floors if floor)
    assert all(plan[-1] <= names.index(ceiling) for ceiling in ceilings if ceiling)
    named = request.options.pinned_target or (rule is not None and rule.then.target)
    if rule is not None and rule.then.tiers is not None and not named:
        assert {each.name for each in decision.plan.tiers} <= set(rule.then.tiers)
    assert all(each.targets for each in decision.plan.tiers)
    if request.options.pinned_target:
        assert decision.policy_step == "pinned"
        assert [each.targets for each in decision.plan.tiers] == [(request.options.pinned_target,)]
    if decision.plan.strategy is Strategy.DIRECT:
        assert len(plan) == 1
    matched = [trial.rule for trial in first.trials if trial.matched]
    assert matched == ([decision.rule] if decision.rule else [])


@settings(max_examples=300, deadline=None)
@given(configurations(), requests, judgements)
def test_what_is_said_before_the_judgement_still_holds_after_it(
    config: Settings, request: CompletionRequest, judgement: Classification
) -> None:
    policy = Policy(config)
    try:
        before, after = policy.open(request), policy.open(request, judgement)
    except NoEligibleTargetError:
        return
    if before.judge_first:
        return
    assert before.cache_mode is after.cache_mode
    answers = [(name, f"{name}-1") for name in [*TIERS, "retired"]]
    assert [before.objection(*each, None) for each in answers] == [after.objection(*each, None) for each in answers]
    if not before.needs_judgement:
        early, late = outcome(config, request, None), outcome(config, request, judgement)
        assert early == late if isinstance(late, str) else early.decision.plan == late.decision.plan


@settings(max_examples=300, deadline=None)
@given(configurations(), requests, judgements, sufficiencies, st.floats(0, 1), st.floats(0, 1))
def test_asking_for_more_certainty_never_starts_at_a_cheaper_tier(
    config: Settings,
    request: CompletionRequest,
    judgement: Classification,
    suffices: dict[str, float],
    one: float,
    another: float,
) -> None:
    sufficiency = tuple(TierSufficiency(*each) for each in suffices.items())
    starts = []
    for least in sorted((one, another)):
        policy = config.policy.model_copy(update={"sufficiency_min": least})
        routed = outcome(
            config.model_copy(update={"policy": policy}), request, replace(judgement, sufficiency=sufficiency)
        )
        if isinstance(routed, str):
            return
        starts.append(TIERS.index(routed.decision.plan.tiers[0].name))
    assert starts == sorted(starts)
