"""Puts answers that were admitted into store and index, and takes out what is oftener wrong than right.

Promises: an answer that was invalidated since its moment is not kept; a store that is away is an outcome; who stores
another answer under a key begins its verdicts anew; what could not be taken out is taken out with its next verdict,
though that was told before. Belongs to one event loop.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from services.cache.entry import Entry
from services.cache.entry_group import SECRET_BYTES, founded_group
from services.cache.entry_verdicts import EntryVerdicts
from services.cache.index.vector_index import VectorIndex
from services.cache.matching.nearby import Meaning
from services.cache.matching.semantic_search import SemanticSearch
from services.cache.outcomes import Stats, Stored, StoreResult
from services.cache.store.answer_store import AnswerStore, StoreUnavailableError

__all__ = ["AnswerKeeper"]


class AnswerKeeper:
    """Counts in `stats` what becomes of answers."""

    def __init__(self, store: AnswerStore, index: VectorIndex, *, stats: Stats) -> None:
        self._store = store
        self._index = index
        self._stats = stats
        self._verdicts = EntryVerdicts()
        self._group_secret = secrets.token_bytes(SECRET_BYTES)

    async def keep(self, entry: Entry, meaning: Meaning | str, *, search: SemanticSearch, since: str) -> Stored:
        """Unless an invalidation since that moment takes it. `meaning`: why it is only found exactly, if it is."""
        if isinstance(meaning, Meaning) and not entry.group:
            entry = replace(entry, group=founded_group(entry.key, entry.answer, secret=self._group_secret))
        try:
            if not await self._store.put(entry, since=since):
                self._stats.not_admitted += 1
                self._stats.overtaken += 1
                return Stored(StoreResult.NOT_ADMITTED, reason="invalidated")
        except StoreUnavailableError:
            return self.dropped()
        self._stats.stored += 1
        self._verdicts.forget(entry.key)
        search.removed(entry.key)
        if isinstance(meaning, Meaning):
            search.stored(entry, meaning.task_type)
            self._index.add(
                entry.key,
                partition=meaning.partition,
                model=meaning.model,
                vector=meaning.vector,
                expires_at_unix_s=entry.expires_at_unix_s,
            )
        return Stored(StoreResult.STORED, entry.key)

    def dropped(self) -> Stored:
        """Of an answer that the store did not take in time."""
        self._stats.dropped += 1
        return Stored(StoreResult.UNAVAILABLE, reason="the store did not answer in time")

    async def hear(self, entry: Entry, *, search: SemanticSearch, is_right: bool, counts: bool) -> None:
        """Of a verdict, or one that does not count, as it was told before. Deletes the entry when it is oftener wrong
        than right. Raises StoreUnavailableError."""
        if counts:
            self._verdicts.count(entry.key, right=is_right)
        if self._verdicts.condemns(entry.key):
            await self._store.delete([entry.key])
            search.removed(entry.key)
            self._verdicts.forget(entry.key)
