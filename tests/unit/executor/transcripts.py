"""Transcripts of a cascade, and what plays them.

A transcript is what the cascade asks for, and in angle brackets what it is told: "<0 soft>" is an answer to call 0 that
failed a soft gate, "<2s>" that two seconds pass.
"""

from __future__ import annotations

from services.executor.cascade import Cascade
from services.executor.hedging import Hedging
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.steps import Action, Call, Cancel, Fail, Judged, Return, Skip, Wait
from spillway.routing import Plan, PlannedTier

__all__ = ["COSTS", "LADDER", "LONELY", "START", "UP", "cascade", "play", "said", "tell"]

LADDER = (PlannedTier("simple", ("a1", "a2")), PlannedTier("medium", ("b1",)), PlannedTier("complex", ("c1", "c2")))
LONELY = (PlannedTier("simple", ("a1",)), *LADDER[1:])  # no other target beside the first
COSTS = {"a1": 10, "a2": 10, "b1": 50, "c1": 200, "c2": 200}
DEADLINE_S = 60.0
FAILURES = {
    "down": ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX"),
    "throttled": ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 3.0),
    "briefly": ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 0.25),
    "broke": ProviderFailure(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP", 0.25),
    "refused": ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED"),
}
# How a race begins, and how a hedge does on the next rung.
START = "call 0 a1; call 1 b1; call 2 c1 last; wait"
UP = "call 0 a1; wait 2s; <2s>; call 1 b1 hedge; wait"


def cascade(tiers: tuple[PlannedTier, ...] = LADDER, **fields: object) -> Cascade:
    return Cascade(Plan(tiers, **fields), COSTS, hedging=Hedging(dict.fromkeys(COSTS, 2.0), lambda: True))  # type: ignore[arg-type]


def said(action: Action) -> str:
    """An action as transcripts write it."""
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
    """Tells the cascade what became of a call, in a transcript's words."""
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
            asked = said(subject.next(remaining_s))
            assert asked == line, f"{asked!r} instead of {line!r} in {transcript!r}"
