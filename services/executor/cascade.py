"""The cascade: which model to ask next, when to stop, and which answer to return. A machine without I/O or clock.

Its user repeats: `next()` for an action; carry it out; feed what happened. It promises
- rungs in the plan's order, cheapest first, none twice; DIRECT has only the first;
- a rejected answer escalates to the next rung, at most `escalations_max` times;
- a target that is not available falls back to the next of its rung, then to the next rung (no escalation);
- no step that may exceed the cost ceiling, none without time for it (the rules stand in `budget`);
- an accepted answer is returned at once. Unproven answers are returned only when nothing can follow: that of the last
  rung that may be reached unless it is empty, else the highest that failed only soft gates;
- a request that a provider refuses is tried nowhere else.

    state      input                                        next state
    READY      next() -> Call                               CALLING
               next() -> Skip                               READY
               next() -> Return | Fail                      DONE
    CALLING    answered() | unavailable() | skipped()       READY
    DONE       nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.executor.budget import ATTEMPT_S_MIN, CostCeiling, attempt_timeout_s, rung_reserve_s
from services.executor.outcome import FailureKind, ProviderFailure
from spillway.routing import Plan, PlannedTier, Strategy

__all__ = [
    "COST_CEILING",
    "Action",
    "Call",
    "Cascade",
    "CascadeError",
    "Fail",
    "FailReason",
    "Judged",
    "Return",
    "Skip",
]

COST_CEILING: Final = "COST_CEILING"  # the error_reason of a Skip


class FailReason(StrEnum):
    """Why there is no answer; the names are those of ErrorReason."""

    NO_MODEL_AVAILABLE = "NO_MODEL_AVAILABLE"
    COST_CEILING = "COST_CEILING"
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class CascadeError(RuntimeError):
    """An input that its state does not allow. Always a defect of the caller."""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask `target`. What its gates ask of others is their own affair."""

    tier: PlannedTier
    target: str
    timeout_s: float
    notes: tuple[str, ...] = ()
    is_last: bool = False
    """Whether its answer is returned whatever the gates say of it (unless it is empty)."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Record that a target was not called, and why."""

    tier: PlannedTier
    target: str
    error_reason: str


@dataclass(frozen=True, slots=True)
class Return:
    """The end: the answer of the attempt with this number."""

    attempt: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """The end: no answer. `retry_after_s` is the soonest time at which a target said to ask again."""

    reason: FailReason
    retry_after_s: float | None = None


Action = Call | Skip | Return | Fail


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer as the gates see it. `attempt` is the caller's number for it; `notes` say what was wrong."""

    attempt: int
    accepted: bool
    is_hard_failure: bool = False
    is_empty: bool = False
    notes: tuple[str, ...] = ()


class _State(StrEnum):
    READY = "ready"
    CALLING = "calling"
    DONE = "done"


class Cascade:
    """One execution. `estimates_nanousd` holds the most that one call of each target of the plan may cost."""

    def __init__(self, plan: Plan, estimates_nanousd: Mapping[str, int]) -> None:
        self._rungs = plan.tiers[:1] if plan.strategy is Strategy.DIRECT else plan.tiers
        self._escalations_max = plan.escalations_max
        self._estimates = estimates_nanousd
        self._ceiling = CostCeiling(plan.cost_nanousd_max)
        self._state = _State.READY
        self._rung = 0
        self._entered = False
        self._reserve_s = 0.0
        self._untried: list[str] = []
        self._called = ""
        self._rejected = False  # since the last call: the next call is an escalation
        self._failed_over = False  # since the last call: the next call in the same rung is a fallback
        self._notes: tuple[str, ...] = ()
        self._soft_attempt: int | None = None
        self._end: Return | Fail | None = None
        self._any_unavailable = False
        self._any_too_costly = False
        self._retry_after_s: float | None = None
        self.escalations = 0
        self.fallbacks = 0

    def next(self, remaining_s: float) -> Action:
        """What to do now, with `remaining_s` seconds left of the whole deadline."""
        self._require(_State.READY)
        if self._end is not None:
            return self._finish(self._end)
        while self._rung < len(self._rungs):
            if remaining_s < ATTEMPT_S_MIN:
                return self._finish(self._without_answer(FailReason.DEADLINE_EXCEEDED))
            self._enter_rung(remaining_s)
            if self._untried:
                action = self._step(remaining_s)
                if action is not None:
                    return action
            self._leave_rung()
        return self._finish(self._without_answer(self._reason()))

    def answered(self, judged: Judged, spent_nanousd: int, *, by_second: bool = False) -> None:
        """The call was answered. `by_second`: the target was not available, and its second opinion stands in."""
        self._require(_State.CALLING)
        self._state = _State.READY
        self._ceiling.spend(spent_nanousd)
        self.fallbacks += by_second
        if judged.accepted:
            self._end = Return(judged.attempt, accepted=True)
        elif self._is_last():
            if not judged.is_empty:
                self._end = Return(judged.attempt, accepted=False)
            else:
                self._any_unavailable = True
                self._end = self._without_answer(FailReason.NO_MODEL_AVAILABLE)
        else:
            if not judged.is_hard_failure and not judged.is_empty:
                self._soft_attempt = judged.attempt
            self._notes = judged.notes
            self._rejected = True
            self._leave_rung()

    def unavailable(self, failure: ProviderFailure, spent_nanousd: int) -> None:
        """The call failed."""
        self._require(_State.CALLING)
        self._state = _State.READY
        self._ceiling.spend(spent_nanousd)
        if failure.kind is FailureKind.REJECTED:
            self._end = self._without_answer(FailReason.PROVIDER_REJECTED)
            return
        self._lost(failure.retry_after_s)

    def skipped(self, retry_after_s: float | None) -> None:
        """The call was not made: no place, or an open breaker."""
        self._require(_State.CALLING)
        self._state = _State.READY
        self._lost(retry_after_s)

    def _step(self, remaining_s: float) -> Action | None:
        """The next step within the rung, or None when its time is up."""
        rung = self._rungs[self._rung]
        target = self._untried[0]
        timeout_s = attempt_timeout_s(
            remaining_s, self._reserve_s, rung.attempt_timeout_s, has_fallback=len(self._untried) > 1
        )
        if timeout_s is None:
            self._any_unavailable = True
            return None
        if not self._ceiling.admits(self._estimates[target]):
            self._untried.pop(0)
            self._any_too_costly = True
            return Skip(rung, target, COST_CEILING)
        self._untried.pop(0)
        self._state = _State.CALLING
        self._called = target
        self.escalations += self._rejected
        self.fallbacks += self._failed_over
        self._rejected = self._failed_over = False
        return Call(rung, target, timeout_s, self._notes, self._is_last())

    def _lost(self, retry_after_s: float | None) -> None:
        self._any_unavailable = True
        self._failed_over = True
        if retry_after_s is not None:
            self._retry_after_s = min(retry_after_s, self._retry_after_s or retry_after_s)

    def _is_last(self) -> bool:
        """Whether no answer of a higher rung may follow because of quality."""
        return self._rung == len(self._rungs) - 1 or self.escalations + self._rejected >= self._escalations_max

    def _enter_rung(self, remaining_s: float) -> None:
        if self._entered:
            return
        self._entered = True
        self._untried = list(self._rungs[self._rung].targets)
        self._reserve_s = rung_reserve_s(remaining_s, is_last=self._rung == len(self._rungs) - 1)

    def _leave_rung(self) -> None:
        self._rung += 1
        self._entered = self._failed_over = False

    def _reason(self) -> FailReason:
        if self._any_too_costly and not self._any_unavailable:
            return FailReason.COST_CEILING
        return FailReason.NO_MODEL_AVAILABLE

    def _without_answer(self, reason: FailReason) -> Return | Fail:
        """The end when no answer can follow: the best of the unproven ones, if there is any."""
        if self._soft_attempt is not None:
            return Return(self._soft_attempt, accepted=False)
        return Fail(reason, self._retry_after_s if reason is FailReason.NO_MODEL_AVAILABLE else None)

    def _finish(self, end: Return | Fail) -> Return | Fail:
        self._state = _State.DONE
        return end

    def _require(self, state: _State) -> None:
        if self._state is not state:
            raise CascadeError(f"the cascade is {self._state}, not {state}")
