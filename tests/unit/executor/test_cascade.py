"""The cascade beside its strategies: ceilings, escalations, counts, notes, time, and what it does not listen to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.executor.cascade import Cascade
from services.executor.hedging import Hedging
from services.executor.steps import Call, CascadeError, FailReason
from spillway.routing import Plan, PlannedTier, Strategy
from spillway.v1 import error_pb2
from tests.unit.executor.transcripts import COSTS, LADDER, LONELY, START, UP, cascade, play, said, tell


@pytest.mark.parametrize(
    ("strategy", "ceiling", "transcript"),
    [
        (Strategy.CHEAP_FIRST, 54, "call 0 a1; <0 soft>; skip b1 COST_CEILING; skip c1 COST_CEILING; "
         "skip c2 COST_CEILING; return 0 unproven"),
        (Strategy.CHEAP_FIRST, 55, "call 0 a1; <0 ok>; return 0 accepted"),
        (Strategy.CHEAP_FIRST, 4, "skip a1 COST_CEILING; skip a2 COST_CEILING; skip b1 COST_CEILING; "
         "skip c1 COST_CEILING; skip c2 COST_CEILING; fail COST_CEILING"),
        (Strategy.RACE, 260, START),
        (Strategy.RACE, 259, "skip c1 COST_CEILING; skip c2 COST_CEILING; call 0 a1; call 1 b1; wait; <0 soft>; wait; "
         "<1 hard>; return 0 unproven"),
        (Strategy.RACE, 59, "skip c1 COST_CEILING; skip c2 COST_CEILING; skip b1 COST_CEILING; call 0 a1; wait; "
         "<0 down>; call 1 a2 further; wait; <1 ok>; return 1 accepted"),
        (Strategy.RACE, 9, "skip c1 COST_CEILING; skip c2 COST_CEILING; skip b1 COST_CEILING; skip a1 COST_CEILING; "
         "skip a2 COST_CEILING; fail COST_CEILING"),
        (Strategy.RACE, 265, f"{START}; <0 down>; call 3 a2 further; wait"),
        (Strategy.RACE, 264, f"{START}; <0 down>; skip a2 COST_CEILING; wait"),
        (Strategy.HEDGED, 15, "call 0 a1; wait 2s; <2s>; skip a2 COST_CEILING; wait; <0 ok>; return 0 accepted"),
        (Strategy.HEDGED, 15, "call 0 a1; wait 2s; <2s>; skip a2 COST_CEILING; wait; <0 down>; call 1 a2 further"),
    ],
)  # fmt: skip
def test_no_step_beyond_the_ceiling(strategy: Strategy, ceiling: int, transcript: str) -> None:
    play(cascade(strategy=strategy, cost_nanousd_max=ceiling), transcript)


@pytest.mark.parametrize(
    ("strategy", "escalations_max", "transcript"),
    [
        (Strategy.CHEAP_FIRST, 1, "call 0 a1; <0 soft>; call 1 b1 last; <1 soft>; return 1 unproven"),
        (Strategy.CHEAP_FIRST, 0, "call 0 a1 last; <0 soft>; return 0 unproven"),
        (Strategy.CHEAP_FIRST, 0, "call 0 a1 last; <0 down>; call 1 a2 last further; <1 down>; call 2 b1 last further; "
         "<2 soft>; return 2 unproven"),
        (Strategy.WATERFALL, 0, "call 0 a1; <0 soft>; call 1 b1; <1 soft>; call 2 c1 last; <2 ok>; return 2 accepted"),
        (Strategy.HEDGED, 0, "call 0 a1 last; wait 2s; <2s>; call 1 a2 last hedge; wait; <0 soft>; wait; <1 soft>; "
         "return 1 unproven"),
        (Strategy.RACE, 0, START),
    ],
)  # fmt: skip
def test_escalations_are_limited(strategy: Strategy, escalations_max: int, transcript: str) -> None:
    play(cascade(strategy=strategy, escalations_max=escalations_max), transcript)


def test_a_hedge_never_goes_past_the_last_escalation() -> None:
    subject = cascade(LONELY, strategy=Strategy.HEDGED, escalations_max=0)
    play(subject, "call 0 a1 last; wait 2s; <2s>; wait; <0 soft>; return 0 unproven")


def test_even_a_waterfall_has_at_most_two_escalations() -> None:
    tiers = (*LADDER[:2], PlannedTier("large", ("c2",)), PlannedTier("complex", ("c1",)))
    subject = cascade(tiers, strategy=Strategy.WATERFALL)
    play(subject, "call 0 a1; <0 soft>; call 1 b1; <1 soft>; call 2 c2 last; <2 soft>; return 2 unproven")


def test_counts_say_what_happened() -> None:
    subject = cascade()
    play(subject, "call 0 a1; <0 down>; call 1 a2 further; <1 soft>; call 2 b1; <2 soft>; call 3 c1 last; <3 ok>")
    assert (subject.escalations, subject.fallbacks) == (2, 1)
    stood_in = cascade()
    play(stood_in, "call 0 a1; <0 second>; call 1 b1; <1 ok>; return 1 accepted")
    assert (stood_in.escalations, stood_in.fallbacks) == (1, 1)
    raced = cascade(strategy=Strategy.RACE)
    play(raced, f"{START}; <0 soft>; wait; <1 down>; wait; <2 ok>; return 2 accepted")
    assert (raced.escalations, raced.fallbacks) == (0, 0)
    hedged = cascade(LONELY, strategy=Strategy.HEDGED)
    play(hedged, f"{UP}; <1 soft>; wait; <0 ok>; return 0 accepted")
    assert hedged.escalations == 0
    hedged = cascade(LONELY, strategy=Strategy.HEDGED)
    play(hedged, f"{UP}; <0 soft>; wait; <1 ok>; return 1 accepted")
    assert hedged.escalations == 1


def test_a_target_that_is_asked_twice_is_no_fallback() -> None:
    pinned = cascade((PlannedTier("simple", ("a1",)),))
    play(pinned, "call 0 a1 last; <0 briefly>; wait 0.25s; <0.25s>; call 1 a1 last further; <1 ok>; return 1 accepted")
    assert pinned.fallbacks == 0
    both = cascade(LADDER[:1])
    play(
        both,
        "call 0 a1 last; <0 briefly>; call 1 a2 last further; <1 briefly>; wait 0.25s; <0.25s>; "
        "call 2 a1 last further; <2 briefly>; call 3 a2 last further; <3 ok>; return 3 accepted",
    )
    assert both.fallbacks == 1


def test_an_escalation_says_what_was_wrong_and_a_race_says_nothing() -> None:
    subject = cascade()
    subject.next(60)
    tell(subject, 0, "soft")
    action = subject.next(60)
    assert isinstance(action, Call)
    assert action.notes == ("soft 0",)
    hedged = cascade(LONELY, strategy=Strategy.HEDGED)
    play(hedged, f"{UP}; <1 soft>; wait; <0 soft>")
    action = hedged.next(60)
    assert isinstance(action, Call)
    assert action.notes == ("soft 1",), "the highest answer's"
    raced = cascade(strategy=Strategy.RACE)
    play(raced, f"{START}; <1 soft>; wait; <0 down>")
    action = raced.next(60)
    assert isinstance(action, Call)
    assert action.notes == ()


def test_without_leave_there_is_no_hedge() -> None:
    asked = []

    def refuse() -> bool:
        asked.append("once")
        return False

    hedging = Hedging(dict.fromkeys(COSTS, 2.0), refuse)
    subject = Cascade(Plan(LADDER, Strategy.HEDGED), COSTS, hedging=hedging)
    play(subject, "call 0 a1; wait 2s; <2s>; wait; <2s>; wait; <0 soft>; call 1 b1; wait; <5s>; wait")
    assert asked == ["once"]


def test_a_call_that_ends_before_its_hedge_is_due_is_not_hedged() -> None:
    hedging = Hedging(dict.fromkeys(COSTS, 59.0), lambda: True)
    subject = Cascade(Plan(LADDER, Strategy.HEDGED), COSTS, hedging=hedging)
    play(subject, "call 0 a1; wait")


def timeouts(strategy: Strategy, typical_s: dict[str, float]) -> list[float]:
    """The time of each call when every one of them fails."""
    subject = Cascade(Plan(LADDER, strategy), COSTS, typical_s)
    found = []
    action = subject.next(60.0)
    while isinstance(action, Call):
        found.append(action.timeout_s)
        tell(subject, action.number, "down")
        action = subject.next(60.0)
    return found


def test_time_is_split_by_latency_and_known_targets_are_given_up_early() -> None:
    typical_s = {"a1": 0.5, "b1": 1.5, "c1": 8.0}
    assert timeouts(Strategy.CHEAP_FIRST, {}) == pytest.approx([10.0, 20.0, 30.0, 30.0, 60.0])
    assert timeouts(Strategy.CHEAP_FIRST, typical_s)[:3] == pytest.approx([2.0, 6.0, 6.0])
    assert timeouts(Strategy.WATERFALL, typical_s)[:3] == pytest.approx([3.0, 6.0, 60 * 1.5 / 9.5])


def test_a_committed_stream_may_use_what_was_kept_for_others() -> None:
    action = cascade().next(60.0)
    assert isinstance(action, Call)
    assert (action.timeout_s, action.flow_timeout_s) == pytest.approx((10.0, 60.0))


@pytest.mark.parametrize("what", ["ok", "down", "skipped", "committed", "cancelled"])
@pytest.mark.parametrize(
    "state",
    [
        cascade,
        lambda: _after("call 0 a1; <0 ok>", cascade()),
        lambda: _after("call 0 a1; <0 ok>; return 0 accepted", cascade()),
        lambda: _after(f"{START}; <1 ok>; cancel 0; <0 cancelled>", cascade(strategy=Strategy.RACE)),
    ],
)
def test_nothing_is_heard_of_a_call_that_is_not_under_way(state: Callable[[], Cascade], what: str) -> None:
    with pytest.raises(CascadeError):
        tell(state(), 0, what)


def test_a_cancel_is_answered_before_anything_else() -> None:
    subject = cascade(strategy=Strategy.RACE)
    play(subject, f"{START}; <1 ok>; cancel 0")
    with pytest.raises(CascadeError):
        subject.next(60)
    with pytest.raises(CascadeError):
        subject.cancelled(2, 0)
    subject.cancelled(0, 0)
    assert said(subject.next(60)) == "cancel 2"


def test_only_one_stream_is_committed() -> None:
    subject = cascade(strategy=Strategy.RACE)
    play(subject, f"{START}; <1 committed>")
    with pytest.raises(CascadeError):
        subject.committed(0)


def _after(transcript: str, subject: Cascade) -> Cascade:
    play(subject, transcript)
    return subject


def test_fail_reasons_are_error_reasons() -> None:
    for reason in FailReason:
        assert f"ERROR_REASON_{reason.value}" in dict(error_pb2.ErrorReason.items())
