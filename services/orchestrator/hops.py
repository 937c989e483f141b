"""The other services, as the orchestrator sees them: three narrow Protocols and their values.

Promises of every implementation: a call has a time limit, given by the caller. The cache and the classifier can be done
without: whatever goes wrong with them (no connection, a timeout, an error status, an answer that makes no sense) comes
back as a value. The executor cannot: its failures are SpillwayErrors, with the code, reason and public text that it
gave. Cancelling the caller cancels the call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest, Embedding
from spillway.routing import (
    AnswerDelta,
    CachedAnswer,
    CacheOutcome,
    Classification,
    Execution,
    FailedExecution,
    Plan,
    TaskType,
    TierOutcome,
)

__all__ = [
    "OLD_MOMENT",
    "Again",
    "CacheHop",
    "CacheQuery",
    "CacheReply",
    "ClassifierHop",
    "EvidenceVerdict",
    "ExecutionError",
    "ExecutorHop",
    "Judgement",
    "StoreResult",
    "Unanswered",
]


OLD_MOMENT: Final = "-"
"""No moment at all, and so as old as can be: with it the cache learns from an answer, and does not keep it."""


@dataclass(frozen=True, slots=True)
class CacheQuery:
    """What to look for, or under what to store: whose answers, the request, and the last user turn as a vector."""

    tenant: str
    namespace: str
    template_version: str
    knowledge_version: str
    chat: ChatRequest
    embedding: Embedding | None = None
    task_type: TaskType | None = None


@dataclass(frozen=True, slots=True)
class CacheReply:
    """What the cache said; `answer` is set exactly for hits.

    `audit`: the hit was chosen for an audit, that is for asking a model as well once the answer has left.
    `store_token`: for storing what a model answers that is asked after this; opaque, and the same for two lookups of a
    tenant only when nothing of it was invalidated between them. Empty: the cache does not say, and nothing is stored.
    """

    outcome: CacheOutcome
    answer: CachedAnswer | None = None
    audit: bool = False
    store_token: str = ""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of an answer: "stored", "not_admitted" (and by which rule), or "unavailable"."""

    outcome: str
    reason: str = ""

    @property
    def is_overtaken(self) -> bool:
        """Whether the answer was invalidated after its model had been asked, so that the next one's may be taken."""
        return self.outcome == "not_admitted" and self.reason == "invalidated"


class EvidenceVerdict(StrEnum):
    """What a fresh answer says of one that was found."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the classifier said; the embedding only when it was wanted and there is a model."""

    classification: Classification
    embedding: Embedding | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An optional service gave no answer that could be used; `reason` is a word for logs and metrics."""

    reason: str


class ExecutionError(SpillwayError):
    """An error in which the executor says what it had done: all of it is in `failed`."""

    def __init__(self, meant: SpillwayError, failed: FailedExecution) -> None:
        super().__init__(
            meant.code,
            meant.reason,
            meant.public,
            detail=meant.detail,
            violations=meant.violations,
            retry_after_s=meant.retry_after_s,
            metadata=meant.metadata,
        )
        self.failed = failed


class CacheHop(Protocol):
    """The cache."""

    async def lookup(self, query: CacheQuery, *, skip_exact: bool, peek: bool, timeout_s: float) -> CacheReply:
        """Look for an answer; a cache that does not answer is an outcome of kind UNAVAILABLE.

        `peek`: nothing will be served, so it counts nowhere.
        """
        ...

    async def store(
        self,
        query: CacheQuery,
        answer: CachedAnswer,
        *,
        ttl_s: float | None,
        tags: tuple[str, ...],
        token: str,
        timeout_s: float,
    ) -> StoreResult:
        """Offer an answer for storing. `token`: of the lookup before the model was asked."""
        ...

    async def record_evidence(
        self,
        query: CacheQuery,
        entry_key: str,
        fresh: CachedAnswer,
        *,
        ttl_s: float | None,
        tags: tuple[str, ...],
        token: str,
        timeout_s: float,
        answer_version: str = "",
    ) -> EvidenceVerdict:
        """Tell what a model answered to a request for which the entry was found by meaning, with what `store` would
        be told of that request. `answer_version`: of the answer that was found; empty when that is not known."""
        ...


class ClassifierHop(Protocol):
    """The classifier."""

    async def classify(self, chat: ChatRequest, *, want_embedding: bool, timeout_s: float) -> Judgement | Unanswered:
        """Judge the prompt, and embed its last user turn when that is wanted."""
        ...

    async def record_outcomes(self, outcomes: Sequence[TierOutcome], *, timeout_s: float) -> bool:
        """Tell how answers turned out; False when it did not arrive."""
        ...


Again = Callable[[], Awaitable[Plan | None]]
"""What to send when a call was lost with its executor and may have cost something: a plan, or None for nothing more."""


class ExecutorHop(Protocol):
    """The executor."""

    async def execute(
        self,
        chat: ChatRequest,
        plan: Plan,
        *,
        task_type: TaskType | None,
        timeout_s: float,
        again: Again | None = None,
    ) -> Execution:
        """Run the plan. Raises SpillwayError, ExecutionError where it is known what was done in vain.

        Without `again` a call that was lost is sent again as it was.
        """
        ...

    def stream(
        self,
        chat: ChatRequest,
        plan: Plan,
        *,
        task_type: TaskType | None,
        timeout_s: float,
        again: Again | None = None,
    ) -> AsyncGenerator[AnswerDelta | Execution, None]:
        """Run the plan; deltas as they come, then the Execution, last and once. Raises as `execute`."""
        ...
