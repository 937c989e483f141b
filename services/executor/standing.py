"""How an execution stands: what became of its rungs, and what can be returned if no answer is accepted.

Promises: pure. Part of the cascade, which keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.executor.steps import Call, Fail, FailReason, Judged, Return
from spillway.routing import PlannedTier

__all__ = ["Rung", "Standing", "UnderWay"]


@dataclass(slots=True)
class Rung:
    """What has become of one rung."""

    index: int
    tier: PlannedTier
    untried: list[str]
    reserve_s: float | None = None
    """What it must leave to the rungs above; set when it is entered."""
    is_rejected: bool = False
    has_failed: bool = False
    """Since its last call."""
    called: set[str] = field(default_factory=set)
    """Its targets, hedges included: who is asked once more after a recess is no other target."""
    soft_attempt: int | None = None
    """Its answer that failed soft gates only."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A call under way, and how much of the deadline was left when it began."""

    call: Call
    rung: Rung
    estimate_nanousd: int
    began_with_s: float


class Standing:
    """Of one execution. `no_more` is set when nothing else may be called, with the reason why."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = rungs
        self._last_attempt: int | None = None
        self._notes_of = -1
        self._retry_after_s: float | None = None
        self.no_more: FailReason | None = None
        self.any_unavailable = False
        self.any_too_costly = False
        self.notes: tuple[str, ...] = ()

    def lost(self, retry_after_s: float | None) -> None:
        """A target was not available."""
        self.any_unavailable = True
        if retry_after_s is not None:
            known_s = self._retry_after_s
            self._retry_after_s = retry_after_s if known_s is None else min(retry_after_s, known_s)

    def rejected(self, ended: UnderWay, judged: Judged, *, may_follow: bool) -> None:
        """An answer was not accepted. `may_follow`: others may be called even after the last one."""
        rung = ended.rung
        rung.is_rejected = True
        if rung.index > self._notes_of:
            self.notes, self._notes_of = judged.notes, rung.index
        if ended.call.is_last and not judged.is_empty:
            self._last_attempt = judged.attempt
        elif ended.call.is_last:
            self.any_unavailable = True
            if not may_follow and self.no_more is None:
                self.no_more = FailReason.NO_MODEL_AVAILABLE
        elif not judged.is_hard_failure and not judged.is_empty:
            rung.soft_attempt = judged.attempt

    def rejected_below(self, index: int) -> int:
        """How many rungs below this one had an answer rejected."""
        return sum(rung.is_rejected for rung in self._rungs[:index])

    def end(self) -> Return | Fail | None:
        """The end, when nothing may be called any more; else None."""
        if self._last_attempt is not None:
            return Return(self._last_attempt, accepted=False)
        return None if self.no_more is None else self.without_answer(self.no_more)

    def without_answer(self, reason: FailReason | None = None) -> Return | Fail:
        """The end when no answer can follow: the best of the unproven ones, if there is any.

        Without a reason, it is what kept the targets from being called.
        """
        for rung in reversed(self._rungs):
            if rung.soft_attempt is not None:
                return Return(rung.soft_attempt, accepted=False)
        if reason is None:
            only_costly = self.any_too_costly and not self.any_unavailable
            reason = FailReason.COST_CEILING if only_costly else FailReason.NO_MODEL_AVAILABLE
        return Fail(reason, self._retry_after_s if reason is FailReason.NO_MODEL_AVAILABLE else None)
