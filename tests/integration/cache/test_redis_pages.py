"""A follower of many entries in a Redis is told of all of them, also of those that come while it is being told."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from services.cache.entry import Entry
from services.cache.store import redis_feed
from services.cache.store.answer_store import CaughtUp, Change, Forget, IndexedMany
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry, indexed
from tests.support.redis_server import RedisServer

WELL_S = 10.0
ENTRIES = 1_300


async def put_all(store: RedisStore, entries: list[Entry]) -> None:
    for start in range(0, len(entries), 50):
        await asyncio.gather(*(store.put(each) for each in entries[start : start + 50]))


async def test_a_load_of_several_pages_tells_every_entry_and_what_is_put_meanwhile(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout_s=WELL_S, clock=SystemClock())
    entries = [entry(f"q{number}", now_unix_s=SystemClock().unix()) for number in range(ENTRIES)]
    await put_all(store, entries[:-100])
    seen: list[Change] = []
    async with aclosing(store.changes()) as changes, asyncio.timeout(WELL_S):
        async for change in changes:
            seen.append(change)
            if isinstance(change, IndexedMany) and sum(isinstance(each, IndexedMany) for each in seen) == 1:
                await put_all(store, entries[-100:])
            if isinstance(change, CaughtUp):
                break
    assert isinstance(seen[0], Forget)
    assert sum(isinstance(each, IndexedMany) for each in seen) > ENTRIES // redis_feed.RECORDS_MAX
    assert {each.key for each in indexed(seen)} == {each.key for each in entries}
    await store.close()


async def test_a_follower_that_leaves_in_the_middle_of_a_load_leaves_nothing_running(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout_s=WELL_S, clock=SystemClock())
    await put_all(store, [entry(f"q{number}", now_unix_s=SystemClock().unix()) for number in range(ENTRIES)])
    before = asyncio.all_tasks()
    async with aclosing(store.changes()) as changes:
        async for change in changes:
            if isinstance(change, IndexedMany):
                break
    assert asyncio.all_tasks() == before
    await store.close()
