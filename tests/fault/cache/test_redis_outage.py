"""Redis killed, frozen and restarted: lookups go on as misses, cost next to nothing, and recover by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.cache.entry import Scope, Selector
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import PAUSE_S, RedisStore
from services.runtime.clock import FakeClock, SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, policy
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

ACME = Scope("acme")
ON, ON_TOO = "How do I turn on the heater?", "how do I turn on  the heater"
TIMEOUT_S = 0.5  # far above what a busy test machine needs, far below redis-py's own patience


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[SemanticCache]:
    made = cache_over(
        RedisStore(redis_server.url, timeout_s=TIMEOUT_S, clock=SystemClock()),
        SystemClock(),
        rules=policy(lookup_s=TIMEOUT_S + 0.005),
    )
    await made.start()
    yield made
    await made.close()


async def put(cache: SemanticCache, text: str = ON, *, scope: Scope = ACME) -> StoreResult:
    stored = await cache.store(scope, chat(text), answer(), embedding=embedding("heater"), task_type=TaskType.OTHER)
    return stored.result


async def kind(cache: SemanticCache, text: str = ON) -> CacheKind:
    found = await cache.lookup(ACME, chat(text), embedding=embedding("heater"), task_type=TaskType.OTHER)
    return found.outcome.kind


async def until_stored(cache: SemanticCache) -> None:
    async def stored() -> bool:
        return await put(cache) is StoreResult.STORED

    await until(stored, what="the store takes answers again")


async def test_a_killed_redis_makes_lookups_unavailable_and_stores_dropped(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    assert await put(cache) is StoreResult.STORED
    redis_server.kill()
    assert [await kind(cache, text) for text in (ON, ON_TOO, "other")] == [CacheKind.UNAVAILABLE] * 3
    assert await put(cache) is StoreResult.UNAVAILABLE
    stats = cache.stats()
    assert (stats.unavailable, stats.dropped) == (3, 1)


async def test_a_restarted_redis_is_used_again_without_help(cache: SemanticCache, redis_server: RedisServer) -> None:
    assert await put(cache) is StoreResult.STORED
    redis_server.kill()
    assert await kind(cache) is CacheKind.UNAVAILABLE
    redis_server.start()

    async def missed() -> bool:
        # It came back empty. Without an embedding, so that no lookup by meaning tidies the index.
        return (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.MISS

    await until(missed, what="lookups reach Redis again")

    async def forgotten() -> bool:
        return cache.stats().indexed_entries == 0

    await until(forgotten, what="the index forgets what Redis lost")
    await until_stored(cache)
    assert await kind(cache) is CacheKind.EXACT_HIT
    assert await kind(cache, ON_TOO) is CacheKind.SEMANTIC_HIT


async def test_a_frozen_redis_makes_lookups_unavailable_until_it_thaws(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    assert await put(cache) is StoreResult.STORED
    redis_server.freeze()
    try:
        assert [await kind(cache, text) for text in (ON, ON_TOO, "other")] == [CacheKind.UNAVAILABLE] * 3
    finally:
        redis_server.thaw()

    async def exact_hit() -> bool:
        return await kind(cache) is CacheKind.EXACT_HIT

    await until(exact_hit, what="the entry is found again")
    assert await kind(cache, ON_TOO) is CacheKind.SEMANTIC_HIT


async def test_answers_after_a_thaw_belong_to_their_questions(cache: SemanticCache, redis_server: RedisServer) -> None:
    """A connection whose call timed out must not hand a late reply to the next call."""
    texts = [f"question {number}" for number in range(5)]
    for text in texts:
        await cache.store(ACME, chat(text), answer(f"answer to {text}"))
    redis_server.freeze()
    try:
        assert await kind(cache, texts[0]) is CacheKind.UNAVAILABLE
    finally:
        redis_server.thaw()

    async def well() -> bool:
        return await kind(cache, texts[0]) is CacheKind.EXACT_HIT

    await until(well, what="lookups reach Redis again")
    for text in texts:
        found = await cache.lookup(ACME, chat(text))
        assert found.answer == answer(f"answer to {text}")


async def test_what_another_replica_stored_during_an_interruption_is_caught_up(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("timeout", 0)
        client.client_kill_filter(_type="normal", skipme=True)  # every connection of the replica breaks
    other = cache_over(RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock()), SystemClock())
    assert await put(other) is StoreResult.STORED

    async def semantic_hit() -> bool:
        return await kind(cache, ON_TOO) is CacheKind.SEMANTIC_HIT

    await until(semantic_hit, what="the change arrives after the reconnection")
    await other.close()


async def test_a_replica_that_starts_without_redis_serves_cold_and_warms_up_later(redis_server: RedisServer) -> None:
    redis_server.kill()
    late = cache_over(RedisStore(redis_server.url, timeout_s=TIMEOUT_S, clock=SystemClock()), SystemClock())
    await late.start()
    assert await kind(late) is CacheKind.UNAVAILABLE
    redis_server.start()
    other = cache_over(RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock()), SystemClock())
    assert await put(other) is StoreResult.STORED

    async def semantic_hit() -> bool:
        return await kind(late, ON_TOO) is CacheKind.SEMANTIC_HIT

    await until(semantic_hit, what="the late replica warms up")
    await late.close()
    await other.close()


async def test_during_the_pause_redis_is_not_asked_and_after_it_once(redis_server: RedisServer) -> None:
    clock = FakeClock()
    store = RedisStore(redis_server.url, timeout_s=TIMEOUT_S, clock=clock)
    cache = cache_over(store, clock, rules=policy(lookup_s=TIMEOUT_S + 0.005))
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.MISS
    redis_server.kill()
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.UNAVAILABLE
    redis_server.start()  # it is back, but by the clock the pause is not over: nobody asks
    for _ in range(20):
        assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.UNAVAILABLE
    with redis_server.client() as client:
        asked = client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
    assert asked == 0
    clock.advance(PAUSE_S)
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.MISS
    await cache.close()


async def test_a_redis_that_was_silent_once_is_left_alone_for_the_pause(redis_server: RedisServer) -> None:
    clock = FakeClock()
    store = RedisStore(redis_server.url, timeout_s=TIMEOUT_S, clock=clock)
    cache = cache_over(store, clock, rules=policy(lookup_s=TIMEOUT_S + 0.2))
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.MISS
    redis_server.freeze()
    try:
        assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.UNAVAILABLE
    finally:
        redis_server.thaw()
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.UNAVAILABLE
    clock.advance(PAUSE_S)
    assert (await cache.lookup(ACME, chat(ON))).outcome.kind is CacheKind.MISS
    await cache.close()


async def test_an_invalidation_without_redis_is_an_error_that_may_be_retried(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    assert await put(cache) is StoreResult.STORED
    redis_server.kill()
    with pytest.raises(StoreUnavailableError):
        await cache.invalidate(Selector(tenant="acme"), dry_run=False)


async def test_a_redis_that_is_full_drops_answers_and_still_serves_what_it_has(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    assert await put(cache) is StoreResult.STORED
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    assert await put(cache, "another question") is StoreResult.UNAVAILABLE
    unknown = await cache.lookup(Scope("whom nobody knows"), chat(ON))
    assert unknown.outcome.kind is CacheKind.MISS
    assert await put(cache, scope=Scope("whom nobody knows")) is StoreResult.UNAVAILABLE
    assert await kind(cache) is CacheKind.EXACT_HIT


async def test_an_answer_asked_for_while_redis_was_full_is_not_kept_after_an_invalidation(
    cache: SemanticCache, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        asked = [await cache.lookup(ACME, chat(ON)) for _ in range(2)]
        client.config_set("maxmemory", 0)
    assert len({each.store_token for each in asked} - {""}) == 2, "between two of them there may have been anything"
    await cache.invalidate(Selector(tenant="acme"), dry_run=False)
    late = await cache.store(ACME, chat(ON), answer("of before"), token=asked[0].store_token)
    assert (late.result, late.reason) == (StoreResult.NOT_ADMITTED, "invalidated")
    again = await cache.lookup(ACME, chat(ON))
    assert again.outcome.kind is CacheKind.MISS
    assert (await cache.store(ACME, chat(ON), answer(), token=again.store_token)).result is StoreResult.STORED
