"""Two replicas on one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.cache.entry import Scope, Selector
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store import redis_feed, redis_puts
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

ACME = Scope("acme")
ON, ON_TOO = "How do I turn on the heater?", "how do I turn on  the heater"
WELL_S = 10.0


def replica(server: RedisServer) -> SemanticCache:
    return cache_over(RedisStore(server.url, timeout_s=WELL_S, clock=SystemClock()), SystemClock())


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[tuple[SemanticCache, SemanticCache]]:
    one, two = replica(redis_server), replica(redis_server)
    await one.start()
    await two.start()
    yield one, two
    await one.close()
    await two.close()


async def put(cache: SemanticCache, text: str = ON, name: str = "heater") -> str:
    stored = await cache.store(ACME, chat(text), answer(), embedding=embedding(name), task_type=TaskType.OTHER)
    assert stored.result is StoreResult.STORED
    return stored.entry_key


async def kind(cache: SemanticCache, text: str = ON_TOO, name: str = "heater") -> CacheKind:
    found = await cache.lookup(ACME, chat(text), embedding=embedding(name), task_type=TaskType.OTHER)
    return found.outcome.kind


async def sees(cache: SemanticCache) -> None:
    async def semantic_hit() -> bool:
        return await kind(cache) is CacheKind.SEMANTIC_HIT

    await until(semantic_hit, what="the other replica's entry is found by meaning")


async def test_a_replica_sees_its_own_writes_at_once_and_the_others_soon(
    replicas: tuple[SemanticCache, SemanticCache],
) -> None:
    one, two = replicas
    await put(one)
    assert await kind(one) is CacheKind.SEMANTIC_HIT
    assert await kind(two, ON) is CacheKind.EXACT_HIT
    await sees(two)


async def test_what_one_replica_removes_the_other_misses_at_its_next_lookup(
    replicas: tuple[SemanticCache, SemanticCache],
) -> None:
    one, two = replicas
    key = await put(one)
    await sees(two)
    assert await two.invalidate(Selector(tenant="acme"), dry_run=True) == 1
    assert await two.invalidate(Selector(entry_key=key), dry_run=False) == 1
    assert await kind(one, ON) is CacheKind.MISS
    assert await kind(one) is CacheKind.MISS

    async def forgotten() -> bool:
        return one.stats().indexed_entries == 0

    await until(forgotten, what="the removal reaches the other index")


async def test_a_new_replica_is_warm_before_it_serves(
    replicas: tuple[SemanticCache, SemanticCache], redis_server: RedisServer
) -> None:
    for number in range(3):
        await put(replicas[0], f"question number {number}", f"name {number}")
    await put(replicas[0])
    late = replica(redis_server)
    await late.start()
    assert late.stats().indexed_entries == 4
    assert await kind(late) is CacheKind.SEMANTIC_HIT
    await late.close()


async def test_a_replica_that_was_overtaken_by_the_trimming_loads_everything_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_puts, "CHANGES_MAX", 10)
    monkeypatch.setattr(redis_feed, "RECORDS_MAX", 5)
    one, two = replica(redis_server), replica(redis_server)
    await one.start()
    await two.start()
    await put(one)
    await sees(two)
    # A burst that Redis trims before any reader has a turn: written past both replicas, in one transaction.
    with redis_server.client() as client:
        client.delete(*client.keys("spillway:*"))
        pipe = client.pipeline(transaction=True)
        for number in range(500):
            pipe.xadd("spillway:{cache:0}:2:changes", {"removed": str(number)}, maxlen=10, approximate=False)
        pipe.execute()

    async def forgotten() -> bool:
        return two.stats().indexed_entries == 0

    await until(forgotten, what="the follower begins anew")
    await one.close()
    await two.close()


async def test_what_others_wrote_into_redis_is_left_out_and_disturbs_nothing(
    replicas: tuple[SemanticCache, SemanticCache], redis_server: RedisServer
) -> None:
    one, two = replicas
    with redis_server.client() as client:
        client.xadd("spillway:{cache:0}:2:changes", {"noise": "1"})
        client.xadd(
            "spillway:{cache:0}:2:changes",
            {"put": "k", "partition": "p", "embedding_model": "m", "vector": b"\0" * 8, "expires_at": "9e9"},
        )
        client.zadd("spillway:{cache:0}:2:entries", {"no member": 9e12, "t:" + "0" * 64: 9e12})
        client.hset("spillway:{cache:0}:2:entry:" + "0" * 64, mapping={"partition": "p"})
    key = await put(one)
    await sees(two)
    late = replica(redis_server)
    await late.start()
    assert late.stats().indexed_entries == 1
    assert await late.invalidate(Selector(tenant="acme"), dry_run=True) == 1
    with redis_server.client() as client:
        client.hset(f"spillway:{{cache:0}}:2:entry:{key}", "answer", b"\xff")
    assert await kind(late, ON) is CacheKind.MISS
    await late.close()
