"""The answer of an execution, as the cache keeps it.

Promises: pure.
"""

from __future__ import annotations

from spillway.chat import FinishReason
from spillway.routing import AttemptOutcome, CachedAnswer, Execution, Verdict

__all__ = ["fresh_answer", "is_proven"]


def is_proven(execution: Execution) -> bool:
    """Whether it is a complete answer that the gates accepted."""
    return execution.accepted and execution.finish_reason is FinishReason.STOP


def fresh_answer(execution: Execution) -> CachedAnswer:
    """With the cost of the whole execution, every attempt counted."""
    return CachedAnswer(
        message=execution.message,
        finish_reason=execution.finish_reason,
        tier=execution.tier,
        target=execution.target,
        model=execution.model,
        usage=execution.usage,
        cost_nanousd=sum(attempt.cost_nanousd for attempt in execution.attempts),
        accepted=execution.accepted,
        score=_least_score(execution),
    )


def _least_score(execution: Execution) -> float | None:
    """The least score of the gates that the answer passed; None when none of them gives scores."""
    answering = [
        attempt
        for attempt in execution.attempts
        if attempt.outcome is AttemptOutcome.ACCEPTED and attempt.target == execution.target
    ]
    verdicts = answering[-1].verdicts if answering else ()
    passed = [verdict.score for verdict in verdicts if verdict.verdict is Verdict.PASS and verdict.score is not None]
    return min(passed, default=None)
