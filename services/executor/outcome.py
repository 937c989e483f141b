"""What a call of a model came to: an answer or a failure, as plain values.

Promises: no I/O and no wire format. Every provider says what happened in these words, and the breaker, the cascade
and the gates read nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spillway.chat import FinishReason, Message, Usage

__all__ = ["Answer", "FailureKind", "ProviderFailure"]


class FailureKind(StrEnum):
    """Why there is no answer, by what should happen next."""

    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    SPEND_CAP = "spend_cap"
    """The account has no money or quota left: asking again soon is in vain."""
    ERROR = "error"
    UNREADABLE = "unreadable"
    AUTH = "auth"
    """The target cannot be used as configured (401, 403, 404): another may be."""
    UNSUITABLE = "unsuitable"
    """This model cannot take this request (too long for it, a parameter that it does not know): another may."""
    REJECTED = "rejected"
    """The request itself is refused (another 4xx): another target would refuse it too."""

    @property
    def counts_against_target(self) -> bool:
        """Whether it says that the target is unwell: what is the request's or the configuration's fault does not."""
        return self not in {FailureKind.AUTH, FailureKind.UNSUITABLE, FailureKind.REJECTED}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote. `usage` is None when the provider counted nothing; `refused` when it said so itself.

    `logprobs` are the tokens of the text, each with its natural logarithm of the probability, when they were asked for
    and the provider has them for every token; else empty.
    """

    message: Message
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None
    model: str = ""
    refused: bool = False
    logprobs: tuple[tuple[str, float], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that a caller could use."""
        return not self.message.text.strip() and not self.message.tool_calls


@dataclass(frozen=True, slots=True)
class ProviderFailure:
    """No answer. `error_reason` is one of a fixed set (e.g. "PROVIDER_5XX"); `detail` is for logs, without prompts.

    `billable` when the provider may have worked, and charged, before it failed; `output_chars` is what arrived.
    """

    kind: FailureKind
    error_reason: str
    retry_after_s: float | None = None
    detail: str = ""
    billable: bool = False
    output_chars: int = 0
