"""An execution that ends without an answer: what its caller is told, and what it had done until then.

Promises: pure. What is told is the public half: a reason, and what became of each target last, by their configured
names. When a call that was given the whole of the time used it up, it was the time that was lacking, not a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc

from services.executor.budget import ATTEMPT_S_MIN
from services.executor.lease import CONCURRENCY_LIMIT
from services.executor.steps import Fail, FailReason
from services.runtime.errors import SpillwayError
from spillway.routing import Attempt, AttemptOutcome, FailedExecution

__all__ = ["ATTEMPTS_CHARS_MAX", "NoAnswerError", "busy_targets", "no_answer"]

ATTEMPTS_CHARS_MAX: Final = 1_024
_MEANINGS: Final = {
    FailReason.COST_CEILING: (
        grpc.StatusCode.FAILED_PRECONDITION,
        "every model that could answer would cost more than is allowed",
    ),
    FailReason.PROVIDER_REJECTED: (grpc.StatusCode.FAILED_PRECONDITION, "the provider refused the request itself"),
    FailReason.DEADLINE_EXCEEDED: (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "the time ran out before an answer was there",
    ),
    FailReason.NO_MODEL_AVAILABLE: (grpc.StatusCode.UNAVAILABLE, "no model could answer"),
    FailReason.OVERLOADED: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "every model that could answer has as many calls under way as it may",
    ),
    FailReason.STREAM_INTERRUPTED: (
        grpc.StatusCode.UNAVAILABLE,
        "the stream broke off; what was received is incomplete",
    ),
}
_MAY_BE_LATE: Final = frozenset({FailReason.NO_MODEL_AVAILABLE, FailReason.STREAM_INTERRUPTED})


class NoAnswerError(SpillwayError):
    """Why there is no answer, and what had been done for one."""

    def __init__(self, reason: FailReason, retry_after_s: float | None, failed: FailedExecution) -> None:
        code, public = _MEANINGS[reason]
        told = _told(failed.attempts)
        super().__init__(
            code,
            reason.value,
            public,
            detail=told,
            retry_after_s=retry_after_s,
            metadata=[("attempts", told)] if told else [],
        )
        self.failed = failed


def no_answer(end: Fail, failed: FailedExecution, *, remaining_s: float, retry_after_s: float) -> NoAnswerError:
    """The error for `end`, with `remaining_s` left; `retry_after_s` is for an end that names no time itself."""
    if end.reason in _MAY_BE_LATE and remaining_s < ATTEMPT_S_MIN and _ended_by_time(failed.attempts):
        return NoAnswerError(FailReason.DEADLINE_EXCEEDED, None, failed)
    if end.reason is FailReason.NO_MODEL_AVAILABLE and end.retry_after_s is None:
        return NoAnswerError(end.reason, retry_after_s, failed)
    return NoAnswerError(end.reason, end.retry_after_s, failed)


def busy_targets(error: NoAnswerError) -> frozenset[str]:
    """Those for a place at which it is worth waiting: nothing was called, and these for want of a place alone."""
    attempts = error.failed.attempts
    if any(attempt.outcome is not AttemptOutcome.SKIPPED for attempt in attempts):
        return frozenset()
    return frozenset(attempt.target for attempt in attempts if attempt.error_reason == CONCURRENCY_LIMIT)


def _ended_by_time(attempts: Sequence[Attempt]) -> bool:
    """Whether the call that ended last timed out."""
    made = [attempt for attempt in attempts if attempt.outcome is not AttemptOutcome.SKIPPED]
    last = max(made, key=lambda attempt: attempt.started_after_s + attempt.latency_s, default=None)
    return last is not None and last.outcome is AttemptOutcome.TIMEOUT


def _told(attempts: Sequence[Attempt]) -> str:
    """What became of each target last, "TARGET:WHY" joined by commas; as many as there is room for."""
    last = {attempt.target: attempt.error_reason or attempt.outcome.value.upper() for attempt in attempts}
    told = ""
    for target, why in last.items():
        longer = f"{told},{target}:{why}" if told else f"{target}:{why}"
        if len(longer.encode()) > ATTEMPTS_CHARS_MAX:
            break
        told = longer
    return told
