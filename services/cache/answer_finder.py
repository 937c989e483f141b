"""Finds the answer that may serve a request: that of the same request, or of one with the same meaning.

Promises: a hit is an entry that the store still has, of the request's own scope, and that has not expired; one that is
found exactly and can be found by meaning is in the index afterwards, which may have lost it, e.g. while a clock was
ahead. Belongs to one event loop.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from services.cache.answer_version import answer_version
from services.cache.entry import Entry, Scope
from services.cache.index.vector_index import DimensionMismatchError, InvalidVectorError, VectorIndex, unit_vector
from services.cache.matching.nearby import Meaning
from services.cache.matching.semantic_search import SemanticSearch
from services.cache.outcomes import Found
from services.cache.store.answer_store import AnswerStore
from services.runtime.clock import Clock
from spillway.routing import CacheKind, CacheOutcome

__all__ = ["AnswerFinder", "missed"]


class AnswerFinder:
    """See the head of the file."""

    def __init__(self, store: AnswerStore, index: VectorIndex, *, clock: Clock) -> None:
        self._store = store
        self._index = index
        self._clock = clock

    def exact(self, scope: Scope, entry: Entry | None) -> Found | None:
        """A hit, if the entry of the request's key serves that scope now."""
        if entry is None or entry.scope != scope or entry.expires_at_unix_s <= self._clock.unix():
            return None
        if entry.question and entry.partition and entry.key not in self._index:
            self._index_again(entry)
        return Found(self._hit(CacheKind.EXACT_HIT, entry, "the same request", None), entry.answer)

    async def similar(self, scope: Scope, key: str, meaning: Meaning, *, search: SemanticSearch, peek: bool) -> Found:
        """By meaning; exactly where the request was stored since its exact lookup, e.g. by a caller who asked the same
        at the same time. Raises StoreUnavailableError."""
        compared = self._index.entries_in(meaning.partition)
        if key in self._index:
            (entry,) = await self._store.get_many((key,))
            if (same := self.exact(scope, entry)) is not None:
                return same
        try:
            finding = await search.find(scope, meaning, request_key=key, peek=peek)
        except DimensionMismatchError:
            return missed("the stored questions' embeddings have another dimension")
        if finding.entry is None:
            outcome = CacheOutcome(CacheKind.MISS, finding.reason, similarity=finding.similarity)
            return Found(outcome, None, compared, explanation=finding.explanation)
        outcome = replace(
            self._hit(CacheKind.SEMANTIC_HIT, finding.entry, finding.reason, finding.similarity),
            answer_version=answer_version(finding.entry.answer),
        )
        return Found(outcome, finding.entry.answer, compared, finding.audit, finding.explanation)

    def _index_again(self, entry: Entry) -> None:
        with suppress(InvalidVectorError, DimensionMismatchError):  # of another model's size by now, say
            self._index.add(
                entry.key,
                partition=entry.partition,
                model=entry.embedding_model,
                vector=unit_vector(entry.vector),
                expires_at_unix_s=entry.expires_at_unix_s,
            )

    def _hit(self, kind: CacheKind, entry: Entry, reason: str, similarity: float | None) -> CacheOutcome:
        age_s = max(0.0, self._clock.unix() - entry.stored_at_unix_s)
        return CacheOutcome(kind, reason, similarity=similarity, entry_key=entry.key, age_s=age_s)


def missed(reason: str) -> Found:
    """Without a comparison."""
    return Found(CacheOutcome(CacheKind.MISS, reason))
