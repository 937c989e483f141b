"""What a follower does with news that are large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from services.cache.index.follower import ENTRIES_PER_TURN_MAX, Follower
from services.cache.index.vector_index import VectorIndex
from services.cache.store.answer_store import CaughtUp, Change, Removed
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from tests.support.cache_parts import MODEL, vector

KEYS = tuple(f"k{number}" for number in range(4 * ENTRIES_PER_TURN_MAX))


class Removals(MemoryStore):
    """Tells of the removal of all keys, so many at a time."""

    def __init__(self, size: int, clock: FakeClock) -> None:
        super().__init__(entries_max=1, clock=clock)
        self._size = size

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        yield CaughtUp()
        await asyncio.sleep(0)
        for start in range(0, len(KEYS), self._size):
            yield Removed(KEYS[start : start + self._size])
        await asyncio.Event().wait()


@pytest.mark.parametrize("size", [len(KEYS), ENTRIES_PER_TURN_MAX // 4, 1])
async def test_large_and_many_removals_give_others_their_turns(size: int) -> None:
    clock, index = FakeClock(), VectorIndex(entries_max=len(KEYS))
    for key in KEYS:
        index.add(key, partition="p", model=MODEL, vector=vector(key), expires_at_unix_s=clock.unix() + 1.0)
    follower = Follower(Removals(size, clock), index, clock=clock)
    await follower.start()
    sizes = [len(index)]
    for _ in range(20):
        await asyncio.sleep(0)
        sizes.append(len(index))
    await follower.close()
    assert sizes[-1] == 0
    assert max(before - after for before, after in pairwise(sizes)) == ENTRIES_PER_TURN_MAX
