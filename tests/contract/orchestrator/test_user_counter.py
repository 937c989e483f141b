"""What every counter of users promises: one suite, for the one in memory and the one in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from services.orchestrator.users import MemoryUsers, RedisUsers, UserCounter, key_names
from services.runtime.clock import SystemClock
from tests.support.jobs_parts import WELL_S, redis_client
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

LONG_S = 600.0
SHORT_S = 0.02
Making = Callable[..., UserCounter]


@pytest.fixture(params=["memory", "redis"])
async def making(request: pytest.FixtureRequest) -> AsyncIterator[Making]:
    def in_memory(forget_s: float = LONG_S, users_max: int = 100) -> UserCounter:
        return MemoryUsers(SystemClock(), forget_s=forget_s, users_max=users_max)

    if request.param == "memory":
        yield in_memory
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = redis_client(server.url)

    def in_redis(forget_s: float = LONG_S, users_max: int = 100) -> UserCounter:
        return counter_of(client, forget_s=forget_s, users_max=users_max)

    yield in_redis
    await client.aclose()


def counter_of(client: Redis, *, forget_s: float = LONG_S, users_max: int = 100) -> RedisUsers:
    return RedisUsers(client, timeout_s=WELL_S, clock=SystemClock(), forget_s=forget_s, users_max=users_max)


async def test_it_says_how_many_there_were_before_and_counts_this_one(making: Making) -> None:
    users = making()
    assert [await users.seen("acme", "ann") for _ in range(3)] == [0, 1, 2]


async def test_users_and_tenants_are_counted_each_for_itself(making: Making) -> None:
    users = making()
    for tenant, end_user in (("a", "bc"), ("ab", "c"), ("a", "bd"), ("", "abc")):
        assert await users.seen(tenant, end_user) == 0
    assert await users.seen("a", "bc") == 1


async def test_looking_counts_nothing(making: Making) -> None:
    users = making()
    assert await users.seen("acme", "ann", peek=True) == 0
    assert await users.seen("acme", "ann") == 0
    assert await users.seen("acme", "ann", peek=True) == 1
    assert await users.seen("acme", "ann") == 1


async def test_who_was_away_long_enough_is_new_again(making: Making) -> None:
    users = making(forget_s=SHORT_S)
    await users.seen("acme", "ann")
    async with asyncio.timeout(WELL_S):
        while await users.seen("acme", "ann", peek=True):  # noqa: ASYNC110 - time passes in the server
            await asyncio.sleep(SHORT_S)
    assert await users.seen("acme", "ann") == 0


async def test_beyond_the_bound_those_away_longest_are_forgotten(making: Making) -> None:
    users = making(users_max=2)
    for name in ("ann", "ben", "ann"):
        await users.seen("acme", name)
    assert await users.seen("acme", "cem") == 0
    assert await users.seen("acme", "ann", peek=True) == 2
    assert await users.seen("acme", "ben", peek=True) == 0


async def test_side_by_side_no_message_is_lost(making: Making) -> None:
    users = making()
    counts = await asyncio.gather(*(users.seen("acme", "ann") for _ in range(40)))
    assert sorted(count for count in counts if count is not None) == list(range(40))


async def test_any_name_may_be_counted(making: Making) -> None:
    users = making()
    for name in ("", "}{", "\ud800", "x" * 10_000, "a\r\nb"):
        assert await users.seen(name, name) == 0
        assert await users.seen(name, name) == 1


async def test_replicas_count_together_in_one_round_trip(redis_server: RedisServer) -> None:
    clients = [redis_client(redis_server.url) for _ in range(2)]
    one, other = (counter_of(client) for client in clients)
    assert (await one.seen("acme", "ann"), await other.seen("acme", "ann")) == (0, 1)
    with redis_server.client() as look:
        before = commands(look.info("commandstats"))
        await other.seen("acme", "ann")
        await one.seen("acme", "ben", peek=True)
        assert commands(look.info("commandstats")) - before == 2
    for client in clients:
        await client.aclose()


def commands(stats: dict[str, dict[str, int]]) -> int:
    """Scripts that were called; what they call themselves is no round trip."""
    return sum(found["calls"] for name, found in stats.items() if name in {"cmdstat_evalsha", "cmdstat_eval"})


async def test_no_more_users_of_a_tenant_are_kept_in_redis_than_the_bound(redis_server: RedisServer) -> None:
    client = redis_client(redis_server.url)
    users = counter_of(client, users_max=3)
    for number in range(10):
        await users.seen("acme", f"user-{number}")
    with redis_server.client() as look:
        seen, counts = key_names("acme")
        assert (look.zcard(seen), look.hlen(counts)) == (3, 3)
    await client.aclose()


async def test_keys_are_of_one_slot_hold_no_names_and_expire(redis_server: RedisServer) -> None:
    client = redis_client(redis_server.url)
    await counter_of(client).seen("acme", "ann")
    with redis_server.client() as look:
        keys = {key.decode() for key in look.scan_iter()}
        assert keys == set(key_names("acme"))
        assert len({key.partition("{")[2].partition("}")[0] for key in keys}) == 1
        for key in keys:
            assert 0 < look.pttl(key) <= LONG_S * 1_000
            content = look.dump(key)
            assert content is not None
            assert b"ann" not in content
        assert not any("acme" in key for key in keys)
    await client.aclose()


async def test_of_a_redis_that_is_gone_nobody_can_say_until_it_is_back(redis_server: RedisServer) -> None:
    client = redis_client(redis_server.url)
    users = counter_of(client)
    assert await users.seen("acme", "ann") == 0
    redis_server.kill()
    assert await users.seen("acme", "ann") is None
    redis_server.start()

    async def is_counted() -> bool:
        return await users.seen("acme", "ann") is not None

    await until(is_counted, what="it is left alone for a moment")
    await client.aclose()
