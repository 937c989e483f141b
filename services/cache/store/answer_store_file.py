"""Answers in a file of this machine: everything in memory, and every change in SQLite before it is acknowledged.

Promises: a put or deletion that returned survives the death of the process and, as far as the disk tells the truth, of
the machine (write-ahead log, `synchronous=FULL`); one that did not return happened wholly or not at all; lookups never
touch the disk, nor does a hit; changes that arrive together share one commit. A file that is no cache, is damaged, of
another version, or used by another process is a FileStoreError that names it, before anything is served; rows that
cannot be read, or that no key opens, are deleted before anything is served, and counted: no invalidation could find
them, and an older key would bring them back. The file is readable by its owner alone: it holds prompts and answers.
With a cipher each entry is sealed, and nothing that was written in the clear before stays in the file.

The writes go through one thread, in the order of the calls. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.cache.entry import Entry, Question, Selector
from services.cache.store.answer_store import Change, StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.entry_codec import Outline, pack_entry, renewed, unpack_outline
from services.cache.store.entry_file import SCHEMA_VERSION, Deletion, EntryFile, FileStoreError, Row
from services.cache.store.prompt_cipher import PromptCipher
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["FileStore"]

PENDING_MAX = 10_000
"""Changes that wait for the disk; further ones are refused at once."""

BATCH_MAX = 512
"""Changes in one commit, about a millisecond of work beside the sync."""

WRITE_S_MAX = 5.0
"""A disk that takes longer has failed, as far as the caller is told; the change may still happen."""


@dataclass(frozen=True, slots=True)
class _Put:
    entry: Entry
    packed: bytes
    row: Row  # of the file, sealed perhaps
    moment: int


@dataclass(frozen=True, slots=True)
class _Pending:
    """A change, and the caller who waits for it."""

    change: _Put | Deletion
    done: asyncio.Future[int]


class FileStore:
    """Made by `open`."""

    def __init__(self, path: Path, memory: MemoryStore, clock: Clock, cipher: PromptCipher | None) -> None:
        self._path = path
        self._cipher = cipher
        self._memory = memory
        self._clock = clock
        self._log = get_logger(__name__)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache-file")
        self._file = EntryFile(path, clock)
        self._pending: list[_Pending] = []
        self._writing: list[_Pending] = []  # on their way to the disk, and not wholly in memory
        self._gone: set[str] = set()  # keys that left the memory for lack of room, and not yet the file
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        entries_max: int,
        clock: Clock,
        bytes_max: int,
        tenant_entries_max: int | None = None,
        cipher: PromptCipher | None = None,
    ) -> FileStore:
        """Reads the file, or begins a new one. Raises FileStoreError."""
        memory = MemoryStore(
            entries_max=entries_max, clock=clock, bytes_max=bytes_max, tenant_entries_max=tenant_entries_max
        )
        store = cls(path, memory, clock, cipher)
        try:
            await store._load()
        except BaseException:
            await store._release()
            raise
        store._writer = asyncio.create_task(store._write_all(), name="cache-file-writer")
        return store

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def evicted(self) -> int:
        """Entries that left for lack of room."""
        return self._memory.evicted

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        return await self._memory.get_many(keys)

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        return await self._memory.get_questions(keys)

    async def read(self, key: str) -> tuple[Entry | None, str]:
        return await self._memory.read(key)

    async def moment(self, key: str) -> str:
        return await self._memory.moment(key)

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        moment = self._memory.admits(entry, since)
        if moment is None:
            return False
        packed = pack_entry(entry)
        sealed = packed if self._cipher is None else self._cipher.seal(packed, _place(entry.key))
        row = Row(entry.key, entry.expires_at_unix_s, sealed)
        await self._write(_Put(entry, packed, row, moment))
        return True

    async def find(self, selector: Selector) -> list[str]:
        return await self._memory.find(selector)

    async def delete(self, keys: Sequence[str]) -> int:
        return await self._write(Deletion(tuple(keys)))

    async def invalidate(self, selector: Selector) -> int:
        with self._memory.invalidating(selector):
            found = dict.fromkeys(await self._memory.taken(selector))
            for pending in (*self._writing, *self._pending):  # stored before, and not yet in memory
                change = pending.change
                if isinstance(change, _Put) and selector.takes(change.entry.key, change.entry.scope, change.entry.tags):
                    found[change.entry.key] = None
            return await self.delete(list(found))

    def served(self, key: str) -> None:
        self._memory.served(key)

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        return self._memory.changes(position)

    async def close(self) -> None:
        """Writes what waits, and lets go of the file."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
        await self._release()
        await self._memory.close()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._thread, self._file.open_and_read)
        checking = loop.run_in_executor(self._thread, self._file.check)
        unreadable: list[str] = []
        filled = partial(self._memory.fill, self._readable(rows, unreadable))
        try:
            self._gone.update(await loop.run_in_executor(None, filled))  # nobody else uses the memory yet
        finally:
            await checking
        clean = partial(self._file.clean, unreadable, is_sealed=self._cipher is not None)
        await loop.run_in_executor(self._thread, clean)
        if unreadable:
            self._log.warning("cache_file_rows_unreadable_deleted", file=str(self._path), rows=len(unreadable))
        self._log.info("cache_file_loaded", file=str(self._path), entries=len(self._memory))

    def _readable(
        self, rows: Iterable[tuple[str, bytes]], unreadable: list[str]
    ) -> Iterator[tuple[str, bytes, Outline]]:
        for key, row in rows:
            if type(key) is not str or type(row) is not bytes:  # SQLite takes anything for anything
                raise FileStoreError(f"{self._path} cannot be used (a row is damaged). Move it away to begin anew.")
            packed = row if self._cipher is None else self._cipher.open(row, _place(key))
            outline = None if packed is None else unpack_outline(key, packed)
            if packed is not None and outline is None and (packed := renewed(key, packed)) is not None:
                outline = unpack_outline(key, packed)
            if packed is None or outline is None:
                unreadable.append(key)
            else:
                yield key, packed, outline

    async def _release(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    async def _write(self, change: _Put | Deletion) -> int:
        """Returns when the change is on the disk."""
        if self._closing or len(self._pending) >= PENDING_MAX:
            raise StoreUnavailableError("the file takes no changes, or too many wait for it")
        pending = _Pending(change, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self._wake.set()
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                return await pending.done
        except TimeoutError as error:
            raise StoreUnavailableError("the disk did not take the change in time") from error

    async def _write_all(self) -> None:
        """Until the store is closed and nothing waits any more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending or self._gone:
                if not await self._write_batch() and not self._pending:
                    break
            if self._closing:
                return

    async def _write_batch(self) -> bool:
        """Takes what waits, in its order, to the disk and then into memory; whether that worked."""
        batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
        gone, self._gone = self._gone, set()
        self._writing = batch
        changes = [each.change.row if isinstance(each.change, _Put) else each.change for each in batch]
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.commit, changes, gone)
        except sqlite3.Error as error:
            self._log.error("cache_file_not_written", file=str(self._path), error=type(error).__name__)
            self._gone |= gone
            self._writing = []
            for pending in batch:
                _fail(pending, "the file cannot be written")
            return False
        for pending in batch:
            result = await self._take_in(pending.change)
            if not pending.done.done():
                pending.done.set_result(result)
        self._writing = []
        return True

    async def _take_in(self, change: _Put | Deletion) -> int:
        if isinstance(change, Deletion):
            return await self._memory.delete(change.keys)
        self._gone.discard(change.entry.key)
        self._gone.update(self._memory.take_in(change.entry, change.packed, moment=change.moment))
        return 1


def _place(key: str) -> str:
    return f"file/{SCHEMA_VERSION}/{key}"


def _fail(pending: _Pending, why: str) -> None:
    if not pending.done.done():
        pending.done.set_exception(StoreUnavailableError(why))
