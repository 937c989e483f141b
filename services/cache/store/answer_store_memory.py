"""Answers in this process's memory: packed, bounded, with what matters most kept longest.

Promises: those of every store; an invalidation holds as soon as it begins, while its entries are still looked for and
deleted, and ends with all of them gone, whether or not its caller waits for that; large deletions and searches give
other tasks their turns; no single put pays for much that expired.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from services.cache.entry import Entry, Question, Selector
from services.cache.store.answer_store import (
    CaughtUp,
    Change,
    Forget,
    Indexed,
    IndexedMany,
    Removed,
    StoreUnavailableError,
)
from services.cache.store.change_log import ChangeLog
from services.cache.store.entry_codec import (
    Common,
    Outline,
    outline_of,
    pack_entry,
    unpack_entry,
    unpack_question,
    unpack_vector,
)
from services.cache.store.eviction import Evictor
from services.cache.store.memory_history import MemoryHistory
from services.runtime.clock import Clock
from services.runtime.tasks import end_tasks

__all__ = ["MemoryStore"]

OVERHEAD_BYTES = 1_024
"""What an entry takes beside its contents: keys, records of expiry and use, its place in the index."""


@dataclass(slots=True)
class _Kept:
    """An entry in memory. Not frozen: a million are made at a start, and frozen ones take three times as long."""

    packed: bytes
    common: Common
    expires_at_unix_s: float
    moment: int


class MemoryStore:
    """Entries in this process's memory: for one machine and for tests. `history`: of its invalidations. Belongs to one
    event loop."""

    INVALIDATIONS_MAX = 1_000
    """Invalidations remembered for entries on their way here; one that is overtaken by more is not stored."""

    SWEEPS_MAX = 256
    """Invalidations under way at a time; further ones are refused at once. Every entry that is read is held against
    each."""

    CHANGES_MAX = 10_000
    """Changes kept for followers; one that is further behind begins anew."""

    EXPIRED_PER_PUT_MAX = 64
    """Expired entries that each put removes, so that no single call pays for many."""

    DELETED_PER_TURN_MAX = 256
    """Entries deleted before other tasks get a turn, about a millisecond, for followers too."""

    ENTRIES_PER_TURN_MAX = 2_000
    """Entries looked through before other tasks get a turn, about a millisecond."""

    TOLD_AT_ONCE_MAX = 1_000
    """Entries in one IndexedMany, about a millisecond of work here, and as much for the index."""

    def __init__(
        self,
        *,
        entries_max: int,
        clock: Clock,
        bytes_max: int = 536_870_912,
        tenant_entries_max: int | None = None,
    ) -> None:
        self._clock = clock
        self._evictor = Evictor(
            entries_max=entries_max, tenant_entries_max=tenant_entries_max or entries_max, bytes_max=bytes_max
        )
        self._entries: dict[str, _Kept] = {}
        self._expiries: list[tuple[float, str]] = []
        self._log = ChangeLog(self.CHANGES_MAX)
        self._evicted = 0
        self.history = MemoryHistory(self.INVALIDATIONS_MAX)
        self._sweeps: set[asyncio.Task[int]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def evicted(self) -> int:
        return self._evicted

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        return [None if (kept := self._living(key)) is None else unpack_entry(key, kept.packed) for key in keys]

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        return [None if (kept := self._living(key)) is None else unpack_question(key, kept.packed) for key in keys]

    async def read(self, key: str) -> tuple[Entry | None, str]:
        (entry,) = await self.get_many((key,))
        return entry, await self.moment(key)

    async def moment(self, key: str) -> str:
        return self.history.moment

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        moment = self.history.admits(entry, since)
        if moment is None:
            return False
        self.expire(self.EXPIRED_PER_PUT_MAX)
        self.take_in(entry, pack_entry(entry), moment=moment)
        return True

    def take_in(self, entry: Entry, packed: bytes, *, moment: int) -> tuple[str, ...]:
        """A put of an entry that was packed and admitted before; the keys of those that had to leave."""
        key, outline = entry.key, outline_of(entry)
        self._drop(key)
        evicted = tuple(
            self._evictor.add(
                key,
                tenant=entry.scope.tenant,
                size_bytes=OVERHEAD_BYTES + len(packed),
                cost_nanousd=outline.cost_nanousd,
            )
        )
        for each in evicted:
            del self._entries[each]
        if evicted:
            self._evicted += len(evicted)
            self._log.tell(Removed(evicted))
        self._entries[key] = _Kept(packed, outline.common, outline.expires_at_unix_s, moment)
        heapq.heappush(self._expiries, (outline.expires_at_unix_s, key))
        if len(self._expiries) > 2 * len(self._entries) + self.EXPIRED_PER_PUT_MAX:
            self._expiries = [(kept.expires_at_unix_s, name) for name, kept in self._entries.items()]
            heapq.heapify(self._expiries)
        if entry.partition:
            self._log.tell(
                Indexed(key, entry.partition, entry.embedding_model, entry.vector, outline.expires_at_unix_s)
            )
        return evicted

    def expire(self, count: int) -> list[str]:
        """Forgets up to `count` entries whose time has come; their keys. Followers know the times."""
        now, expired = self._clock.unix(), []
        for _ in range(count):
            if not self._expiries or self._expiries[0][0] > now:
                break
            _, key = heapq.heappop(self._expiries)
            kept = self._entries.get(key)
            if kept is not None and kept.expires_at_unix_s <= now:
                self._drop(key)
                expired.append(key)
        return expired

    def fill(self, rows: Iterable[tuple[str, bytes, Outline]]) -> list[str]:
        """Puts of packed entries of different keys into an empty store that nobody follows yet, the oldest first, for a
        fraction of the time; the keys of those for which there is no room. Any thread may do it, while nobody else uses
        the store."""
        entries, expiries = self._entries, self._expiries

        def kept() -> Iterator[tuple[str, str, int, int]]:
            for key, packed, (common, expires_at_unix_s, cost_nanousd) in rows:
                entries[key] = _Kept(packed, common, expires_at_unix_s, 0)
                expiries.append((expires_at_unix_s, key))
                yield key, common.scope.tenant, OVERHEAD_BYTES + len(packed), cost_nanousd

        evicted = self._evictor.fill(kept())
        heapq.heapify(expiries)
        for key in evicted:
            del entries[key]
        self._evicted += len(evicted)
        return evicted

    async def find(self, selector: Selector) -> list[str]:
        return await self._matching(selector, lambda key: self._living(key) is not None)

    async def _matching(self, selector: Selector, is_meant: Callable[[str], bool]) -> list[str]:
        if selector.entry_key is not None:
            keys: Iterable[str] = (selector.entry_key,)
        else:
            keys = tuple(self._entries) if selector.tenant is None else self._evictor.keys_of(selector.tenant)
        found = []
        for count, key in enumerate(keys, 1):
            kept = self._entries.get(key)
            if kept is not None and selector.takes(key, kept.common.scope, kept.common.tags) and is_meant(key):
                found.append(key)
            if count % self.ENTRIES_PER_TURN_MAX == 0:
                await asyncio.sleep(0)
        return found

    async def delete(self, keys: Sequence[str]) -> int:
        living = 0
        for start in range(0, len(keys), self.DELETED_PER_TURN_MAX):
            some = tuple(keys[start : start + self.DELETED_PER_TURN_MAX])
            if start:
                await asyncio.sleep(0)
            for key in some:
                living += self._unexpired(key) is not None
                self._drop(key)
            self._log.tell(Removed(some))
        return living

    async def invalidate(self, selector: Selector) -> int:
        """Goes on when its caller does not wait any more."""
        if len(self._sweeps) >= self.SWEEPS_MAX:
            raise StoreUnavailableError("too many invalidations are under way")
        holding = ExitStack()
        began = holding.enter_context(self.history.invalidating(selector))
        sweep = asyncio.create_task(self._sweep(selector, began, holding), name="cache-memory-invalidation")
        self._sweeps.add(sweep)
        sweep.add_done_callback(self._sweeps.discard)
        return await asyncio.shield(sweep)

    async def _sweep(self, selector: Selector, began: int, holding: ExitStack) -> int:
        removed = 0
        with holding:
            found = await self.taken(selector)
            for start in range(0, len(found), self.DELETED_PER_TURN_MAX):
                removed += await self.delete(self.older(found[start : start + self.DELETED_PER_TURN_MAX], began))
                await asyncio.sleep(0)
        return removed

    def older(self, keys: Iterable[str], moment: int) -> tuple[str, ...]:
        """Those of the keys under which nothing lies that was put at this moment or after it."""
        entries = self._entries
        return tuple(key for key in keys if (kept := entries.get(key)) is None or kept.moment < moment)

    async def taken(self, selector: Selector) -> list[str]:
        """The keys of all entries that the selector takes, also of those that nobody finds any more, and of those that
        have expired, as a clock may be put back."""
        return await self._matching(selector, lambda key: True)

    def served(self, key: str) -> None:
        self._evictor.use(key)

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        while True:
            told = self._log.told
            yield Forget()
            # What has changed when its turn comes is told again after this.
            keys, entries = tuple(self._entries), tuple(self._entries.values())
            for start in range(0, len(keys), self.TOLD_AT_ONCE_MAX):
                some = slice(start, start + self.TOLD_AT_ONCE_MAX)
                for batch in self._findable(keys[some], entries[some]):
                    yield batch
            del keys, entries  # or what is deleted from now on would be kept
            yield CaughtUp()
            async with aclosing(self._log.since(told)) as news:
                async for change in news:
                    yield change

    async def close(self) -> None:
        await end_tasks(self._sweeps)
        self._entries.clear()

    def _living(self, key: str) -> _Kept | None:
        kept = self._unexpired(key)
        if kept is None or self.history.is_quiet:
            return kept
        return None if self.history.takes(key, kept.moment, kept.common.scope, kept.common.tags) else kept

    def _unexpired(self, key: str) -> _Kept | None:
        kept = self._entries.get(key)
        return kept if kept is not None and kept.expires_at_unix_s > self._clock.unix() else None

    def _findable(self, keys: Sequence[str], entries: Sequence[_Kept]) -> Iterable[IndexedMany]:
        """Of these entries the living ones that can be found by meaning, by model."""
        by_model: dict[str, tuple[list[str], list[str], list[bytes], list[float]]] = {}
        now, swept = self._clock.unix(), not self.history.is_quiet
        for key, kept in zip(keys, entries, strict=True):
            common = kept.common
            if not common.partition or kept.expires_at_unix_s <= now or (swept and self._living(key) is None):
                continue
            columns = by_model.get(common.embedding_model)
            if columns is None:
                columns = by_model[common.embedding_model] = ([], [], [], [])
            columns[0].append(key)
            columns[1].append(common.partition)
            columns[2].append(unpack_vector(kept.packed))
            columns[3].append(kept.expires_at_unix_s)
        return [IndexedMany(model, *columns) for model, columns in by_model.items()]

    def _drop(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._evictor.remove(key)
