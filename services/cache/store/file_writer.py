"""Changes on their way to the disk and then into memory: in the order of the calls, those that wait together as one.

Promises: a change is acknowledged, and seen in memory, when the file has it; one that the file refused changes neither.
What left the memory for lack of room leaves the file with the next commit, and by itself; what has expired leaves both
with the changes of others. Of an invalidation nothing leaves that was put after it began; what had expired before the
start leaves after it, when nothing waits.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from services.cache.entry import Entry, Selector
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.entry_file import Deletion, EntryFile, Row
from services.runtime.logs import get_logger

__all__ = ["FileWriter", "Part", "Put"]

PENDING_MAX = 10_000
"""Changes that wait for the disk; further ones are refused at once."""

BATCH_MAX = 512
"""Changes in one commit, about a millisecond of work beside the sync."""

EXPIRED_PER_BATCH_MIN = 256
"""Expired entries that leave with each commit, or two for each of its changes, if those are more."""


@dataclass(frozen=True, slots=True)
class Put:
    """An entry that was packed, sealed for the file perhaps, and admitted at a moment."""

    entry: Entry
    packed: bytes
    row: Row
    moment: int


@dataclass(frozen=True, slots=True)
class Part:
    """Of an invalidation that began at a moment: the keys, but those of entries that were put at it or after it; and
    perhaps all that had expired before the start."""

    keys: tuple[str, ...]
    began: int
    ends_expired: bool = False


@dataclass(frozen=True, slots=True)
class _Pending:
    """A change, and what its caller waits for."""

    change: Put | Deletion | Part
    done: asyncio.Future[int]


class FileWriter:
    """Writes to `file` in `thread`, and to `memory` afterwards. `start` when both are filled, `close` at the end.

    `gone`: keys that left the memory for lack of room, and not yet the file. `name` is the file's, for the log.
    """

    def __init__(self, file: EntryFile, memory: MemoryStore, thread: ThreadPoolExecutor, *, name: str) -> None:
        self._file = file
        self._memory = memory
        self._thread = thread
        self._name = name
        self._log = get_logger(__name__)
        self._pending: list[_Pending] = []
        self._writing: list[_Pending] = []  # on their way to the disk, and not wholly in memory
        self.gone: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Once."""
        self._wake.set()  # for what is over since before the start
        self._task = asyncio.create_task(self._write_all(), name="cache-file-writer")

    def write(self, change: Put | Deletion | Part, *, is_urgent: bool = False) -> asyncio.Future[int]:
        """Done when the change is on the disk and in memory, with how many entries it put there or took away, or with
        StoreUnavailableError. Raises it when too many wait, unless it `is_urgent`, and after `close`."""
        if self._closing or (len(self._pending) >= PENDING_MAX and not is_urgent):
            raise StoreUnavailableError("the file takes no changes, or too many wait for it")
        pending = _Pending(change, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self._wake.set()
        return pending.done

    def taken(self, selector: Selector) -> list[str]:
        """The keys of entries on their way that the selector takes."""
        puts = (each.change for each in (*self._writing, *self._pending) if isinstance(each.change, Put))
        return [put.entry.key for put in puts if selector.takes(put.entry.key, put.entry.scope, put.entry.tags)]

    async def close(self) -> None:
        """Writes what waits."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _write_all(self) -> None:
        """Until the store is closed and nothing waits any more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending or self.gone or not (self._closing or self._file.is_tidy):
                if not await self._write_batch() and not self._pending:
                    break
            if self._closing:
                return

    async def _write_batch(self) -> bool:
        """Takes what waits, in its order, to the disk and then into memory; whether that worked."""
        batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
        gone, self.gone = self.gone, set()
        gone.update(self._memory.expire(max(EXPIRED_PER_BATCH_MIN, 2 * len(batch))))
        self._writing = batch
        changes = self._judged(batch)
        rows = [each.row if isinstance(each, Put) else each for each in changes]
        try:
            commit = partial(self._file.commit, rows, gone, is_idle=not batch)
            await asyncio.get_running_loop().run_in_executor(self._thread, commit)
        except sqlite3.Error as error:
            self._log.error("cache_file_not_written", file=self._name, error=type(error).__name__, reason=str(error))
            self.gone |= gone
            self._writing = []
            for pending in batch:
                _fail(pending, "the file cannot be written")
            return False
        for pending, change in zip(batch, changes, strict=True):
            result = await self._take_in(change)
            if not pending.done.done():
                pending.done.set_result(result)
        self._writing = []
        return True

    def _judged(self, batch: list[_Pending]) -> list[Put | Deletion]:
        """What each change comes to, now that memory has all that was before these."""
        changes: list[Put | Deletion] = []
        latest: dict[str, int] = {}
        for change in (each.change for each in batch):
            if isinstance(change, Part):
                older = self._memory.older(change.keys, change.began)
                keys = tuple(key for key in older if latest.get(key, -1) < change.began)
                changes.append(Deletion(keys, change.ends_expired))
                continue
            if isinstance(change, Put):
                latest[change.entry.key] = change.moment
            changes.append(change)
        return changes

    async def _take_in(self, change: Put | Deletion) -> int:
        if isinstance(change, Deletion):
            return await self._memory.delete(change.keys)
        self.gone.discard(change.entry.key)
        self.gone.update(self._memory.take_in(change.entry, change.packed, moment=change.moment))
        return 1


def _fail(pending: _Pending, why: str) -> None:
    if not pending.done.done():
        pending.done.set_exception(StoreUnavailableError(why))
        pending.done.exception()  # whoever waited may have left
