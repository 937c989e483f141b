"""What a follower does with news that are large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

from services.cache.index.follower import REMOVED_PER_TURN_MAX, Follower
from services.cache.index.vector_index import VectorIndex
from services.cache.store.answer_store import CaughtUp, Change, Removed
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from tests.support.cache_parts import MODEL, vector

KEYS = tuple(f"k{number}" for number in range(4 * REMOVED_PER_TURN_MAX))


class OneLargeRemoval(MemoryStore):
    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        yield CaughtUp()
        await asyncio.sleep(0)
        yield Removed(KEYS)
        await asyncio.Event().wait()


async def test_a_large_removal_gives_others_their_turns() -> None:
    clock, index = FakeClock(), VectorIndex(entries_max=len(KEYS))
    for key in KEYS:
        index.add(key, partition="p", model=MODEL, vector=vector(key), expires_at_unix_s=clock.unix() + 1.0)
    follower = Follower(OneLargeRemoval(entries_max=1, clock=clock), index, clock=clock)
    await follower.start()
    sizes = [len(index)]
    for _ in range(20):
        await asyncio.sleep(0)
        sizes.append(len(index))
    await follower.close()
    assert sizes[-1] == 0
    assert max(before - after for before, after in pairwise(sizes)) == REMOVED_PER_TURN_MAX
