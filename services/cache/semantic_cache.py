"""The cache as a use case: look up, store, invalidate, count; over a store of answers and an index of questions.

Promises: what the store cannot tell in time is an outcome, never an error, and no lookup takes longer than
`CachePolicy.lookup_s`. A hit is always an entry that the store still has: the index only proposes. An answer leaves its
scope under no circumstances: the key and the partition contain the scope, and the entry found is held against it once
more. What this replica stored or removed, its next lookup sees; what others did, it sees for removals at once and for
new entries as soon as the store's changes arrive.

Belongs to one event loop. `start` before use, `close` after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.cache.admission import (
    Allowances,
    TtlByFreshness,
    lifetime_s,
    only_exact_reason,
    refusal_reason,
    unfit_question,
)
from services.cache.answer_store import AnswerStore, StoreUnavailableError
from services.cache.entry import Answer, Entry, Scope, Selector
from services.cache.follower import Follower, Snapshots
from services.cache.partition import entry_key, partition_id, semantic_question
from services.cache.vector_index import DimensionMismatchError, Vector, VectorIndex, unit_vector
from services.cache.verifier import TEXT_CHARS_MAX, verify
from services.runtime.clock import Clock
from spillway.chat import ChatRequest, Embedding
from spillway.routing import CacheKind, CacheOutcome, TaskType

__all__ = ["CachePolicy", "Found", "SemanticCache", "Stats", "StoreResult", "Stored"]

CANDIDATES_MAX = 8
"""Nearest questions that are read, in one round trip, and verified. Near misses crowd together (order 17, order 18), so
the right one need not be the first."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """The rules. Only kinds of work in `semantic_task_types` are found by meaning, others exactly or not at all."""

    ttl: TtlByFreshness
    semantic_task_types: frozenset[TaskType]
    similarity_min: float
    entry_bytes_max: int
    lookup_s: float
    allowed: Allowances = field(default_factory=Allowances)


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a lookup; `answer` is set for a hit. `partition_entries` is how many questions were compared."""

    outcome: CacheOutcome
    answer: Answer | None = None
    partition_entries: int = 0


class StoreResult(StrEnum):
    """What became of an answer."""

    STORED = "stored"
    NOT_ADMITTED = "not_admitted"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an answer: its key when it was stored, the rule when it was refused."""

    result: StoreResult
    entry_key: str = ""
    reason: str = ""


@dataclass(slots=True)
class Stats:
    """Counts since the start."""

    lookups: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    unavailable: int = 0
    stored: int = 0
    not_admitted: int = 0
    dropped: int = 0
    indexed_entries: int = 0
    partitions: int = 0


@dataclass(frozen=True, slots=True)
class _Meaning:
    """By what a request is found when not by itself."""

    question: str
    partition: str
    model: str
    vector: Vector


class SemanticCache:
    """See the head of the file."""

    def __init__(
        self,
        store: AnswerStore,
        index: VectorIndex,
        *,
        policy: CachePolicy,
        clock: Clock,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._store = store
        self._index = index
        self._policy = policy
        self._clock = clock
        self._stats = Stats()
        self._follower = Follower(store, index, clock=clock, snapshots=snapshots)

    async def start(self) -> None:
        """Returns when the index is warm, or known not to become so soon."""
        await self._follower.start()

    async def close(self) -> None:
        """Lets go of the store."""
        await self._follower.close()
        await self._store.close()

    async def lookup(
        self,
        scope: Scope,
        chat: ChatRequest,
        *,
        embedding: Embedding | None = None,
        task_type: TaskType | None = None,
        skip_exact: bool = False,
    ) -> Found:
        """The answer to this request, or to one with the same meaning. Raises InvalidVectorError."""
        vector = None if embedding is None else unit_vector(embedding.values)
        self._stats.lookups += 1
        if unfit := unfit_question(chat, self._policy.allowed):
            return _miss(f"never cached: the question is {unfit.replace('_', ' ')}")
        try:
            async with asyncio.timeout(self._policy.lookup_s):
                found = None if skip_exact else await self._find_exact(scope, chat)
                if found is None:
                    meaning = self._meaning(scope, chat, embedding, vector, task_type)
                    found = _miss(meaning) if isinstance(meaning, str) else await self._find_similar(scope, meaning)
        except (StoreUnavailableError, TimeoutError):
            found = Found(CacheOutcome(CacheKind.UNAVAILABLE, "the store did not answer in time"))
        self._count(found.outcome.kind)
        return found

    async def store(
        self,
        scope: Scope,
        chat: ChatRequest,
        answer: Answer,
        *,
        embedding: Embedding | None = None,
        task_type: TaskType | None = None,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
    ) -> Stored:
        """Stores the answer, if it may be. Raises InvalidVectorError and DimensionMismatchError."""
        vector = None if embedding is None else unit_vector(embedding.values)
        if embedding is not None and vector is not None:
            self._index.check_dimension(embedding.model, vector)
        reason = refusal_reason(answer, size_bytes_max=self._policy.entry_bytes_max)
        if reason := reason or unfit_question(chat, self._policy.allowed):
            self._stats.not_admitted += 1
            return Stored(StoreResult.NOT_ADMITTED, reason=reason)
        meaning = self._meaning(scope, chat, embedding, vector, task_type)
        found_by = meaning if isinstance(meaning, _Meaning) else None
        now = self._clock.unix()
        entry = Entry(
            key=entry_key(scope, chat),
            scope=scope,
            answer=answer,
            stored_at_unix_s=now,
            expires_at_unix_s=now + lifetime_s(ttl_s, tags, self._policy.ttl),
            partition=found_by.partition if found_by else "",
            vector=found_by.vector.astype("<f4").tobytes() if found_by else b"",
            embedding_model=found_by.model if found_by else "",
            question=found_by.question if found_by else "",
            tags=tuple(tags),
        )
        try:
            await self._store.put(entry)
        except StoreUnavailableError:
            self._stats.dropped += 1
            return Stored(StoreResult.UNAVAILABLE, reason="the store did not answer in time")
        self._stats.stored += 1
        self._index.remove(entry.key)
        if found_by:
            self._index.add(
                entry.key,
                partition=found_by.partition,
                model=found_by.model,
                vector=found_by.vector,
                expires_at_unix_s=entry.expires_at_unix_s,
            )
        return Stored(StoreResult.STORED, entry.key)

    async def invalidate(self, selector: Selector, *, dry_run: bool) -> int:
        """Removes the entries, or only counts them; how many. Raises StoreUnavailableError: a removal must be known."""
        return len(await self._store.find(selector)) if dry_run else await self._store.invalidate(selector)

    def stats(self) -> Stats:
        """The counts as of now."""
        return replace(self._stats, indexed_entries=len(self._index), partitions=self._index.partitions)

    def _meaning(
        self,
        scope: Scope,
        chat: ChatRequest,
        embedding: Embedding | None,
        vector: Vector | None,
        task_type: TaskType | None,
    ) -> _Meaning | str:
        """By what the request is found, or why it is only found exactly."""
        question = semantic_question(chat)
        if embedding is None or vector is None:
            return "the same request is not stored"
        if task_type not in self._policy.semantic_task_types:
            return f"only found exactly: {'not classified' if task_type is None else task_type.value}"
        if reason := only_exact_reason(chat, self._policy.allowed):
            return f"only found exactly: {reason}"
        if not question.strip():
            return "only found exactly: no text in the last user turn"
        if len(question) > TEXT_CHARS_MAX:
            return "only found exactly: the last user turn is long"
        return _Meaning(question, partition_id(scope, chat, embedding.model), embedding.model, vector)

    async def _find_exact(self, scope: Scope, chat: ChatRequest) -> Found | None:
        key = entry_key(scope, chat)
        (entry,) = await self._store.get_many((key,))
        if entry is None or not self._serves(entry, scope):
            return None
        return Found(self._hit(CacheKind.EXACT_HIT, entry, "the same request", None), entry.answer)

    async def _find_similar(self, scope: Scope, meaning: _Meaning) -> Found:
        now = self._clock.unix()
        try:
            candidates = await self._index.search(
                meaning.partition, meaning.vector, count=CANDIDATES_MAX, now_unix_s=now
            )
        except DimensionMismatchError:
            return _miss("the stored questions' embeddings have another dimension")
        if not candidates:
            return _miss("no comparable question is stored")
        compared = self._index.entries_in(meaning.partition)
        nearest, least = candidates[0].similarity, self._policy.similarity_min
        near = [candidate for candidate in candidates if candidate.similarity >= least]
        if not near:
            return _miss(f"similarity {nearest:.3f} is below {least:.3f}", nearest, compared)
        refusals = []
        entries = await self._store.get_many([candidate.key for candidate in near])
        for candidate, entry in zip(near, entries, strict=True):
            if entry is None or not self._serves(entry, scope) or entry.partition != meaning.partition:
                self._index.remove(candidate.key)
                continue
            verdict = verify(meaning.question, entry.question, similarity=candidate.similarity, similarity_min=least)
            if verdict.hit:
                outcome = self._hit(CacheKind.SEMANTIC_HIT, entry, verdict.reason, candidate.similarity)
                return Found(outcome, entry.answer, compared)
            refusals.append(verdict.reason)
        return _miss(refusals[0] if refusals else "the nearest question is no longer stored", nearest, compared)

    def _serves(self, entry: Entry, scope: Scope) -> bool:
        return entry.scope == scope and entry.expires_at_unix_s > self._clock.unix()

    def _hit(self, kind: CacheKind, entry: Entry, reason: str, similarity: float | None) -> CacheOutcome:
        self._store.served(entry.key)
        age_s = max(0.0, self._clock.unix() - entry.stored_at_unix_s)
        return CacheOutcome(kind, reason, similarity=similarity, entry_key=entry.key, age_s=age_s)

    def _count(self, kind: CacheKind) -> None:
        self._stats.exact_hits += kind is CacheKind.EXACT_HIT
        self._stats.semantic_hits += kind is CacheKind.SEMANTIC_HIT
        self._stats.unavailable += kind is CacheKind.UNAVAILABLE


def _miss(reason: str, similarity: float | None = None, compared: int = 0) -> Found:
    return Found(CacheOutcome(CacheKind.MISS, reason, similarity=similarity), partition_entries=compared)
