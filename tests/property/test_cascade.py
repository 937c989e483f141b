"""The cascade on any plan and any luck, and its single rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.cascade import Action, Call, Cascade, CascadeError, Fail, FailReason, Judged, Return, Skip
from services.executor.outcome import FailureKind, ProviderFailure
from spillway.routing import AgreementSpec, Plan, PlannedTier, Strategy

DOWN = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
REJECTED = ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED")
LADDER = (PlannedTier("simple", ("a1", "a2")), PlannedTier("medium", ("b1",)), PlannedTier("complex", ("c1", "c2")))
COSTS = {"a1": 10, "a2": 10, "b1": 50, "c1": 200, "c2": 200}


def cascade(tiers: tuple[PlannedTier, ...] = LADDER, **fields: object) -> Cascade:
    return Cascade(Plan(tiers, **fields), COSTS)  # type: ignore[arg-type]


def called(action: Action) -> Call:
    assert isinstance(action, Call)
    return action


def rejected(number: int, *, hard: bool = False, empty: bool = False) -> Judged:
    return Judged(number, accepted=False, is_hard_failure=hard, is_empty=empty, notes=("wrong",))


tiers_strategy = st.lists(
    st.tuples(st.integers(1, 3), st.booleans(), st.floats(0.5, 60.0)), min_size=1, max_size=4
).map(
    lambda shapes: tuple(
        PlannedTier(
            f"t{rung}", tuple(f"t{rung}-{n}" for n in range(count)), (AgreementSpec(),) if agree else (), timeout_s
        )
        for rung, (count, agree, timeout_s) in enumerate(shapes)
    )
)
events = st.lists(
    st.tuples(
        st.sampled_from(["accept", "soft", "hard", "empty", "down", "skip", "reject", "second"]),
        st.floats(0.0, 20.0),
        st.integers(0, 120),
    ),
    min_size=24,
    max_size=24,
)


@given(
    tiers_strategy,
    st.sampled_from([Strategy.CHEAP_FIRST, Strategy.DIRECT]),
    st.integers(0, 2),
    st.none() | st.integers(0, 600),
    st.floats(0.0, 120.0),
    events,
)
def test_every_run_ends_and_keeps_the_rules(
    tiers: tuple[PlannedTier, ...],
    strategy: Strategy,
    escalations_max: int,
    ceiling: int | None,
    deadline_s: float,
    luck: list[tuple[str, float, int]],
) -> None:
    estimates = {name: 100 for tier in tiers for name in tier.targets}
    plan = Plan(tiers, strategy, escalations_max, ceiling)
    subject = Cascade(plan, estimates)
    remaining_s, spent, number = deadline_s, 0, 0
    order: list[str] = []
    tried: list[str] = []
    judged: dict[int, str] = {}
    quality_rejections: list[str] = []
    fate = iter(luck)
    while True:
        action = subject.next(remaining_s)
        if isinstance(action, Skip):
            continue
        if not isinstance(action, Call):
            break
        assert action.tier.name not in quality_rejections, "no tier twice because of quality"
        assert action.target not in tried, "no target twice"
        assert 0 < action.timeout_s <= min(action.tier.attempt_timeout_s, remaining_s) + 1e-9
        last = tiers[0] if strategy is Strategy.DIRECT else tiers[-1]
        if action.tier is not last:
            assert action.timeout_s <= max(remaining_s / 2, 0.02) + 1e-9 or action.tier.name in order
        step = estimates[action.target]
        assert ceiling is None or spent + step <= ceiling
        tried.append(action.target)
        order.append(action.tier.name)
        what, took_s, cost = next(fate)
        remaining_s -= min(took_s, action.timeout_s)
        spent += cost
        if what == "down":
            subject.unavailable(DOWN, cost)
        elif what == "skip":
            subject.skipped(1.0)
        elif what == "reject":
            subject.unavailable(REJECTED, cost)
        else:
            judged[number] = what
            if what in {"soft", "hard", "empty", "second"}:
                quality_rejections.append(action.tier.name)
            subject.answered(
                Judged(number, what == "accept", what in {"hard", "empty"}, what == "empty"),
                cost,
                by_second=what == "second",
            )
        number += 1
    names = [tier.name for tier in tiers]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order), "only upwards"
    assert subject.escalations <= escalations_max
    assert strategy is not Strategy.DIRECT or set(order) <= {names[0]}
    if isinstance(action, Return):
        assert action.accepted == (judged[action.attempt] == "accept")
        assert judged[action.attempt] != "empty"
    if "accept" in judged.values():
        assert action == Return(next(n for n, what in judged.items() if what == "accept"), accepted=True)
    assert isinstance(action, Return | Fail)
    with pytest.raises(CascadeError):
        subject.next(remaining_s)


def test_an_accepted_answer_is_returned_at_once() -> None:
    subject = cascade()
    assert called(subject.next(60)).target == "a1"
    subject.answered(Judged(0, accepted=True), 5)
    assert subject.next(55) == Return(0, accepted=True)
    assert (subject.escalations, subject.fallbacks) == (0, 0)


def test_a_rejected_answer_escalates_with_a_note() -> None:
    subject = cascade()
    called(subject.next(60))
    subject.answered(rejected(0), 5)
    action = called(subject.next(55))
    assert (action.target, action.notes) == ("b1", ("wrong",))
    assert subject.escalations == 1


@pytest.mark.parametrize("hard", [False, True])
def test_the_last_answer_is_returned_unproven(hard: bool) -> None:
    subject = cascade()
    for number in range(3):
        action = called(subject.next(60))
        subject.answered(rejected(number, hard=hard), 5)
    assert action.is_last
    assert subject.next(60) == Return(2, accepted=False)


def test_an_empty_last_answer_gives_way_to_the_best_soft_one() -> None:
    subject = cascade()
    for number, empty in enumerate((False, False, True)):
        called(subject.next(60))
        subject.answered(rejected(number, hard=empty, empty=empty), 5)
    assert subject.next(60) == Return(1, accepted=False)


def test_no_more_escalations_than_allowed() -> None:
    subject = cascade(escalations_max=1)
    assert not called(subject.next(60)).is_last
    subject.answered(rejected(0), 5)
    assert called(subject.next(60)).is_last
    subject.answered(rejected(1), 5)
    assert subject.next(60) == Return(1, accepted=False)


def test_an_unavailable_target_falls_back_in_its_tier_and_then_moves_on() -> None:
    subject = cascade()
    seen = []
    for _ in range(5):
        seen.append(called(subject.next(60)).target)
        subject.unavailable(DOWN, 0)
    assert seen == ["a1", "a2", "b1", "c1", "c2"]
    assert subject.next(60) == Fail(FailReason.NO_MODEL_AVAILABLE)
    assert (subject.escalations, subject.fallbacks) == (0, 2)


@pytest.mark.parametrize(
    ("hard", "end"), [(False, Return(0, accepted=False)), (True, Fail(FailReason.NO_MODEL_AVAILABLE))]
)
def test_when_nothing_above_can_be_reached_only_a_soft_failure_is_returned(hard: bool, end: Action) -> None:
    subject = cascade()
    called(subject.next(60))
    subject.answered(rejected(0, hard=hard), 5)
    for _ in range(3):
        called(subject.next(60))
        subject.unavailable(DOWN, 0)
    assert subject.next(60) == end


def test_a_refused_request_is_tried_nowhere_else() -> None:
    subject = cascade()
    called(subject.next(60))
    subject.unavailable(REJECTED, 0)
    assert subject.next(60) == Fail(FailReason.PROVIDER_REJECTED)


def test_the_soonest_retry_time_is_reported() -> None:
    subject = cascade((PlannedTier("simple", ("a1", "a2")),))
    called(subject.next(60))
    subject.skipped(7.0)
    called(subject.next(60))
    subject.unavailable(ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 3.0), 0)
    assert subject.next(60) == Fail(FailReason.NO_MODEL_AVAILABLE, 3.0)


def test_a_step_beyond_the_ceiling_is_skipped() -> None:
    subject = cascade(cost_nanousd_max=55)
    called(subject.next(60))
    subject.answered(rejected(0), 10)
    skipped = [subject.next(60) for _ in range(3)]
    assert [action.target for action in skipped if isinstance(action, Skip)] == ["b1", "c1", "c2"]
    assert subject.next(60) == Return(0, accepted=False)


def test_when_nothing_can_be_paid_for_it_fails_for_that() -> None:
    subject = cascade(cost_nanousd_max=5)
    action: Action = subject.next(60)
    while isinstance(action, Skip):
        action = subject.next(60)
    assert action == Fail(FailReason.COST_CEILING)


def test_the_last_rung_keeps_its_share_of_the_deadline() -> None:
    subject = cascade()
    remaining_s = 40.0
    while remaining_s > 0.02:
        action = subject.next(remaining_s)
        if not isinstance(action, Call):
            break
        if action.tier.name == "complex":
            assert remaining_s >= 10.0 - 1e-6
            return
        remaining_s -= action.timeout_s
        subject.unavailable(ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"), 0)
    pytest.fail("the last rung was not reached")


def test_without_time_no_call_is_started() -> None:
    assert cascade().next(0.001) == Fail(FailReason.DEADLINE_EXCEEDED)


def test_direct_has_one_rung() -> None:
    subject = cascade(strategy=Strategy.DIRECT)
    called(subject.next(60))
    subject.answered(rejected(0), 5)
    assert subject.next(60) == Return(0, accepted=False)


def test_a_second_opinion_may_stand_in() -> None:
    subject = cascade((PlannedTier("simple", ("a1", "a2"), (AgreementSpec(),)), LADDER[1]))
    called(subject.next(60))
    subject.answered(rejected(1), 5, by_second=True)
    assert called(subject.next(60)).target == "b1"
    assert (subject.escalations, subject.fallbacks) == (1, 1)


@pytest.mark.parametrize(
    "misuse", [lambda c: c.answered(rejected(0), 0), lambda c: c.unavailable(DOWN, 0), lambda c: c.skipped(None)]
)
def test_nothing_can_be_fed_before_a_call(misuse: Callable[[Cascade], None]) -> None:
    with pytest.raises(CascadeError):
        misuse(cascade())
