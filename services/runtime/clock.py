"""Time as something that is passed in: the system's, and one that only moves when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """A source of time, in seconds."""

    def monotonic(self) -> float:
        """Never goes back; its zero means nothing."""
        ...

    def unix(self) -> float:
        """Since 1970; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; at once (but not before other tasks had a turn) for 0 and below."""
        ...


class SystemClock:
    """The machine's time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def unix(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))


class FakeClock:
    """Time that moves only by `advance`; sleepers wake in the order of their times. For one event loop."""

    def __init__(self, monotonic: float = 0.0, unix: float = 1_700_000_000.0) -> None:
        self._now = monotonic
        self._unix_offset = unix - monotonic
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._now + self._unix_offset

    @property
    def sleepers(self) -> int:
        """How many tasks sleep."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), wake))
        await wake

    def advance(self, seconds: float) -> None:
        """Moves time on by `seconds`, at least 0, and wakes who is due; they run when the caller next awaits."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
