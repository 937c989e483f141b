"""Answers in a file of this machine: everything in memory, and every change in SQLite before it is acknowledged.

Promises: a put or deletion that returned survives the death of the process and, as far as the disk tells the truth, of
the machine (write-ahead log, `synchronous=FULL`); lookups never touch the disk, nor does a hit; changes that arrive
together share one commit. A file that is no cache, is damaged, of another version, or used by another process is a
FileStoreError that names it, before anything is served; rows that cannot be read, or that no key opens, are deleted
before anything is served, and counted: no invalidation could find them, and an older key would bring them back. The
file is readable by its owner alone: it holds prompts and answers. With a cipher each entry is sealed, and nothing that
was written in the clear before stays in the file.

What happens wholly or not at all: a put, and a deletion of up to `DELETED_PER_COMMIT_MAX` entries, returned or not. A
larger deletion, or invalidation, is several of those, between which the changes of others have their turns. While the
process lives, an invalidation holds as a whole: from its beginning until the disk has all of it nobody finds what it
takes, though its caller should have been told that it took too long, or not wait any more. Only a disk that refuses a
part of it (and the store's end) ends it before: its caller is told that, and what is left is served again. So is what
was left when the process dies within an invalidation, which nobody was told had happened.

The writes go through one thread, in the order of the calls (`file_writer`). Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from services.cache.entry import Entry, Question, Selector
from services.cache.store.answer_store import Change, StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.entry_codec import Outline, pack_entry, renewed, unpack_outline
from services.cache.store.entry_file import Deletion, EntryFile, FileStoreError, Row, way_out
from services.cache.store.file_writer import FileWriter, Part, Put
from services.cache.store.prompt_cipher import PromptCipher
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["DELETED_PER_COMMIT_MAX", "INVALIDATIONS_MAX", "FileStore"]

WRITE_S_MAX = 5.0
"""A disk that takes longer for one change has failed, as far as the caller is told; the change may still happen."""

DELETED_PER_COMMIT_MAX = 4_096
"""Entries: some 0.1 s of work, and 16 MB of log, before the changes of others get their turn."""

TOO_SLOW = "the disk did not take the change in time"

INVALIDATIONS_MAX = 256
"""Under way at a time; further ones are refused at once. Every entry that is read is held against each."""


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
        self._writer = FileWriter(self._file, memory, self._thread, name=str(path))
        self._invalidations: set[asyncio.Task[None]] = set()

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
        store._writer.start()
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
        moment = self._memory.history.admits(entry, since)
        if moment is None:
            return False
        packed = pack_entry(entry)
        sealed = packed if self._cipher is None else self._cipher.seal(packed, _place(entry.key))
        row = Row(entry.key, entry.expires_at_unix_s, sealed)
        await _in_time(self._writer.write(Put(entry, packed, row, moment)))
        return True

    async def find(self, selector: Selector) -> list[str]:
        return await self._memory.find(selector)

    async def delete(self, keys: Sequence[str]) -> int:
        return sum([await _in_time(self._writer.write(Deletion(some))) for some in _parts(dict.fromkeys(keys))])

    async def invalidate(self, selector: Selector) -> int:
        if len(self._invalidations) >= INVALIDATIONS_MAX:
            raise StoreUnavailableError("too many invalidations are under way")
        holding = ExitStack()
        began = holding.enter_context(self._memory.history.invalidating(selector))
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._invalidate(selector, began, holding, told), name="cache-file-invalidation")
        self._invalidations.add(task)
        task.add_done_callback(self._invalidations.discard)
        return await told

    async def _invalidate(self, selector: Selector, began: int, holding: ExitStack, told: asyncio.Future[int]) -> None:
        """Goes on when the caller, who is `told`, does not wait any more."""
        with holding:
            try:
                removed = await self._deleted(selector, began, told)
            except StoreUnavailableError as error:
                self._log.error("cache_file_invalidation_incomplete", file=str(self._path), error=str(error))
                if not told.done():
                    told.set_exception(error)
            else:
                if not told.done():
                    told.set_result(removed)

    async def _deleted(self, selector: Selector, began: int, told: asyncio.Future[int]) -> int:
        # What was put before is in memory or on its way there. Memory is listed with the first step of the search, in
        # the same turn as this; asked afterwards, what arrived meanwhile would be in neither.
        waiting = self._writer.taken(selector)
        found = dict.fromkeys((*waiting, *await self._memory.taken(selector)))
        # Of what had expired before the start, and lives when a clock is put back, nobody has read more than the keys.
        is_by_key = selector == Selector(entry_key=selector.entry_key)
        if selector.entry_key is not None and is_by_key:
            found[selector.entry_key] = None
        removed = 0
        for number, some in enumerate(_parts(found)):
            part = Part(some, began, ends_expired=number == 0 and not is_by_key)
            written = self._writer.write(part, is_urgent=True)
            await asyncio.wait({written}, timeout=WRITE_S_MAX)
            if not written.done() and not told.done():
                told.set_exception(StoreUnavailableError(TOO_SLOW))
            removed += await written
        return removed

    def served(self, key: str) -> None:
        self._memory.served(key)

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        return self._memory.changes(position)

    async def close(self) -> None:
        """Writes what waits, and lets go of the file. Invalidations end with the part that is being written."""
        await self._writer.close()
        if self._invalidations:
            await asyncio.wait(self._invalidations)
        await self._release()
        await self._memory.close()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._thread, self._file.open_and_read)
        checking = loop.run_in_executor(self._thread, self._file.check)
        unreadable: list[str] = []
        filled = partial(self._memory.fill, self._readable(rows, unreadable))
        try:
            self._writer.gone.update(await loop.run_in_executor(None, filled))  # nobody else uses the memory yet
        finally:
            await checking
        clean = partial(self._file.clean, unreadable, is_sealed=self._cipher is not None)
        await loop.run_in_executor(self._thread, clean)
        if unreadable:
            self._log.warning("cache_file_rows_unreadable_deleted", file=str(self._path), rows=len(unreadable))
        self._log.info("cache_file_loaded", file=str(self._path), entries=len(self._memory))

    def _readable(
        self, rows: Iterable[tuple[int, str, bytes | None]], unreadable: list[str]
    ) -> Iterator[tuple[str, bytes, Outline]]:
        for _, key, row in rows:
            if row is None:
                continue
            if type(key) is not str or type(row) is not bytes:  # SQLite takes anything for anything
                raise FileStoreError(f"{self._path} cannot be used (a row is damaged). {way_out(self._path)}")
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


def _place(key: str) -> str:
    """What a row is bound to when it is sealed, in files of every version: another text would open none of them."""
    return f"file/1/{key}"


def _parts(keys: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """At least one: what left the memory for lack of room leaves the file with it."""
    remaining = tuple(keys)
    for start in range(0, max(1, len(remaining)), DELETED_PER_COMMIT_MAX):
        yield remaining[start : start + DELETED_PER_COMMIT_MAX]


async def _in_time(written: asyncio.Future[int]) -> int:
    """What is written in the end, unless that takes too long. Raises StoreUnavailableError."""
    await asyncio.wait({written}, timeout=WRITE_S_MAX)
    if not written.done():
        raise StoreUnavailableError(TOO_SLOW)
    return written.result()
