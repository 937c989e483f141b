"""What the executor did: attempts, verdicts, the answer. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spillway.chat import FinishReason, Message, ToolCall, Usage

__all__ = [
    "AnswerDelta",
    "Attempt",
    "AttemptOutcome",
    "AttemptPurpose",
    "Execution",
    "FailedExecution",
    "GateVerdict",
    "Verdict",
]


class Verdict(StrEnum):
    """What a gate says of an answer."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    ABSTAIN = "abstain"


class AttemptOutcome(StrEnum):
    """How one call of one target ended."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ERROR = "error"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    EVIDENCE = "evidence"


class AttemptPurpose(StrEnum):
    """What one call of one target was for."""

    ANSWER = "answer"
    HEDGE = "hedge"
    SECOND_OPINION = "second_opinion"
    SELF_EVALUATION = "self_evaluation"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate said: `score` in [0, 1] or None; `reason` never quotes the answer."""

    gate: str
    verdict: Verdict
    reason: str
    score: float | None = None
    cost_nanousd: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one target.

    `cost_excess_nanousd`: how much of `cost_nanousd` only a bound has in it, because nobody counted the call; what is
    left is the estimate. 0 for a call that was counted.
    """

    tier: str
    target: str
    model: str
    provider: str
    outcome: AttemptOutcome
    verdicts: tuple[GateVerdict, ...] = ()
    usage: Usage | None = None
    cost_nanousd: int = 0
    started_after_s: float = 0.0
    latency_s: float = 0.0
    time_to_first_token_s: float | None = None
    error_reason: str = ""
    finish_reason: FinishReason = FinishReason.UNKNOWN
    purpose: AttemptPurpose = AttemptPurpose.ANSWER
    cost_excess_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """A piece of an answer: text to append, and tool calls that are complete."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of a plan. `accepted` is False when the last tier that could be asked answered without proof."""

    message: Message
    finish_reason: FinishReason
    accepted: bool
    tier: str
    target: str
    model: str
    attempts: tuple[Attempt, ...]
    usage: Usage
    usage_total: Usage
    cost_nanousd: int
    escalations: int = 0
    fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class FailedExecution:
    """What an execution without an answer had done."""

    attempts: tuple[Attempt, ...]
    cost_nanousd: int = 0
    escalations: int = 0
    fallbacks: int = 0
