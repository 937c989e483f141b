"""A Redis that answers late, or becomes a replica under open connections: misses, dropped stores, and then recovery."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.cache.entry import Scope
from services.cache.semantic_cache import SemanticCache, StoreResult
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, eventually, policy
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.redis_server import RedisServer

ACME = Scope("acme")
TEXTS = ("How do I turn on the heater?", "Where is the lamp?")


def cache_at(url: str, timeout_s: float) -> SemanticCache:
    store = RedisStore(url, timeout_s=timeout_s, clock=SystemClock())
    return cache_over(store, SystemClock(), rules=policy(lookup_s=timeout_s + 0.005))


async def put(cache: SemanticCache, text: str) -> StoreResult:
    stored = await cache.store(
        ACME, chat(text), answer(f"answer to {text}"), embedding=embedding(text), task_type=TaskType.OTHER
    )
    return stored.result


async def until_served(cache: SemanticCache) -> None:
    async def served() -> bool:
        return (await cache.lookup(ACME, chat(TEXTS[0]))).outcome.kind is CacheKind.EXACT_HIT

    await eventually(served, what="answers are served again")


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    direct = cache_at(redis_server.url, 10.0)
    for text in TEXTS:
        assert await put(direct, text) is StoreResult.STORED
    await direct.close()
    async with fault_proxy(redis_server.port) as made:
        yield made


async def test_a_redis_slower_than_the_limit_is_a_miss_and_a_dropped_store_and_recovers(proxy: FaultProxy) -> None:
    cache = cache_at(f"redis://{proxy.address}/0", 0.05)
    await cache.start()
    await until_served(cache)
    before = cache.stats()
    proxy.fault = Fault(latency_s=0.1)
    assert [(await cache.lookup(ACME, chat(text))).outcome.kind for text in TEXTS] == [CacheKind.UNAVAILABLE] * 2
    assert await put(cache, "another question") is StoreResult.UNAVAILABLE
    after = cache.stats()
    assert (after.unavailable - before.unavailable, after.dropped - before.dropped) == (2, 1)
    proxy.fault = Fault()
    await until_served(cache)
    for text in TEXTS:  # no late reply is taken for another question's
        found = await cache.lookup(ACME, chat(text))
        assert found.outcome.kind is CacheKind.UNAVAILABLE or found.answer == answer(f"answer to {text}")
    await cache.close()


async def test_a_redis_that_is_slow_within_the_limit_serves(proxy: FaultProxy) -> None:
    proxy.fault = Fault(latency_s=0.03)
    cache = cache_at(f"redis://{proxy.address}/0", 10.0)
    await cache.start()
    for text in TEXTS:
        assert (await cache.lookup(ACME, chat(text))).answer == answer(f"answer to {text}")
    assert await put(cache, "another question") is StoreResult.STORED
    assert (cache.stats().unavailable, cache.stats().dropped) == (0, 0)
    await cache.close()


async def test_a_primary_that_becomes_read_only_is_a_dropped_store_then_misses_and_recovers(
    redis_server: RedisServer,
) -> None:
    cache = cache_at(redis_server.url, 0.5)
    assert await put(cache, TEXTS[0]) is StoreResult.STORED
    with redis_server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            assert await put(cache, TEXTS[1]) is StoreResult.UNAVAILABLE
            assert cache.stats().dropped == 1

            async def missed() -> bool:
                found = await cache.lookup(ACME, chat(TEXTS[0]))
                return found.outcome.kind is CacheKind.UNAVAILABLE

            await eventually(missed, what="nothing is read from a replica any more")
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
    await until_served(cache)
    await cache.close()
