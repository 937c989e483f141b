"""Keeps the index of questions in step with the store's changes, and on this machine's disk over restarts.

Promises: what cannot be indexed (a vector of another version, a broken one) is left out and logged, and disturbs
nothing; a long catch-up gives other tasks their turns. A snapshot is only ever a start: what the store says happened
since is replayed over it, and a store that does not know its position tells everything anew. A snapshot that cannot be
written is logged and costs nothing but a slower start. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from services.cache.index.arrivals import arrange
from services.cache.index.index_snapshot import load_snapshot, save_snapshot
from services.cache.index.partition_rows import NewRows
from services.cache.index.vector_index import DimensionMismatchError, InvalidVectorError, VectorIndex, unit_vector
from services.cache.store.answer_store import (
    AnswerStore,
    CaughtUp,
    Change,
    Forget,
    Indexed,
    IndexedMany,
    Interrupted,
    Reached,
    Removed,
)
from services.runtime.clock import Clock
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import end_tasks

__all__ = ["Follower", "Snapshots"]

ENTRIES_PER_TURN_MAX = 64
"""Entries put into the index or taken out of it before other tasks get a turn, less than a millisecond of work."""

ARRANGED_AHEAD_MAX = 2
"""Batches that are made ready in threads while the store tells the next."""

WARM_S_MAX = 10.0
"""How long a start waits for the index: a million entries, on two free cores. After it the replica serves, and catches
up meanwhile."""

SNAPSHOT_EVERY_S = 60.0
"""Between snapshots: well within the time that the store remembers changes for."""

SNAPSHOT_S_MAX = 15.0
"""How long an orderly end waits for the last snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Where the index is kept over restarts, and the threads that write and read it."""

    directory: Path
    executor: Executor


@dataclass(frozen=True, slots=True)
class _Coming:
    """A batch, and what `arrange` makes of it in a thread."""

    batch: IndexedMany
    rows: asyncio.Future[dict[str, NewRows] | None]


class Follower:
    """`start` once, `close` at the end."""

    def __init__(
        self, store: AnswerStore, index: VectorIndex, *, clock: Clock, snapshots: Snapshots | None = None
    ) -> None:
        self._snapshots = snapshots
        self._position = ""  # of the store's changes that the index holds; empty while that is not known
        self._saved_position = ""
        self._saved_at_s = clock.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._store = store
        self._index = index
        self._clock = clock
        self._log = get_logger(__name__)
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # caught up, or knows that it cannot

    async def start(self) -> None:
        """Follows the store from now on; returns when the index is warm, the store away, or the time is up."""
        position = ""
        if self._snapshots is not None:
            now, threads = self._clock.unix(), self._snapshots.executor
            position = (
                await load_snapshot(self._index, self._snapshots.directory, now_unix_s=now, executor=threads) or ""
            )
            self._saved_position = position
        self._task = asyncio.create_task(self._follow(position), name="cache-follower")
        self._task.add_done_callback(self._report)
        try:
            async with asyncio.timeout(WARM_S_MAX):
                await self._settled.wait()
        except TimeoutError:
            self._log.warning("cache_serves_cold", indexed_entries=len(self._index))

    async def close(self) -> None:
        """Stops following, and keeps what is known."""
        if self._task is not None:
            await end_tasks([self._task])
        if self._saving is not None:
            await asyncio.wait({self._saving}, timeout=SNAPSHOT_S_MAX)
        if self._snapshots is not None and self._position not in ("", self._saved_position):
            await asyncio.wait({self._save(self._snapshots, self._position)}, timeout=SNAPSHOT_S_MAX)

    def _report(self, task: asyncio.Task[None]) -> None:
        """A follower ends only when it is told to; anything else is a defect that must be seen."""
        if not task.cancelled():
            error = task.exception()
            self._log.error("cache_follower_ended", **({} if error is None else describe_exception(error)))
            self._settled.set()

    async def _follow(self, position: str) -> None:
        taken = 0
        coming: deque[_Coming] = deque()
        async with aclosing(self._store.changes(position)) as changes:
            async for change in changes:
                if isinstance(change, IndexedMany):
                    coming.append(self._arrange(change))
                while coming and (len(coming) > ARRANGED_AHEAD_MAX or not isinstance(change, IndexedMany)):
                    batch, arranged = coming[0].batch, await coming.popleft().rows
                    self._take_in_many(batch, arranged)
                    await asyncio.sleep(0)
                for part in _parts(change):
                    self._take_in(part)
                    taken += len(part.keys) if isinstance(part, Removed) else 1
                    if taken >= ENTRIES_PER_TURN_MAX:
                        taken = 0
                        await asyncio.sleep(0)

    def _arrange(self, batch: IndexedMany) -> _Coming:
        coders = {partition: self._index.coder_of(partition) for partition in set(batch.partitions)}
        loop = asyncio.get_running_loop()
        if self._index.executor is not None:
            return _Coming(batch, loop.run_in_executor(self._index.executor, arrange, batch, coders))
        arranged: asyncio.Future[dict[str, NewRows] | None] = loop.create_future()
        arranged.set_result(arrange(batch, coders))
        return _Coming(batch, arranged)

    def _take_in_many(self, batch: IndexedMany, arranged: dict[str, NewRows] | None) -> None:
        if arranged is None:
            for change in batch.each():
                self._add(change)
            return
        for partition, rows in arranged.items():
            try:
                self._index.add_many(partition, batch.embedding_model, rows)
            except DimensionMismatchError as error:
                self._log.warning("cache_entries_not_indexed", entries=len(rows.keys), error=type(error).__name__)

    def _take_in(self, change: Change) -> None:
        match change:
            case Indexed():
                if change.expires_at_unix_s > self._clock.unix():
                    self._add(change)
            case Removed():
                for key in change.keys:
                    self._index.remove(key)
            case Forget():
                self._position = ""
                self._index.clear()
            case CaughtUp():
                self._log.info("cache_index_caught_up", indexed_entries=len(self._index))
                self._settled.set()
                self._index.make_lists()
            case Interrupted():
                self._settled.set()
            case Reached():
                self._position = change.position
                self._save_when_due()

    def _save_when_due(self) -> None:
        is_due = self._clock.monotonic() - self._saved_at_s >= SNAPSHOT_EVERY_S
        is_free = self._saving is None or self._saving.done()
        if self._snapshots is not None and is_due and is_free and self._position != self._saved_position:
            self._saving = self._save(self._snapshots, self._position)

    def _save(self, snapshots: Snapshots, position: str) -> asyncio.Task[None]:
        self._saved_at_s = self._clock.monotonic()
        return asyncio.create_task(self._write(snapshots, position), name="cache-snapshot")

    async def _write(self, snapshots: Snapshots, position: str) -> None:
        try:
            written = await save_snapshot(
                self._index, snapshots.directory, position=position, executor=snapshots.executor
            )
        except OSError as error:
            self._log.warning("cache_snapshot_not_written", error=type(error).__name__)
        else:
            self._saved_position = position
            self._log.info("cache_snapshot_written", entries=written)

    def _add(self, change: Indexed) -> None:
        try:
            self._index.add(
                change.key,
                partition=change.partition,
                model=change.embedding_model,
                vector=unit_vector(change.vector),
                expires_at_unix_s=change.expires_at_unix_s,
            )
        except (InvalidVectorError, DimensionMismatchError) as error:
            self._log.warning("cache_entry_not_indexed", entry_key=change.key, error=type(error).__name__)


def _parts(change: Change) -> Iterable[Change]:
    """The change, or, of a large removal, one after another."""
    if isinstance(change, IndexedMany):
        return ()
    if not isinstance(change, Removed) or len(change.keys) <= ENTRIES_PER_TURN_MAX:
        return (change,)
    starts = range(0, len(change.keys), ENTRIES_PER_TURN_MAX)
    return (Removed(change.keys[start : start + ENTRIES_PER_TURN_MAX]) for start in starts)
