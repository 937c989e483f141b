"""Where answers are kept: the interface, and the store in memory.

Promises of every store: an entry is found until its absolute expiry, and never after; a put replaces the entry of that
key; what cannot be reached in time raises StoreUnavailableError, within the store's time limit; `changes` lets any
number of followers keep an index, and tells them when they have to begin anew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.cache.admission import answer_size_bytes
from services.cache.entry import Entry, Selector
from services.runtime.clock import Clock

__all__ = [
    "AnswerStore",
    "CaughtUp",
    "Change",
    "Forget",
    "Indexed",
    "Interrupted",
    "MemoryStore",
    "Reached",
    "Removed",
    "StoreUnavailableError",
]


class StoreUnavailableError(Exception):
    """The store could not be reached, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """An entry that can be found by meaning was put."""

    key: str
    partition: str
    embedding_model: str
    vector: bytes
    expires_at_unix_s: float


@dataclass(frozen=True, slots=True)
class Removed:
    """Entries were deleted. Expiry is not told: followers know the times."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """What is known may be wrong. Everything that is there follows, and then CaughtUp."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The follower knows what the store knows."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The store cannot be reached; the follower is behind until the next CaughtUp."""


@dataclass(frozen=True, slots=True)
class Reached:
    """All changes up to this position were told. It may be handed to `changes` later, by another process too."""

    position: str


Change = Indexed | Removed | Forget | CaughtUp | Interrupted | Reached


class AnswerStore(Protocol):
    """A store of entries. All methods but `changes` and `close` may raise StoreUnavailableError."""

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        """The living entries of these keys, in this order. An entry that cannot be read is None."""
        ...

    async def put(self, entry: Entry) -> None:
        """Stores the entry in place of the one with its key."""
        ...

    async def find(self, selector: Selector) -> list[str]:
        """The keys of all living entries that the selector takes, in any order."""
        ...

    async def delete(self, keys: Sequence[str]) -> int:
        """Deletes the entries; how many there were."""
        ...

    async def invalidate(self, selector: Selector) -> int:
        """From its return on nobody finds what the selector takes of what was stored before; how many were removed
        by then. The rest of a large number may be removed later."""
        ...

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        """Forget, all entries, CaughtUp, and then every change as it comes; endless, and never raises by itself.

        A store that still knows all changes since `position` leaves out Forget and what was told before it.
        """
        ...

    async def close(self) -> None:
        """Lets go of all connections. Nothing may be called after it."""
        ...


class MemoryStore:
    """Entries in this process's memory: for one machine and for tests. Belongs to one event loop."""

    CHANGES_MAX = 10_000
    """Changes kept for followers; one that is further behind begins anew."""

    EXPIRED_PER_PUT_MAX = 64
    """Entries looked at for expiry on each put, oldest first, so that no single call pays for many."""

    def __init__(self, *, entries_max: int, clock: Clock, bytes_max: int = 536_870_912) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the oldest first
        self._bytes = 0
        self._log: deque[Change] = deque(maxlen=self.CHANGES_MAX)
        self._logged = 0  # changes ever logged
        self._news = asyncio.Event()

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        return [self._living(key) for key in keys]

    async def put(self, entry: Entry) -> None:
        self._drop(entry.key)
        self._expire_oldest()
        size = _size_bytes(entry)
        while self._entries and (len(self._entries) >= self._entries_max or self._bytes + size > self._bytes_max):
            evicted = next(iter(self._entries))
            self._drop(evicted)
            self._tell(Removed((evicted,)))
        self._entries[entry.key] = entry
        self._bytes += size
        if entry.partition:
            self._tell(_indexed(entry))

    async def find(self, selector: Selector) -> list[str]:
        now = self._clock.unix()
        return [
            entry.key
            for entry in self._entries.values()
            if entry.expires_at_unix_s > now and selector.takes(entry.key, entry.scope, entry.tags)
        ]

    async def delete(self, keys: Sequence[str]) -> int:
        living = sum(self._living(key) is not None for key in dict.fromkeys(keys))
        for key in keys:
            self._drop(key)
        self._tell(Removed(tuple(keys)))
        return living

    async def invalidate(self, selector: Selector) -> int:
        return await self.delete(await self.find(selector))

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        while True:
            told = self._logged
            yield Forget()
            now = self._clock.unix()
            for entry in tuple(self._entries.values()):
                if entry.partition and entry.expires_at_unix_s > now:
                    yield _indexed(entry)
            yield CaughtUp()
            while (behind := self._logged - told) <= len(self._log):
                news = tuple(itertools.islice(self._log, len(self._log) - behind, None))
                told = self._logged
                for change in news:
                    yield change
                if told == self._logged:
                    self._news.clear()
                    await self._news.wait()

    async def close(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _living(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires_at_unix_s > self._clock.unix() else None

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size_bytes(entry)

    def _expire_oldest(self) -> None:
        now = self._clock.unix()
        oldest = tuple(itertools.islice(self._entries.values(), self.EXPIRED_PER_PUT_MAX))
        for entry in oldest:
            if entry.expires_at_unix_s <= now:
                self._drop(entry.key)

    def _tell(self, change: Change) -> None:
        self._log.append(change)
        self._logged += 1
        self._news.set()


def _indexed(entry: Entry) -> Indexed:
    return Indexed(entry.key, entry.partition, entry.embedding_model, entry.vector, entry.expires_at_unix_s)


def _size_bytes(entry: Entry) -> int:
    """About what the entry takes: its contents, and a flat kilobyte for all else."""
    return 1_024 + answer_size_bytes(entry.answer) + len(entry.vector) + len(entry.question)
