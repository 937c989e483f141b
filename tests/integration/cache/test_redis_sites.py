"""The cache on real sentinels and on a real cluster: the same promises, and what a failover costs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import CaughtUp
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_limits import Limits
from services.cache.store.redis_names import Names
from services.cache.store.redis_servers import CLUSTER_SHARDS, RedisServers
from services.runtime.clock import FakeClock, SystemClock
from services.runtime.redis_places import LOOKUP_EVERY_S
from spillway.configuration.redis_url import parse_redis_url
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, entry, indexed
from tests.support.fake_sentinel import fake_sentinels
from tests.support.redis_server import RedisServer
from tests.support.redis_sites import Cluster, SentinelSite, cluster, command, sentinel_site
from tests.support.waiting import until

WELL_S = 10.0
TENANTS = [f"tenant {number}" for number in range(40)]
QUESTION = "How do I turn on the heater?"


def store_at(url: str) -> RedisStore:
    return RedisStore(url, timeout_s=WELL_S, clock=SystemClock())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SentinelSite]:
    with sentinel_site(tmp_path) as made:
        yield made


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def replica(url: str) -> AsyncIterator[SemanticCache]:
    cache = cache_over(store_at(url), SystemClock())
    await cache.start()
    try:
        yield cache
    finally:
        await cache.close()


async def put(cache: SemanticCache, tenant: str) -> StoreResult:
    heater = embedding("heater")
    stored = await cache.store(Scope(tenant), chat(QUESTION), answer(), embedding=heater, task_type=TaskType.OTHER)
    return stored.result


async def kind(cache: SemanticCache, tenant: str, text: str = QUESTION) -> CacheKind:
    heater = embedding("heater")
    found = await cache.lookup(Scope(tenant), chat(text), embedding=heater, task_type=TaskType.OTHER)
    return found.outcome.kind


async def replicated(primary: RedisServer) -> None:
    """Waits until the replica has all that the primary has. WAIT would only wait for its own connection's writes."""

    async def even() -> bool:
        with primary.client() as asking:
            told = asking.info("replication")
        return bool(told["connected_slaves"] and told["slave0"]["offset"] >= told["master_repl_offset"])

    await until(even, what="the replica has what the primary has")


async def test_a_cluster_keeps_entries_on_all_of_its_nodes_and_replicas_follow_every_one(nodes: Cluster) -> None:
    async with replica(nodes.url) as one, replica(nodes.url) as two:
        for tenant in TENANTS:
            assert await put(one, tenant) is StoreResult.STORED

        async def followed() -> bool:
            return two.stats().indexed_entries == len(TENANTS)

        await until(followed, what="the other replica follows every shard")
        for tenant in TENANTS:
            assert await kind(two, tenant) is CacheKind.EXACT_HIT
            assert await kind(two, tenant, "how do I turn on  the heater") is CacheKind.SEMANTIC_HIT
        assert await two.invalidate(Selector(tenant=TENANTS[0]), dry_run=False) == 1
        assert await kind(one, TENANTS[0]) is CacheKind.MISS
        assert await kind(one, TENANTS[1]) is CacheKind.EXACT_HIT
    for node in nodes.nodes[:3]:
        with node.client() as client:
            assert client.dbsize() > 0
    async with replica(nodes.url) as late:
        assert late.stats().indexed_entries == len(TENANTS) - 1


async def test_the_shards_of_a_cluster_share_its_limits(nodes: Cluster) -> None:
    limits = Limits(tenant_entries_max=100, entries_max=160, bytes_max=100_000_000)
    clock = FakeClock(unix=SystemClock().unix())
    store = RedisStore(nodes.url, timeout_s=WELL_S, clock=clock, limits=limits)
    names = Names(CLUSTER_SHARDS)
    now = SystemClock().unix()
    first, second = Scope(TENANTS[0]), Scope(TENANTS[1])
    assert names.shard_of(entry("q", now_unix_s=now, scope=first).key) != names.shard_of(
        entry("q", now_unix_s=now, scope=second).key
    )
    for number in range(100):
        await store.put(entry(f"q {number}", now_unix_s=now, scope=first))
    for number in range(100):
        await store.put(entry(f"q {number}", now_unix_s=now, scope=second))
    assert len(await store.find(Selector(tenant=TENANTS[0]))) == 100
    assert len(await store.find(Selector(tenant=TENANTS[1]))) == 60
    another = RedisStore(nodes.url, timeout_s=WELL_S, clock=clock, limits=limits)

    async def knows_all() -> bool:
        await another.put(entry("q", now_unix_s=now, scope=second))
        await another.delete([entry("q", now_unix_s=now, scope=second).key])
        return another.evicted > 0

    await until(knows_all, what="another replica has looked at all shards")
    await another.close()
    await store.close()


async def test_entries_of_many_shards_are_found_and_removed_together(nodes: Cluster) -> None:
    store = store_at(nodes.url)
    now = SystemClock().unix()
    entries = [entry("q", now_unix_s=now, scope=Scope(tenant), tags=("red",)) for tenant in TENANTS]
    for each in entries:
        await store.put(each)
    keys = [each.key for each in entries]
    assert await store.get_many(keys) == entries
    assert sorted(await store.find(Selector(tag="red"))) == sorted(keys)
    assert await store.invalidate(Selector(tag="red")) == len(keys)
    assert await store.get_many(keys) == [None] * len(keys)
    await store.close()


async def test_a_cluster_node_that_is_replaced_by_its_replica_is_found_again(nodes: Cluster) -> None:
    async with replica(nodes.url) as cache:
        for tenant in TENANTS:
            assert await put(cache, tenant) is StoreResult.STORED
        await replicated(nodes.nodes[0])
        nodes.nodes[0].kill()
        with nodes.nodes[3].client() as successor:
            command(successor, "CLUSTER", "FAILOVER", "TAKEOVER")
        for tenant in TENANTS:

            async def served(tenant: str = tenant) -> bool:
                return await kind(cache, tenant) is CacheKind.EXACT_HIT

            await until(served, what="the successor is asked")
        assert {await put(cache, tenant) for tenant in TENANTS} == {StoreResult.STORED}


async def test_a_primary_that_fails_is_replaced_by_the_one_that_the_sentinels_name(site: SentinelSite) -> None:
    async with replica(site.url) as cache:
        assert await put(cache, "acme") is StoreResult.STORED
        await replicated(site.primary)
        site.lose_primary()
        assert await kind(cache, "acme") is CacheKind.UNAVAILABLE

        async def stored() -> bool:
            return await put(cache, "other") is StoreResult.STORED

        await until(stored, what="the promoted replica takes answers")
        assert [await kind(cache, tenant) for tenant in ("acme", "other")] == [CacheKind.EXACT_HIT] * 2

        async def both_indexed() -> bool:
            return cache.stats().indexed_entries == 2

        await until(both_indexed, what="the index follows the promoted replica")
        for tenant in ("acme", "other"):
            assert await kind(cache, tenant, "how do I turn on  the heater") is CacheKind.SEMANTIC_HIT
    async with replica(site.url) as late:
        assert late.stats().indexed_entries == 2


@pytest.mark.slow
async def test_a_primary_that_became_a_replica_is_not_asked_any_more(site: SentinelSite) -> None:
    """It would go on to serve what is invalidated at its successor."""
    async with replica(site.url) as cache:
        assert await put(cache, "acme") is StoreResult.STORED
        await replicated(site.primary)
        site.fail_over()

        async def switched() -> bool:
            with site.primary.client() as primary:
                return bool(primary.info("replication")["role"] == "slave")

        await until(switched, what="the old primary is demoted")
        site.primary.freeze()  # it would answer, but hears of nothing any more
        try:
            async with replica(site.url) as other:

                async def invalidated() -> bool:
                    return await other.invalidate(Selector(tenant="acme"), dry_run=False) >= 0

                await until(invalidated, what="the invalidation reaches the new primary")
        finally:
            site.primary.thaw()

        async def missed() -> bool:
            outcome = await kind(cache, "acme")
            assert outcome is not CacheKind.EXACT_HIT
            return outcome is CacheKind.MISS

        await until(missed, what="the new primary is asked")


async def test_a_follower_of_a_cluster_goes_on_from_its_position(nodes: Cluster) -> None:
    store = store_at(nodes.url)
    now = SystemClock().unix()
    first, second = (entry("q", now_unix_s=now, scope=Scope(tenant)) for tenant in TENANTS[:2])
    await store.put(first)
    position = ""
    async with contextlib.aclosing(store.changes()) as changes:
        async for change in changes:
            if reached := getattr(change, "position", ""):
                position = reached
                break
    await store.put(second)
    seen = []
    async with contextlib.aclosing(store.changes(position)) as changes:
        async for change in changes:
            seen.append(change)
            if isinstance(change, CaughtUp):
                break
    assert [change.key for change in indexed(seen)] == [second.key]
    await store.close()


async def test_once_it_has_asked_the_cache_goes_on_asking_its_sentinels_though_nobody_looks_anything_up() -> None:
    clock = FakeClock()
    async with fake_sentinels(1) as (sentinel,):
        url = parse_redis_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        servers = RedisServers(url, password="", clock=clock)
        await servers.client(0)
        for _ in range(2):
            asked = sentinel.asked

            async def is_asked_again(before: int = asked) -> bool:
                return sentinel.asked > before

            await until(_watching(clock), what="it waits for the next time")
            clock.advance(LOOKUP_EVERY_S)
            await until(is_asked_again, what="it asks again")
        await servers.close()


def _watching(clock: FakeClock) -> Callable[[], Awaitable[bool]]:
    async def is_watching() -> bool:
        return clock.sleepers == 1

    return is_watching
