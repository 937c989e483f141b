"""A Redis that answers late, is loading or full, or becomes a replica: misses, dropped stores, and then recovery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, policy
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

ACME = Scope("acme")
FILLING = 2_000
LOAD_DELAY_US = 10_000
"""Of each key: so loading takes some 20 s, were it not for a shorter delay set meanwhile."""

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

    await until(served, what="answers are served again")


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


async def test_a_primary_that_becomes_a_replica_serves_nothing_from_that_moment_on_and_recovers(
    redis_server: RedisServer,
) -> None:
    cache = cache_at(redis_server.url, 5.0)
    assert await put(cache, TEXTS[0]) is StoreResult.STORED
    await until_served(cache)
    with redis_server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:  # nothing was written meanwhile that could have told
            for _ in range(3):
                assert (await cache.lookup(ACME, chat(TEXTS[0]))).outcome.kind is CacheKind.UNAVAILABLE
            assert await put(cache, TEXTS[1]) is StoreResult.UNAVAILABLE
            assert cache.stats().dropped == 1
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
    await until_served(cache)
    await cache.close()


async def test_an_account_that_may_not_ask_for_the_role_is_served(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-role")
    cache = cache_at(redis_server.url, 5.0)
    assert await put(cache, TEXTS[0]) is StoreResult.STORED
    assert (await cache.lookup(ACME, chat(TEXTS[0]))).outcome.kind is CacheKind.EXACT_HIT
    await cache.close()


async def test_a_redis_that_is_loading_is_unavailable_at_once_and_serves_what_it_loaded(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        before = cache_at(server.url, 5.0)
        assert await put(before, TEXTS[0]) is StoreResult.STORED
        await before.close()
        with server.client() as client:
            for number in range(FILLING):
                client.set(f"filling {number}", "x" * 1_000)
            client.bgrewriteaof()
            wait_until(
                lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="the file is written anew"
            )
        server.kill()
        server.start(
            "--key-load-delay", str(LOAD_DELAY_US), "--loading-process-events-interval-bytes", "1024", loads=True
        )
        cache = cache_at(server.url, 5.0)
        await cache.start()
        with server.client() as client:
            assert [(await cache.lookup(ACME, chat(text))).outcome.kind for text in TEXTS] == [
                CacheKind.UNAVAILABLE
            ] * 2
            assert await put(cache, TEXTS[1]) is StoreResult.UNAVAILABLE
            assert client.info("persistence")["loading"], "none of them waited for it"
            client.config_set("key-load-delay", 0)
        await until_served(cache)
        assert await put(cache, TEXTS[1]) is StoreResult.STORED
        await cache.close()
    finally:
        server.stop()


async def test_a_redis_that_is_full_takes_answers_again_when_there_is_room(redis_server: RedisServer) -> None:
    cache = cache_at(redis_server.url, 5.0)
    await cache.start()
    assert await put(cache, TEXTS[0]) is StoreResult.STORED
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        before = set(client.keys("*"))
        assert await put(cache, TEXTS[1]) is StoreResult.UNAVAILABLE
        assert set(client.keys("*")) == before, "a put is written as a whole or not at all"
        assert (await cache.lookup(ACME, chat(TEXTS[0]))).outcome.kind is CacheKind.EXACT_HIT
        assert await cache.invalidate(Selector(tenant="acme"), dry_run=False) == 1
        assert (await cache.lookup(ACME, chat(TEXTS[0]))).outcome.kind is CacheKind.MISS
        client.config_set("maxmemory", 0)
    assert await put(cache, TEXTS[1]) is StoreResult.STORED
    assert cache.stats().dropped == 1
    await cache.close()
