"""Deleting what was invalidated, while others write."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from services.cache.entry import Selector
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_listing import JudgedEntry, RedisListing
from services.cache.store.redis_names import Names
from services.cache.store.redis_servers import RedisServers
from services.cache.store.redis_sweep import RedisSweeps
from services.runtime.clock import SystemClock
from spillway.configuration.redis_url import parse_redis_url
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

NAMES = Names(1)
ACME = Selector(tenant="acme")


class _Overtaken(RedisListing):
    """Somebody does something after each look, before what was seen is acted upon."""

    def __init__(self, servers: RedisServers, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(servers, NAMES, clock=SystemClock())
        self._meanwhile = meanwhile

    async def entries(self, selector: Selector) -> AsyncGenerator[tuple[int, list[JudgedEntry]], None]:
        async with aclosing(super().entries(selector)) as looks:
            async for look in looks:
                await self._meanwhile()
                yield look


@pytest.fixture
async def servers(redis_server: RedisServer) -> AsyncIterator[RedisServers]:
    made = RedisServers(parse_redis_url(redis_server.url), password="", clock=SystemClock())
    yield made
    await made.close()


async def test_what_is_put_anew_between_look_and_deletion_stays(
    redis_server: RedisServer, servers: RedisServers, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cache.store.redis_sweep.SWEEPS_MAX", 0)  # the store's own sweep leaves the bodies
    now = SystemClock().unix()
    renewed, left = entry("renewed", now_unix_s=now), entry("left", now_unix_s=now)
    await store.put(renewed)
    await store.put(left)
    await store.invalidate(ACME)
    fresh = entry("renewed", now_unix_s=now, text="Lyon.")
    looks = 0

    async def meanwhile() -> None:
        nonlocal looks
        looks += 1
        await store.put(fresh)

    monkeypatch.setattr("services.cache.store.redis_sweep.SWEEPS_MAX", 1)
    sweeps = RedisSweeps(_Overtaken(servers, meanwhile), NAMES, changes_max=100)
    assert await sweeps.swept(ACME) == 1
    await sweeps.close()
    assert looks == 1
    assert await store.get_many([renewed.key, left.key]) == [fresh, None]
    assert await store.find(ACME) == [renewed.key]
    with redis_server.client() as client:
        assert not client.exists(NAMES.entry(left.key))
        *_, (_, record) = client.xrange(NAMES.changes(0))
    assert record == {b"removed": left.key.encode()}


async def test_what_is_living_is_not_swept(servers: RedisServers, store: RedisStore) -> None:
    put = entry("q", now_unix_s=SystemClock().unix())
    await store.put(put)
    sweeps = RedisSweeps(RedisListing(servers, NAMES, clock=SystemClock()), NAMES, changes_max=100)
    assert await sweeps.swept(ACME) == 0
    assert await store.get_many([put.key]) == [put]


async def test_a_sweep_without_redis_ends_and_harms_nobody(
    redis_server: RedisServer, servers: RedisServers, store: RedisStore
) -> None:
    await store.put(entry("q", now_unix_s=SystemClock().unix()))
    sweeps = RedisSweeps(RedisListing(servers, NAMES, clock=SystemClock()), NAMES, changes_max=100)
    redis_server.kill()
    assert await sweeps.swept(ACME) == 0
    await sweeps.close()


async def test_a_put_clears_no_more_than_so_many_expired_entries_off_the_list(
    redis_server: RedisServer, servers: RedisServers, store: RedisStore
) -> None:
    now = SystemClock().unix()
    first, second = entry("first", now_unix_s=now), entry("second", now_unix_s=now)
    await store.put(first)
    redis = await servers.client(0)
    await redis.zadd(NAMES.entries(0), {f"expired {number}": 1_000.0 + number for number in range(1_000)})
    before = await redis.zcard(NAMES.entries(0))
    await store.put(second)
    assert await redis.zcard(NAMES.entries(0)) == before + 1 - 64
    for number in range(16):
        await store.put(entry(f"later {number}", now_unix_s=now))
    assert await redis.zcard(NAMES.entries(0)) == 2 + 16
