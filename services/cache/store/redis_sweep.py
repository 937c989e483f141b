"""The bodies of what was invalidated, deleted after it: nobody is served them any more, they only take room.

Promises: an invalidation waits `SWEEP_S` at most; what is left is deleted by a task, of which there are `SWEEPS_MAX`.
An entry that was put anew between the sweep's look and its deletion stays: Redis deletes an entry only while it has the
stamp that was judged. A sweep that meets a Redis that is away ends; its bodies expire.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.cache.entry import Selector
from services.cache.store import redis_scripts
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.redis_listing import JudgedEntry, RedisListing
from services.cache.store.redis_names import Names, member
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks

__all__ = ["RedisSweeps"]

SWEEP_S = 2.0
"""How long an invalidation waits for the bodies to be deleted; the rest is deleted after it."""

SWEEPS_MAX = 8
"""Deletions that go on after their invalidation. With more, bodies stay until they expire; nobody is served them."""


class RedisSweeps:
    """`changes_max`: how many change records are kept of each shard. `close` at the end."""

    def __init__(self, listing: RedisListing, names: Names, *, changes_max: int) -> None:
        self._listing = listing
        self._names = names
        self._changes_max = changes_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = get_logger(__name__)

    async def swept(self, selector: Selector) -> int:
        """Deletes what the selector takes and is invalid; how many within `SWEEP_S`. It goes on after that."""
        removed = [0]
        if len(self._tasks) >= SWEEPS_MAX:
            return 0
        sweep = asyncio.create_task(self._sweep(selector, removed), name="cache-sweep")
        self._tasks.add(sweep)
        sweep.add_done_callback(self._tasks.discard)
        await asyncio.wait({sweep}, timeout=SWEEP_S)
        return removed[0]

    async def delete(self, shard: int, judged: Sequence[JudgedEntry]) -> int:
        """Deletes those that are still what was judged; how many. Raises StoreUnavailableError."""
        keys = [
            self._names.entries(shard),
            self._names.changes(shard),
            *(self._names.entry(each.key) for each in judged),
        ]
        values: list[Any] = [self._changes_max]
        for each in judged:
            values += (each.stamp, member(each.tenant, each.key), each.key)

        async def remove(redis: Redis) -> int:
            removing: Any = redis.eval(redis_scripts.SWEEP, len(keys), *keys, *values)
            return int(await removing)

        return await self._listing.unhurried(shard, remove)

    async def close(self) -> None:
        """Ends all sweeps."""
        await end_tasks(self._tasks)

    async def _sweep(self, selector: Selector, removed: list[int]) -> None:
        try:
            async for shard, judged in self._listing.entries(selector):
                invalid = [each for each in judged if not each.is_living]
                if invalid:
                    removed[0] += await self.delete(shard, invalid)
        except StoreUnavailableError as error:
            self._log.warning("cache_sweep_ended_early", error=str(error))
