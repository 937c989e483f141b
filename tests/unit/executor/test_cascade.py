"""Transcripts of the cascade, for every strategy and outcome.

A transcript is what the cascade asks for, and in angle brackets what it is told: "<0 soft>" is an answer to call 0 that
failed a soft gate, "<2s>" that two seconds pass.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.executor.cascade import Cascade
from services.executor.hedging import Hedging
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.steps import Action, Call, Cancel, CascadeError, Fail, FailReason, Judged, Return, Skip, Wait
from spillway.routing import Plan, PlannedTier, Strategy
from spillway.v1 import error_pb2

LADDER = (PlannedTier("simple", ("a1", "a2")), PlannedTier("medium", ("b1",)), PlannedTier("complex", ("c1", "c2")))
COSTS = {"a1": 10, "a2": 10, "b1": 50, "c1": 200, "c2": 200}
DEADLINE_S = 60.0
FAILURES = {
    "down": ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX"),
    "throttled": ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 3.0),
    "briefly": ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 0.25),
    "broke": ProviderFailure(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP", 0.25),
    "refused": ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED"),
}


def cascade(tiers: tuple[PlannedTier, ...] = LADDER, **fields: object) -> Cascade:
    return Cascade(Plan(tiers, **fields), COSTS, hedging=Hedging(dict.fromkeys(COSTS, 2.0), lambda: True))  # type: ignore[arg-type]


def said(action: Action) -> str:
    match action:
        case Call():
            marks = [("last", action.is_last), ("hedge", action.is_hedge), ("further", action.is_fallback)]
            return " ".join([f"call {action.number} {action.target}", *(mark for mark, holds in marks if holds)])
        case Wait():
            return "wait" if action.for_s is None else f"wait {action.for_s:g}s"
        case Cancel():
            return f"cancel {action.number}"
        case Skip():
            return f"skip {action.target} {action.error_reason}"
        case Return():
            return f"return {action.attempt} {'accepted' if action.accepted else 'unproven'}"
        case Fail():
            after = "" if action.retry_after_s is None else f" retry {action.retry_after_s:g}s"
            return f"fail {action.reason}{after}"


def tell(subject: Cascade, number: int, what: str) -> None:
    match what:
        case "ok" | "soft" | "hard" | "empty" | "second":
            hard = what in {"hard", "empty"}
            judged = Judged(number, what == "ok", hard, what == "empty", (f"{what} {number}",))
            subject.answered(number, judged, 5, by_second=what == "second")
        case "skipped":
            subject.skipped(number, 7.0)
        case "open":
            subject.skipped(number, 0.5, opens=True)
        case "cancelled":
            subject.cancelled(number, 1)
        case "committed":
            subject.committed(number)
        case _:
            subject.unavailable(number, FAILURES[what], 5)


def play(subject: Cascade, transcript: str) -> None:
    """Feeds what stands in brackets, and compares the rest with what the cascade asks for."""
    remaining_s = DEADLINE_S
    for line in map(str.strip, transcript.split(";")):
        if line.startswith("<"):
            words = line.strip("<>").split()
            if len(words) == 1:
                remaining_s -= float(words[0].rstrip("s"))
            else:
                tell(subject, int(words[0]), words[1])
        else:
            assert said(subject.next(remaining_s)) == line, transcript


THROTTLED = (
    "call 0 a1; <0 briefly>; call 1 a2 further; <1 briefly>; call 2 b1 further; <2 briefly>; "
    "call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 briefly>; wait 0.25s"
)

CHEAP_FIRST = {
    "accepted": "call 0 a1; wait; <0 ok>; return 0 accepted",
    "rejected softly": "call 0 a1; wait; <0 soft>; call 1 b1; wait; <1 ok>; return 1 accepted",
    "all rejected": "call 0 a1; <0 soft>; call 1 b1; <1 soft>; call 2 c1 last; <2 soft>; return 2 unproven",
    "all hard": "call 0 a1; <0 hard>; call 1 b1; <1 hard>; call 2 c1 last; <2 hard>; return 2 unproven",
    "last is empty": "call 0 a1; <0 soft>; call 1 b1; <1 soft>; call 2 c1 last; <2 empty>; return 1 unproven",
    "all empty": "call 0 a1; <0 empty>; call 1 b1; <1 empty>; call 2 c1 last; <2 empty>; fail NO_MODEL_AVAILABLE",
    "all down": "call 0 a1; <0 down>; call 1 a2 further; <1 down>; call 2 b1 further; <2 down>; "
    "call 3 c1 last further; <3 down>; call 4 c2 last further; <4 down>; fail NO_MODEL_AVAILABLE",
    "all skipped": "call 0 a1; <0 skipped>; call 1 a2; <1 skipped>; call 2 b1; <2 skipped>; call 3 c1 last; "
    "<3 skipped>; call 4 c2 last; <4 skipped>; fail NO_MODEL_AVAILABLE retry 7s",
    "the soonest retry": "call 0 a1; <0 skipped>; call 1 a2; <1 throttled>; call 2 b1 further; <2 skipped>; "
    "call 3 c1 last further; <3 skipped>; call 4 c2 last further; <4 skipped>; fail NO_MODEL_AVAILABLE retry 3s",
    "a skip leaves the failure to be made up for": "call 0 a1; <0 down>; call 1 a2 further; <1 skipped>; "
    "call 2 b1 further; <2 ok>; return 2 accepted",
    "an escalation makes up for no failure": "call 0 a1; <0 down>; call 1 a2 further; <1 soft>; call 2 b1; <2 ok>; "
    "return 2 accepted",
    "nothing above but a soft answer": "call 0 a1; <0 soft>; call 1 b1; <1 down>; call 2 c1 last further; <2 down>; "
    "call 3 c2 last further; <3 down>; return 0 unproven",
    "nothing above but a hard answer": "call 0 a1; <0 hard>; call 1 b1; <1 skipped>; call 2 c1 last; <2 skipped>; "
    "call 3 c2 last; <3 skipped>; fail NO_MODEL_AVAILABLE retry 7s",
    "all throttled for a moment": "call 0 a1; <0 briefly>; call 1 a2 further; <1 briefly>; call 2 b1 further; "
    "<2 briefly>; call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 briefly>; wait 0.25s; <0.1s>; "
    "wait 0.15s; <0.15s>; call 5 a1 further; <5 ok>; return 5 accepted",
    "throttled again after the wait": f"{THROTTLED}; <0.25s>; call 5 a1 further; <5 briefly>; call 6 a2 further; "
    "<6 briefly>; call 7 b1 further; <7 briefly>; call 8 c1 last further; <8 briefly>; call 9 c2 last further; "
    "<9 briefly>; fail NO_MODEL_AVAILABLE retry 0.25s",
    "the soonest to open ends the wait": "call 0 a1; <0 throttled>; call 1 a2 further; <1 throttled>; "
    "call 2 b1 further; <2 open>; call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 throttled>; "
    "wait 0.25s; <0.25s>; call 5 b1 further; <5 open>; call 6 c1 last further; <6 ok>; return 6 accepted",
    "no wait for one who is down": "call 0 a1; <0 briefly>; call 1 a2 further; <1 down>; call 2 b1 further; "
    "<2 briefly>; call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 briefly>; "
    "fail NO_MODEL_AVAILABLE retry 0.25s",
    "no wait for a place or a token": "call 0 a1; <0 open>; call 1 a2; <1 skipped>; call 2 b1; <2 open>; "
    "call 3 c1 last; <3 open>; call 4 c2 last; <4 open>; fail NO_MODEL_AVAILABLE retry 0.5s",
    "no wait for money": "call 0 a1; <0 broke>; call 1 a2 further; <1 briefly>; call 2 b1 further; <2 briefly>; "
    "call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 briefly>; fail NO_MODEL_AVAILABLE retry 0.25s",
    "no long wait": "call 0 a1; <0 throttled>; call 1 a2 further; <1 throttled>; call 2 b1 further; <2 throttled>; "
    "call 3 c1 last further; <3 throttled>; call 4 c2 last further; <4 throttled>; fail NO_MODEL_AVAILABLE retry 3s",
    "no wait that takes much of the time": f"<58s>; {THROTTLED.removesuffix('; wait 0.25s')}; "
    "fail NO_MODEL_AVAILABLE retry 0.25s",
    "no wait for a better answer": "call 0 a1; <0 soft>; call 1 b1; <1 briefly>; call 2 c1 last further; <2 briefly>; "
    "call 3 c2 last further; <3 briefly>; return 0 unproven",
    "no second look at what was rejected": "call 0 a1; <0 briefly>; call 1 a2 further; <1 hard>; call 2 b1; "
    "<2 briefly>; call 3 c1 last further; <3 briefly>; call 4 c2 last further; <4 briefly>; wait 0.25s; <0.25s>; "
    "call 5 b1 further; <5 ok>; return 5 accepted",
    "refused": "call 0 a1; <0 refused>; fail PROVIDER_REJECTED",
    "refused later": "call 0 a1; <0 soft>; call 1 b1; <1 refused>; return 0 unproven",
    "an opinion stands in": "call 0 a1; <0 second>; call 1 b1; <1 ok>; return 1 accepted",
    "out of time": "call 0 a1; <0 soft>; <59.99s>; return 0 unproven",
    "no time at all": "<60s>; fail DEADLINE_EXCEEDED",
    "committed": "call 0 a1; wait; <0 committed>; wait; <0 ok>; return 0 accepted",
    "committed and not proven": "call 0 a1; wait; <0 committed>; wait; <0 hard>; return 0 unproven",
    "broken after commit": "call 0 a1; wait; <0 committed>; wait; <0 down>; fail STREAM_INTERRUPTED",
    "refused after commit": "call 0 a1; wait; <0 committed>; wait; <0 refused>; fail STREAM_INTERRUPTED",
}
DIRECT = {
    "accepted": "call 0 a1 last; <0 ok>; return 0 accepted",
    "rejected": "call 0 a1 last; <0 hard>; return 0 unproven",
    "empty": "call 0 a1 last; <0 empty>; fail NO_MODEL_AVAILABLE",
    "down": "call 0 a1 last; <0 down>; call 1 a2 last further; <1 ok>; return 1 accepted",
    "all down": "call 0 a1 last; <0 down>; call 1 a2 last further; <1 down>; fail NO_MODEL_AVAILABLE",
    "refused": "call 0 a1 last; <0 refused>; fail PROVIDER_REJECTED",
}
START = "call 0 a1; call 1 b1; call 2 c1 last; wait"
RACE = {
    "all throttled for a moment": f"{START}; <0 briefly>; call 3 a2 further; <1 briefly>; wait; <2 briefly>; "
    "call 4 c2 last further; <3 briefly>; wait; <4 briefly>; wait 0.25s; <0.25s>; call 5 a1 further; "
    "call 6 b1 further; call 7 c1 last further; wait; <6 ok>; cancel 5; <5 cancelled>; cancel 7; <7 cancelled>; "
    "return 6 accepted",
    "the first accepted wins": f"{START}; <1 ok>; cancel 0; <0 cancelled>; cancel 2; <2 cancelled>; return 1 accepted",
    "a rejected one only drops out": f"{START}; <0 soft>; wait; <2 ok>; cancel 1; <1 cancelled>; return 2 accepted",
    "the cheap one may still win": f"{START}; <2 soft>; wait; <1 soft>; wait; <0 ok>; return 0 accepted",
    "none accepted": f"{START}; <2 hard>; wait; <1 soft>; wait; <0 soft>; return 2 unproven",
    "none accepted, the last empty": f"{START}; <2 empty>; wait; <0 soft>; wait; <1 soft>; return 1 unproven",
    "all empty": f"{START}; <2 empty>; wait; <0 empty>; wait; <1 empty>; fail NO_MODEL_AVAILABLE",
    "one down": f"{START}; <0 down>; call 3 a2 further; wait; <3 ok>; cancel 1; <1 cancelled>; cancel 2; "
    "<2 cancelled>; return 3 accepted",
    "all down": f"{START}; <0 down>; call 3 a2 further; wait; <1 down>; wait; <2 down>; call 4 c2 last further; wait; "
    "<3 down>; wait; <4 down>; fail NO_MODEL_AVAILABLE",
    "all skipped": "call 0 a1; <0 skipped>; call 1 a2; <1 skipped>; call 2 b1; <2 skipped>; call 3 c1 last; "
    "<3 skipped>; call 4 c2 last; <4 skipped>; fail NO_MODEL_AVAILABLE retry 7s",
    "refused by one": f"{START}; <0 refused>; wait; <1 ok>; cancel 2; <2 cancelled>; return 1 accepted",
    "refused by all": f"{START}; <0 refused>; wait; <1 refused>; wait; <2 refused>; fail PROVIDER_REJECTED",
    "committed": f"{START}; <0 committed>; cancel 1; <1 cancelled>; cancel 2; <2 cancelled>; wait; <0 soft>; "
    "return 0 unproven",
    "broken after commit": f"{START}; <0 committed>; cancel 1; <1 cancelled>; cancel 2; <2 cancelled>; wait; <0 down>; "
    "fail STREAM_INTERRUPTED",
    "an empty last answer stops nobody": f"{START}; <2 empty>; wait; <0 down>; call 3 a2 further; wait; <3 ok>; "
    "cancel 1; <1 cancelled>; return 3 accepted",
    "no time at all": "<60s>; fail DEADLINE_EXCEEDED",
    "no time for a stand-in": f"{START}; <0 down>; <60s>; wait; <1 down>; wait; <2 down>; fail DEADLINE_EXCEEDED",
}
SLOW = "call 0 a1; wait 2s; <2s>; call 1 a2 hedge; wait"
HEDGED = {
    "in time": "call 0 a1; wait 2s; <1s>; wait 1s; <0 ok>; return 0 accepted",
    "the first wins": f"{SLOW}; <0 ok>; cancel 1; <1 cancelled>; return 0 accepted",
    "the hedge wins": f"{SLOW}; <1 ok>; cancel 0; <0 cancelled>; return 1 accepted",
    "the first is down": f"{SLOW}; <0 down>; wait; <1 ok>; return 1 accepted",
    "the hedge is down": f"{SLOW}; <1 down>; wait; <0 ok>; return 0 accepted",
    "the hedge is skipped": "call 0 a1; <2s>; call 1 a2 hedge; <1 skipped>; wait; <0 ok>; return 0 accepted",
    "both are down": f"{SLOW}; <1 down>; wait; <0 down>; call 2 b1 further; wait; <2 ok>; return 2 accepted",
    "a rejection waits for the other": f"{SLOW}; <0 soft>; wait; <1 ok>; return 1 accepted",
    "both are rejected": f"{SLOW}; <1 soft>; wait; <0 soft>; call 2 b1; wait; <2 ok>; return 2 accepted",
    "one rejected, one down": f"{SLOW}; <0 soft>; wait; <1 down>; call 2 b1; wait; <2 ok>; return 2 accepted",
    "an early bad sign needs no hedge": "call 0 a1; wait 2s; <0 hard>; call 1 b1; wait 2s; <1 ok>; return 1 accepted",
    "a failure needs no hedge": "call 0 a1; wait 2s; <0 down>; call 1 a2 further; wait 2s; <1 ok>; return 1 accepted",
    "refused": f"{SLOW}; <0 refused>; wait; <1 refused>; fail PROVIDER_REJECTED",
    "committed": f"{SLOW}; <1 committed>; cancel 0; <0 cancelled>; wait; <1 ok>; return 1 accepted",
    "committed in time": "call 0 a1; wait 2s; <0 committed>; wait; <9s>; wait; <0 ok>; return 0 accepted",
}
LONELY = (PlannedTier("simple", ("a1",)), *LADDER[1:])
UP = "call 0 a1; wait 2s; <2s>; call 1 b1 hedge; wait"
HEDGED_UP = {
    "the first wins": f"{UP}; <0 ok>; cancel 1; <1 cancelled>; return 0 accepted",
    "the hedge wins": f"{UP}; <1 ok>; cancel 0; <0 cancelled>; return 1 accepted",
    "the first is rejected": f"{UP}; <0 soft>; wait; <1 ok>; return 1 accepted",
    "the hedge is rejected": f"{UP}; <1 soft>; wait; <0 ok>; return 0 accepted",
    "both are rejected": f"{UP}; <1 soft>; wait; <0 soft>; call 2 c1 last; wait; <2 soft>; return 2 unproven",
    "the hedge is rejected, the first down": f"{UP}; <1 soft>; wait; <0 down>; call 2 c1 last further; wait; <2 ok>; "
    "return 2 accepted",
}
WATERFALL = CHEAP_FIRST


@pytest.mark.parametrize(
    ("strategy", "transcript"),
    [
        pytest.param(strategy, transcript, id=f"{strategy.value}: {name}")
        for strategy, transcripts in (
            (Strategy.CHEAP_FIRST, CHEAP_FIRST),
            (Strategy.DIRECT, DIRECT),
            (Strategy.RACE, RACE),
            (Strategy.HEDGED, HEDGED),
            (Strategy.WATERFALL, WATERFALL),
        )
        for name, transcript in transcripts.items()
    ],
)
def test_transcripts(strategy: Strategy, transcript: str) -> None:
    play(cascade(strategy=strategy), transcript)


@pytest.mark.parametrize("transcript", HEDGED_UP.values(), ids=HEDGED_UP)
def test_without_another_target_the_next_rung_is_the_hedge(transcript: str) -> None:
    play(cascade(LONELY, strategy=Strategy.HEDGED), transcript)


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
