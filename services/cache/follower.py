"""Keeps the index of questions in step with the store's changes.

Promises: what cannot be indexed (a vector of another version, a broken one) is left out and logged, and disturbs
nothing; a long catch-up gives other tasks their turns. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from services.cache.answer_store import AnswerStore, CaughtUp, Change, Forget, Indexed, Interrupted, Reached, Removed
from services.cache.vector_index import DimensionMismatchError, InvalidVectorError, VectorIndex, unit_vector
from services.runtime.clock import Clock
from services.runtime.logs import describe_exception, get_logger

__all__ = ["Follower"]

CHANGES_PER_TURN_MAX = 64
"""Changes taken in before other tasks get a turn, about a millisecond of work."""

WARM_S_MAX = 10.0
"""How long a start waits for the index: some 100,000 entries. After it the replica serves, and catches up meanwhile."""


class Follower:
    """`start` once, `close` at the end."""

    def __init__(self, store: AnswerStore, index: VectorIndex, *, clock: Clock) -> None:
        self._store = store
        self._index = index
        self._clock = clock
        self._log = get_logger(__name__)
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # caught up, or knows that it cannot

    async def start(self) -> None:
        """Follows the store from now on; returns when the index is warm, the store away, or the time is up."""
        self._task = asyncio.create_task(self._follow(), name="cache-follower")
        self._task.add_done_callback(self._report)
        try:
            async with asyncio.timeout(WARM_S_MAX):
                await self._settled.wait()
        except TimeoutError:
            self._log.warning("cache_serves_cold", indexed_entries=len(self._index))

    async def close(self) -> None:
        """Stops following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _report(self, task: asyncio.Task[None]) -> None:
        """A follower ends only when it is told to; anything else is a defect that must be seen."""
        if not task.cancelled():
            error = task.exception()
            self._log.error("cache_follower_ended", **({} if error is None else describe_exception(error)))
            self._settled.set()

    async def _follow(self) -> None:
        taken = 0
        async with aclosing(self._store.changes()) as changes:
            async for change in changes:
                self._take_in(change)
                taken += 1
                if taken % CHANGES_PER_TURN_MAX == 0:
                    await asyncio.sleep(0)

    def _take_in(self, change: Change) -> None:
        match change:
            case Indexed():
                if change.expires_at_unix_s > self._clock.unix():
                    self._add(change)
            case Removed():
                for key in change.keys:
                    self._index.remove(key)
            case Forget():
                self._index.clear()
            case CaughtUp():
                self._log.info("cache_index_caught_up", indexed_entries=len(self._index))
                self._settled.set()
            case Interrupted():
                self._settled.set()
            case Reached():
                pass

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
