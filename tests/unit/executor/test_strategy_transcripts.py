"""What the cascade asks for, for every strategy and outcome, as transcripts."""

from __future__ import annotations

import pytest

from spillway.routing import Strategy
from tests.unit.executor.transcripts import LONELY, START, UP, cascade, play

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
