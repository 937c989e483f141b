"""The line of executions for which every place is taken, first come, first served.

Promises: a place that is free again is told to the one who has waited longest for such a place, and kept for him until
he has looked: who comes meanwhile asks `promised`, and goes behind him. Who cannot use it, or leaves, passes the word
on to those behind. Whoever waits looks by himself each `LOOK_S`: places that were lost come back without a word, and
go to who looks first. For one event loop; its length may be read in another thread.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Final

from services.runtime.clock import Clock

__all__ = ["LOOK_S", "Line"]

LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Waiter:
    targets: frozenset[str]
    told: asyncio.Future[frozenset[str]]


class Line:
    """One per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiter] = {}
        self._told: dict[int, _Waiter] = {}  # of a place, and have not looked yet

    def __len__(self) -> int:
        return len(self._waiting) + len(self._told)

    def number(self) -> int:
        """A place in the line, to be kept over several waits."""
        return next(self._numbers)

    def freed(self, targets: frozenset[str], behind: int = -1) -> None:
        """There is a place at one of these targets at least, for those with a higher number than `behind`."""
        eligible = (
            number for number, each in self._waiting.items() if number > behind and not each.targets.isdisjoint(targets)
        )
        first = min(eligible, default=None)
        if first is not None:
            waiter = self._told[first] = self._waiting.pop(first)
            if not waiter.told.done():
                waiter.told.set_result(targets)

    def promised(self, targets: frozenset[str]) -> int:
        """How many were told of a place, would take one of these targets, and have not looked yet."""
        return sum(not each.targets.isdisjoint(targets) for each in self._told.values())

    async def wait(self, number: int, targets: frozenset[str], for_s: float) -> frozenset[str]:
        """Returns when a place at one of the targets may be free, after `for_s` or `LOOK_S` at the latest.

        What it returns is what was freed. Who has no use for it calls `freed` with it, `behind` himself.
        """
        waiter = _Waiter(targets, asyncio.get_running_loop().create_future())
        self._waiting[number] = waiter
        looking = asyncio.create_task(self._look(min(for_s, LOOK_S)))
        waiter.told.add_done_callback(lambda _: looking.cancel())
        try:
            await asyncio.wait({looking})
        except asyncio.CancelledError:
            if waiter.told.done():
                self.freed(waiter.told.result())
            raise
        finally:
            looking.cancel()
            self._waiting.pop(number, None)
            self._told.pop(number, None)
        return waiter.told.result() if waiter.told.done() else frozenset()

    async def _look(self, after_s: float) -> None:
        await self._clock.sleep(after_s)
