"""A Redis that comes back as it was before something was ended: what a replica had heard of ends again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.cache.entry import Entry, Scope, Selector
from services.cache.partition import tenant_bucket
from services.cache.semantic_cache import SemanticCache
from services.cache.store import redis_endings
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_endings import RedisEndings
from services.cache.store.redis_names import Names
from services.runtime.clock import SystemClock
from tests.support.cache_parts import cache_over, entry
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

NAMES = Names(1)
STREAM = NAMES.changes(0)
WAYS: dict[str, Callable[[RedisStore, Entry], Awaitable[Any]]] = {
    "by key": lambda store, ended: store.invalidate(Selector(entry_key=ended.key)),
    "by tenant": lambda store, ended: store.invalidate(Selector(tenant=ended.scope.tenant)),
    "by tag": lambda store, ended: store.invalidate(Selector(tenant=ended.scope.tenant, tag="red")),
    "of all tenants": lambda store, ended: store.invalidate(Selector(tag="red")),
    "for being wrong": lambda store, ended: store.delete([ended.key]),
}


@pytest.fixture
async def follower(redis_server: RedisServer) -> AsyncIterator[SemanticCache]:
    """A replica that only follows: it has read no history."""
    made = cache_over(RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock()), SystemClock())
    await made.start()
    yield made
    await made.close()


async def has_heard(follower: SemanticCache, store: RedisStore, *, beside: int) -> None:
    """What is put afterwards is heard of afterwards. `beside`: so many entries are left."""
    for number in range(2):
        await store.put(entry(f"another {number}", now_unix_s=SystemClock().unix(), scope=Scope("other")))

    async def heard() -> bool:
        return follower.stats().indexed_entries == beside + 2

    await until(heard, what="the follower has read the stream")


def put(tenant: str) -> Entry:
    return entry("q", tags=("red",), now_unix_s=SystemClock().unix(), scope=Scope(tenant))


def saved(server: RedisServer) -> None:
    with server.client() as client:
        client.save()


def comes_back(server: RedisServer) -> None:
    """As it was when it was saved."""
    server.kill()
    server.start()


async def found(store: RedisStore, key: str) -> Entry | None:
    try:
        return (await store.get_many([key]))[0]
    except StoreUnavailableError:
        return None


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_was_ended_after_redis_was_last_saved_does_not_come_back_with_it(
    redis_server: RedisServer,
    follower: SemanticCache,
    way: Callable[[RedisStore, Entry], Awaitable[Any]],
) -> None:
    store = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    ended, kept = put("acme"), put("umbrella")
    if way is WAYS["of all tenants"]:
        kept = entry("q", now_unix_s=SystemClock().unix(), scope=Scope("umbrella"))
    for each in (ended, kept):
        await store.put(each)
    saved(redis_server)
    await way(store, ended)
    await has_heard(follower, store, beside=1)
    await store.close()
    comes_back(redis_server)
    late = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())

    async def ended_again() -> bool:
        return await found(late, kept.key) is not None and await found(late, ended.key) is None

    await until(ended_again, what="what was ended ends again, and nothing else")
    since = await late.moment(ended.key)
    assert await late.put(ended, since=since)
    assert await late.get_many([ended.key, kept.key]) == [ended, kept]
    await late.close()


async def test_what_was_ended_before_redis_was_saved_is_not_ended_again_with_what_was_stored_since(
    redis_server: RedisServer, follower: SemanticCache
) -> None:
    store = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    ended = put("acme")
    await store.put(ended)
    await store.invalidate(Selector(tenant="acme"))
    await store.put(ended)
    saved(redis_server)
    await has_heard(follower, store, beside=1)
    comes_back(redis_server)

    async def forgotten() -> bool:
        return follower.stats().indexed_entries == 1

    await until(forgotten, what="the follower has loaded what came back")
    assert await found(store, ended.key) == ended
    await store.close()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as made:
        yield made


async def history_is_there(redis: Redis, bucket: str) -> bool:
    return bool(await redis.exists(NAMES.history(bucket)))


async def heard_of(redis: Redis, endings: RedisEndings, buckets: str) -> bytes:
    record_id: Any = await redis.xadd(STREAM, {"ended": buckets})
    for bucket in buckets.split():
        await redis.hset(NAMES.history(bucket), "era", "e")
    endings.hear([(record_id, {b"ended": buckets.encode()})])
    return bytes(record_id)


async def test_only_what_the_stream_should_tell_of_and_does_not_ends_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_endings, "AT_ONCE_MAX", 2)
    endings = RedisEndings(NAMES)
    await heard_of(redis, endings, "aaaa")
    await redis.xtrim(STREAM, maxlen=0)
    await heard_of(redis, endings, "bbbb 000b")
    lost = [await heard_of(redis, endings, text) for text in ("cccc dddd", "eeee", "bbbb 000f")]
    await heard_of(redis, endings, "000f")
    await redis.xdel(STREAM, *lost)
    await endings.end_lost(redis, 0)
    buckets = ("aaaa", "000b", "000f", "bbbb", "cccc", "dddd", "eeee")
    assert [await history_is_there(redis, bucket) for bucket in buckets] == [True] * 3 + [False] * 4
    await redis.hset(NAMES.history("eeee"), "era", "anew")
    await endings.end_lost(redis, 0)
    assert await history_is_there(redis, "eeee"), "which had ended once for all"


async def test_a_record_that_names_no_bucket_ends_nothing(redis: Redis) -> None:
    endings = RedisEndings(NAMES)
    name = tenant_bucket("acme")
    for text in (b"", b"\xff", name[:-1].encode(), name.encode() + b"0", b"*", b"zzzz"):
        endings.hear([(b"1-0", {b"ended": text}), (b"1-1", None), (b"1-2", {b"put": name.encode()})])
    for bucket in (name, "zzzz", "*"):
        await redis.hset(NAMES.history(bucket), "era", "e")
    await endings.end_lost(redis, 0)
    assert [await history_is_there(redis, bucket) for bucket in (name, "zzzz", "*")] == [True] * 3
