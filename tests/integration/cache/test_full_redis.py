"""A Redis without room takes no answers, and every way to end one all the same."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from redis.exceptions import OutOfMemoryError

from services.cache.entry import Entry, Scope, Selector
from services.cache.partition import tenant_bucket
from services.cache.store.answer_store import CaughtUp, Removed
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_names import Names
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding
from tests.support.redis_server import RedisServer

HISTORY = Names(1).history(tenant_bucket("acme"))


def fill(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            client.set("x", "y")


def empty(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("had", [0, 3])
@pytest.mark.parametrize("way", ["key", "tenant", "tag", "everything", "delete"])
async def test_what_is_ended_while_redis_is_full_is_served_by_nobody_and_does_not_come_back(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry, way: str, had: int
) -> None:
    selectors = {
        "key": Selector(entry_key=put.key),
        "tenant": Selector(tenant="acme"),
        "tag": Selector(tenant="acme", tag="red"),
        "everything": Selector(),
    }
    for _ in range(had):
        await store.invalidate(Selector(tenant="acme", tag="blue"))
    assert await store.put(put)
    assert await another.get_many([put.key]) == [put]
    since = await store.moment(put.key)
    fill(redis_server)
    if way == "delete":
        assert await store.delete([put.key]) == 1
    else:
        assert await store.invalidate(selectors[way]) == 1
    for each in (store, another):
        assert await each.get_many([put.key]) == [None]
    empty(redis_server)
    assert await store.put(put, since=since) is (way in ("everything", "delete"))  # of which no put is held against
    with redis_server.client() as client:
        assert client.zcard(Names(1).entries(0)) == (way in ("everything", "delete"))


async def test_followers_hear_of_what_is_ended_while_redis_is_full(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    async with aclosing(another.changes()) as changes:
        while not isinstance(await anext(changes), CaughtUp):
            pass
        fill(redis_server)
        await store.invalidate(Selector(entry_key=put.key))
        while (change := await anext(changes)) != Removed((put.key,)):
            assert not isinstance(change, CaughtUp), "it is told of, and not loaded anew"


async def test_what_was_asked_of_a_bucket_that_nobody_had_written_to_is_ended_too(
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    fill(redis_server)
    _, since = await store.read(put.key)
    await store.invalidate(Selector(tenant="acme"))
    _, later = await store.read(put.key)
    empty(redis_server)
    assert not await store.put(put, since=since)
    assert await store.put(put, since=later)


async def test_a_history_that_is_no_hash_ends_in_a_full_redis_as_well(
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    with redis_server.client() as client:
        client.delete(HISTORY)
        client.rpush(HISTORY, b"x")
    fill(redis_server)
    await store.invalidate(Selector(tenant="acme"))
    assert await store.get_many([put.key]) == [None]


async def test_an_answer_that_is_told_to_be_wrong_leaves_a_full_redis(
    redis_server: RedisServer, store: RedisStore
) -> None:
    cache = cache_over(store, SystemClock())
    scope, on, on_too = Scope("acme"), chat("How do I turn on the heater?"), chat("how do I turn on  the heater")
    await cache.start()
    await cache.store(scope, on, answer("wrong"), embedding=embedding("heater"), task_type=TaskType.OTHER)
    found = await cache.lookup(scope, on_too, embedding=embedding("heater"), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.SEMANTIC_HIT
    fill(redis_server)
    key = found.outcome.entry_key
    await cache.record_evidence(scope, on_too, False, key=key, embedding=embedding("heater"), task_type=TaskType.OTHER)
    for request in (on, on_too):
        again = await cache.lookup(scope, request, embedding=embedding("heater"), task_type=TaskType.OTHER)
        assert again.outcome.kind is CacheKind.MISS
    await cache.close()
