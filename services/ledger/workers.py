"""The threads in which the database is used, and how much may wait for them.

Promises: work that finds `waiting_max` pieces queued or under way is refused at once with Overloaded, never queued
behind them; a place is free again when its thread is done, whoever still waits for it, so that a database that hangs
holds no more than these. A caller who leaves takes back what has not begun. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from services.runtime.errors import Overloaded

__all__ = ["Workers"]

RETRY_AFTER_S: Final = 0.5

T = TypeVar("T")


class Workers:
    """`threads` at a time, at most `waiting_max` queued or under way."""

    def __init__(self, name: str, *, threads: int, waiting_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"ledger-{name}")
        self._waiting_max = waiting_max
        self._waiting = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """How much is queued or under way."""
        return self._waiting

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, or raises. Raises Overloaded."""
        if self._waiting >= self._waiting_max:
            self.refused += 1
            raise Overloaded(RETRY_AFTER_S, detail="the ledger's threads have enough to do")
        loop = asyncio.get_running_loop()
        self._waiting += 1
        future = self._pool.submit(work)

        def ended(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody will ask again
                loop.call_soon_threadsafe(self._freed)

        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Takes no more work, and drops what has not begun. Does not wait for the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _freed(self) -> None:
        self._waiting -= 1
