"""Who leaves a Redis without room, and that the account says what is there. What every store promises of its limits is
in the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.eviction import Evictor
from services.cache.store.redis_limits import ENTRY_OVERHEAD_BYTES, Limits
from services.cache.store.redis_names import Names, member
from services.cache.store.redis_room import HELD
from services.runtime.clock import Clock, SystemClock
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from tests.integration.cache.served import ON, ON_TOO, lookup_request, served, store_request
from tests.support.cache_parts import entry
from tests.support.hypothesis_profiles import examples
from tests.support.redis_account import ROOM, settled_account
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

NAMES = Names(1)
LIST = NAMES.entries(0)
MANY = 1_000_000
ROOMY = Limits(MANY, MANY, MANY * 1_000)


@asynccontextmanager
async def limited(server: RedisServer, limits: Limits, clock: Clock | None = None) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, timeout_s=10.0, clock=clock or SystemClock(), limits=limits)
    yield store
    await store.close()


def numbered(number: int, *, tenants: int = 3, text: str = "Paris.", ttl_s: float = 3_600.0) -> Entry:
    scope = Scope(f"t{number % tenants}")
    now = SystemClock().unix()
    return entry(f"question {number:04}", now_unix_s=now, ttl_s=ttl_s, scope=scope, text=text, tags=(f"g{number % 2}",))


def of_an_older_version(client: Any, put: Entry) -> None:
    """As one that keeps no account puts it."""
    client.hset(NAMES.entry(put.key), "tenant", put.scope.tenant)
    client.pexpireat(NAMES.entry(put.key), int(put.expires_at_unix_s * 1_000))
    client.zadd(LIST, {member(put.scope.tenant, put.key): put.expires_at_unix_s * 1_000})


steps = st.tuples(
    st.sampled_from(["put", "put", "put", "put", "short", "use", "delete", "tag", "tenant", "older"]),
    st.integers(0, 30),
    st.integers(0, 6),
)


@given(st.lists(steps, min_size=30, max_size=60))
@settings(max_examples=examples(25, 1_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_limits_hold_and_the_account_says_what_is_there_after_any_history(
    redis_server: RedisServer, history: list[tuple[str, int, int]]
) -> None:
    limits = Limits(4, 8, 40_000)

    async def run(client: Any) -> None:
        async with limited(redis_server, limits) as store:
            for step, number, size in history:
                put = numbered(number, text="x" * (size * 2_000), ttl_s=-5.0 if step == "short" else 3_600.0)
                if step in ("put", "short"):
                    assert await store.put(put)
                    assert client.zcard(LIST) <= limits.entries_max
                    assert client.zscore(ROOM + "totals", "bytes") <= limits.bytes_max
                    tenants = client.zrange(ROOM + "counts", 0, -1, withscores=True)
                    assert all(count <= limits.tenant_entries_max for _, count in tenants)
                elif step == "use":
                    store.served(put.key)
                elif step == "delete":
                    await store.delete([put.key])
                elif step == "tag":
                    await store.invalidate(Selector(tenant=put.scope.tenant, tag=put.tags[0]))
                elif step == "tenant":
                    await store.invalidate(Selector(tenant=put.scope.tenant))
                elif client.zscore(LIST, member(put.scope.tenant, put.key)) is None:
                    of_an_older_version(client, put)
            older = [key for key in client.keys(NAMES.entry("*")) if not client.hexists(key, "stamp")]
            await store.delete([key.decode().rpartition(":")[2] for key in older])
            client.eval(HELD, 1, LIST)
            settled_account(client)
            for tenant in range(3):
                await store.invalidate(Selector(tenant=f"t{tenant}"))
            assert settled_account(client) == {}
            assert client.keys(ROOM + "*") == []

    with redis_server.client() as client:
        client.flushall()
        asyncio.run(run(client))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 6)), min_size=25, max_size=60))
@settings(max_examples=examples(25, 1_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_lets_leave_what_a_memory_would(redis_server: RedisServer, history: list[tuple[bool, int, int]]) -> None:
    limits = Limits(MANY, 6, 60_000)

    async def run(client: Any) -> None:
        model = Evictor(
            entries_max=limits.entries_max, tenant_entries_max=limits.entries_max, bytes_max=limits.bytes_max
        )
        async with limited(redis_server, limits) as store:
            puts: list[Entry] = []
            for is_put, number, size in history:
                if not is_put and puts:
                    used = puts[-1 - number % len(puts)].key
                    store.served(used)
                    model.use(used)
                elif is_put:
                    puts.append(numbered(len(puts), tenants=1, text="x" * (size * 2_000)))
                    assert await store.put(puts[-1])
                    taken = int(client.hget(ROOM + "sizes", puts[-1].key).split()[0])
                    model.add(puts[-1].key, tenant="t0", size_bytes=taken, cost_nanousd=puts[-1].answer.cost_nanousd)
                assert set(await store.find(Selector(tenant="t0"))) == set(model.keys_of("t0"))

    with redis_server.client() as client:
        client.flushall()
        asyncio.run(run(client))


async def test_the_account_takes_an_entry_for_what_redis_keeps_of_it(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as store:
            await store.put(numbered(0))
            before = client.info("memory")["used_memory"]
            for number in range(1, 1_001):
                await store.put(numbered(number, text="x" * 1_000))
            taken = client.info("memory")["used_memory"] - before
            accounted = sum(size_bytes for _, size_bytes in settled_account(client).values())
    assert taken * 0.9 <= accounted + ENTRY_OVERHEAD_BYTES <= taken * 1.3


async def test_what_an_older_version_stored_leaves_first_until_the_limit_holds(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for number in range(200):
            of_an_older_version(client, numbered(number))
        async with limited(redis_server, Limits(MANY, 10, MANY)) as store:
            fresh = [numbered(number) for number in range(1_000, 1_009)]
            for each in fresh:
                assert await store.put(each)
            assert await store.get_many([each.key for each in fresh]) == fresh
        assert client.zcard(LIST) <= 10


async def test_a_put_that_finds_no_room_is_dropped_and_nothing_is_half_written(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, Limits(MANY, MANY, 20_000)) as store:
            kept = numbered(0)
            assert await store.put(kept)
            with pytest.raises(StoreUnavailableError):
                await store.put(numbered(3, text="x" * 30_000))
            assert await store.get_many([kept.key]) == [kept]
            assert client.keys(NAMES.entry("*")) == [NAMES.entry(kept.key).encode()]
            assert [entries for entries, _ in settled_account(client).values()] == [1]


@pytest.mark.parametrize("lowered", [Limits(10, MANY, MANY), Limits(MANY, 10, MANY), Limits(MANY, MANY, 30_000)])
async def test_where_a_limit_was_lowered_each_put_is_kept_and_makes_only_so_many_leave(
    redis_server: RedisServer, lowered: Limits
) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as roomy:
            for number in range(150):
                await roomy.put(numbered(number, tenants=1))
        async with limited(redis_server, lowered) as store:
            there = []
            for number in range(1_000, 1_004):
                assert await store.put(numbered(number, tenants=1))
                there.append(client.zcard(LIST))
            assert there[:2] == [87, 24]
            assert there[2] == there[3] <= 12
            assert store.evicted == 150 + 4 - there[3]
            settled_account(client)


async def test_a_large_answer_among_small_ones_is_kept_and_no_more_leave_than_it_takes(
    redis_server: RedisServer,
) -> None:
    limits = Limits(MANY, MANY, 400_000)
    with redis_server.client() as client:
        async with limited(redis_server, limits) as store:
            for number in range(200):
                await store.put(numbered(number))
            there, evicted = client.zcard(LIST), store.evicted
            assert there > 100
            assert await store.put(numbered(1_000, text="x" * 250_000))
            assert 64 < store.evicted - evicted < there - 20
            assert client.zscore(ROOM + "totals", "bytes") <= limits.bytes_max
            settled_account(client)


async def test_an_answer_for_which_as_many_as_may_leave_are_too_few_is_dropped_and_none_leaves(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, Limits(MANY, MANY, 3_200_000)) as store:
            for start in range(0, 1_300, 50):
                await asyncio.gather(*(store.put(numbered(number)) for number in range(start, start + 50)))
            there, evicted = client.zcard(LIST), store.evicted
            assert there > 1_100
            with pytest.raises(StoreUnavailableError):
                await store.put(numbered(5_000, text="x" * 3_150_000))
            assert (client.zcard(LIST), store.evicted) == (there, evicted)
            settled_account(client)


async def test_an_expired_answer_leaves_before_a_living_one_of_its_tenant_however_many_others_expired(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as roomy:
            living = numbered(0, tenants=1, text="x" * 2_000)  # the least for each byte
            expired = [numbered(number, tenants=1) for number in range(1, 5)]
            for each in (living, *expired):
                await roomy.put(each)
        client.delete(*(NAMES.entry(each.key) for each in expired))
        past_ms = SystemClock().unix() * 1_000 - 60_000
        client.zadd(LIST, {member(f"other {number}", f"{number:064x}"): past_ms for number in range(100)})
        client.zadd(LIST, {member("t0", each.key): past_ms + 30_000 for each in expired})
        async with limited(redis_server, Limits(5, MANY, MANY * 1_000)) as store:
            assert await store.put(numbered(10, tenants=1))
            assert await store.get_many([living.key]) == [living]


class _Ahead(SystemClock):
    """Two hours."""

    def unix(self) -> float:
        return super().unix() + 7_200.0


async def test_a_replica_whose_clock_is_ahead_takes_nothing_living_off_the_list(redis_server: RedisServer) -> None:
    async with limited(redis_server, ROOMY) as store, limited(redis_server, ROOMY, _Ahead()) as ahead:
        living = [numbered(number, tenants=1) for number in range(100)]
        for each in living:
            await store.put(each)
        for number in range(1_000, 1_005):
            await ahead.put(numbered(number, tenants=1, ttl_s=7_300.0))
        assert {each.key for each in living} <= set(await store.find(Selector(tenant="t0")))


async def test_what_expired_leaves_the_list_of_a_redis_that_is_full(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as store:
            await store.put(numbered(0))
            for number in range(1, 40):
                await store.put(numbered(number, ttl_s=-5.0))
            client.config_set("maxmemory", 1)
            for number in range(1_000, 1_002):
                with suppress(StoreUnavailableError):
                    await store.put(numbered(number))
            client.config_set("maxmemory", 0)
            settled_account(client)


async def test_a_full_redis_takes_no_use_and_no_put_and_keeps_its_account(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as store:
            put = numbered(0)
            await store.put(put)
            before = settled_account(client)
            store.served(put.key)
            client.config_set("maxmemory", 1)
            for each in (put, numbered(1)):
                with pytest.raises(StoreUnavailableError):
                    await store.put(each)
            assert await store.get_many([put.key]) == [put]
            assert settled_account(client) == before
            assert await store.delete([put.key]) == 1
            assert settled_account(client) == {}


async def test_a_full_redis_takes_an_entry_for_which_another_leaves(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, Limits(MANY, 2, MANY)) as store:
            first, second, third = (numbered(number, tenants=1) for number in range(3))
            await store.put(first)
            await store.put(second)
            store.served(first.key)
            client.config_set("maxmemory", 1)
            assert await store.put(third)
            assert len(await store.find(Selector(tenant="t0"))) == 2
            settled_account(client)


@pytest.mark.parametrize("lost", ["sizes", "worth:*", "counts", "bytes", "totals", "clocks", "*"])
async def test_an_account_that_lost_a_part_keeps_the_limit_and_becomes_right_again(
    redis_server: RedisServer, lost: str
) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, Limits(MANY, 6, MANY)) as store:
            for number in range(10):
                await store.put(numbered(number))
            client.delete(*client.keys(ROOM + lost))
            for number in range(100, 130):
                await store.put(numbered(number))
                assert client.zcard(LIST) <= 6
            for tenant in range(3):
                await store.invalidate(Selector(tenant=f"t{tenant}"))
            for number in range(200, 210):
                await store.put(numbered(number))
            settled_account(client)


async def test_what_is_deleted_after_its_body_was_lost_leaves_the_list_too(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as store:
            put = numbered(0)
            await store.put(put)
            client.delete(NAMES.entry(put.key))
            await store.delete([put.key])
            assert client.zcard(LIST) == 0
            assert settled_account(client) == {}


async def test_what_redis_evicted_by_itself_leaves_the_account_with_the_next_puts(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, ROOMY) as store:
            puts = [numbered(number, ttl_s=1_000.0 + number) for number in range(12)]
            for each in puts:
                await store.put(each)
            client.delete(*(NAMES.entry(each.key) for each in puts[:10]))
            await store.put(numbered(100))
            assert client.zcard(LIST) == 12 - 4 + 1
            await store.put(numbered(101))
            await store.put(numbered(102))
            assert client.zcard(LIST) == 2 + 3
            settled_account(client)


async def test_a_sum_of_nothing_keeps_nobody_out(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.zadd(ROOM + "totals", {"bytes": 1e15})
        async with limited(redis_server, Limits(MANY, MANY, MANY)) as store:
            assert await store.put(numbered(0))
        settled_account(client)


async def test_what_a_larger_answer_replaces_may_leave_for_it_and_the_limit_holds(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with limited(redis_server, Limits(MANY, MANY, 100_000)) as store:
            replaced, other = (numbered(number, tenants=1, text="x" * 40_000) for number in range(2))
            await store.put(replaced)
            await store.put(other)
            store.served(other.key)
            larger = numbered(0, tenants=1, text="x" * 70_000)
            assert await store.put(larger)
            assert await store.get_many([larger.key, other.key]) == [larger, None]
            settled_account(client)


async def test_a_use_counts_for_the_replica_that_makes_room(redis_server: RedisServer) -> None:
    limits = Limits(MANY, 3, MANY)
    async with limited(redis_server, limits) as one, limited(redis_server, limits) as other:
        first = [numbered(number, tenants=1) for number in range(2)]
        for each in first:
            await one.put(each)
        one.served(first[0].key)
        await one.put(numbered(2, tenants=1))  # takes the use along
        for number in range(3, 5):
            await other.put(numbered(number, tenants=1))
        assert await other.get_many([each.key for each in first]) == [first[0], None]
        assert (one.evicted, other.evicted) == (0, 2)


async def test_one_tenants_flood_leaves_anothers_answers_where_they_are_found_by_meaning(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    cache = {"store": "redis", "redis_url": redis_server.url, "redis_timeout_s": 10, "entries_max": 20}
    quiet, loud = pb.CacheScope(tenant="quiet"), pb.CacheScope(tenant="loud")
    async with served(tmp_path, cache) as stub:
        await stub.Store(store_request(ON, scope=quiet))
        for number in range(40):
            await stub.Store(store_request(f"question {number} of what?", scope=loud))

        async def indexed() -> bool:
            return bool((await stub.GetStats(pb.GetStatsRequest())).indexed_entries <= 20)

        await until(indexed, what="the index follows what had to leave")
        found = await stub.Lookup(lookup_request(ON_TOO, scope=quiet))
        stats = await stub.GetStats(pb.GetStatsRequest())
    assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_SEMANTIC_HIT
    assert (stats.evicted, stats.indexed_entries) == (21, 20)
