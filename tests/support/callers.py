"""Callers at a suite who ask one prompt after the other, and a record of what became of each request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from spillway.client import AsyncClient
from spillway.errors import RequestError
from spillway.routing import Completion
from tests.support.waiting import until

__all__ = ["Answered", "Callers", "calling", "recovery_s", "until"]

TIMEOUT_S: Final = 60.0
WAIT_S: Final = 90.0
_REPEAT_EVERY: Final = 3
_REPEATED: Final = 40
"""One prompt in `_REPEAT_EVERY` is one of so many, which the cache knows; no two of the others are alike."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered: when, on the monotonic clock, and after how long."""

    at_s: float
    took_s: float
    degraded: tuple[str, ...]


class Callers:
    """So many at once; every `stream_every`th of them streams its answers, if that is above 0.

    `name` is in their prompts, so that none is known from elsewhere; with `repeats` some are asked again and again.
    """

    def __init__(
        self, client: AsyncClient, count: int, *, name: str, stream_every: int = 0, repeats: bool = True
    ) -> None:
        self.answered: list[Answered] = []
        self.failures: list[RequestError] = []
        self._client = client
        self._name = name
        self._repeats = repeats
        self._numbers = itertools.count()
        self._ended = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._ask(streams=bool(stream_every) and number % stream_every == 0))
            for number in range(count)
        ]

    @property
    def done(self) -> int:
        return len(self.answered) + len(self.failures)

    async def more(self, count: int) -> None:
        """Returns after `count` more requests have ended."""
        goal = self.done + count
        await until(lambda: self.done >= goal, what=f"{count} more requests", within_s=WAIT_S)

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)

    async def _ask(self, *, streams: bool) -> None:
        while not self._ended.is_set():
            number = next(self._numbers)
            is_known = self._repeats and number % _REPEAT_EVERY == 0
            place = f"town {number % _REPEATED}" if is_known else f"village {number} of {self._name}"
            begun_s = time.monotonic()
            try:
                completion = await self._complete(f"Which river flows through {place}?", streams=streams)
            except RequestError as error:
                self.failures.append(error)
            else:
                now_s = time.monotonic()
                self.answered.append(Answered(now_s, now_s - begun_s, completion.routing.degraded))

    async def _complete(self, prompt: str, *, streams: bool) -> Completion:
        if not streams:
            return await self._client.complete(prompt, timeout_s=TIMEOUT_S)
        last = None
        async for event in self._client.stream(prompt, timeout_s=TIMEOUT_S):
            last = event
        assert isinstance(last, Completion)
        return last


@asynccontextmanager
async def calling(
    target: str, count: int, *, name: str, stream_every: int = 0, repeats: bool = True
) -> AsyncIterator[Callers]:
    """Callers over one client, as README's; what is under way at the end is waited for."""
    async with AsyncClient(target) as client:
        callers = Callers(client, count, name=name, stream_every=stream_every, repeats=repeats)
        try:
            yield callers
        finally:
            await callers.end()


def recovery_s(
    answered: Sequence[Answered], fault_at_s: float, *, before_s: float = 4.0, window_s: float = 1.0, share: float = 0.8
) -> float | None:
    """Seconds from the fault until `share` of the usual rate is answered again, over `window_s`; None: never.

    The usual rate is that of the `before_s` before the fault.
    """
    times = sorted(each.at_s for each in answered)
    usual = sum(fault_at_s - before_s <= at_s < fault_at_s for at_s in times) / before_s
    begins = [fault_at_s, *(at_s for at_s in times if at_s >= fault_at_s)]
    for begin_s in begins:
        within = sum(begin_s <= at_s < begin_s + window_s for at_s in times)
        if begin_s + window_s <= times[-1] and within >= share * usual * window_s:
            return begin_s - fault_at_s
    return None
