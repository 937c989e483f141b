"""What stands where a history of invalidations should, and is none: it makes misses, and no call fails otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.cache.entry import Entry, Selector
from services.cache.partition import tenant_bucket
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_layout import META_FIELDS
from services.cache.store.redis_listing import RedisListing
from services.cache.store.redis_names import Names
from services.cache.store.redis_servers import RedisServers
from services.runtime.clock import SystemClock
from spillway.configuration.redis_url import parse_redis_url
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

NAMES = Names(1)
HISTORY = NAMES.history(tenant_bucket("acme"))
DAMAGE = [
    ("number", b"abc"),
    ("number", b"1.5"),
    ("number", b"-1"),
    ("number", b"007"),  # which Redis counts on from no more than from a word
    ("number", b"99999999999999999999"),
    ("number", b"\xff"),
    ("deletions", b"x"),
    ("deletions", b"007"),
    ("last", b"\xff a"),
    ("era", b"x y"),
    ("era", b"e" * 40),
    ("token", b"\xff"),
    ("rule:x", b"garbled"),
    ("rule:x", b"5 1700000000000 {}"),  # ahead of its history
]


ACME = Selector(tenant="acme")
CALLS: dict[str, Callable[[RedisStore, Entry], Awaitable[Any]]] = {
    "get_many": lambda store, put: store.get_many([put.key]),
    "get_questions": lambda store, put: store.get_questions([put.key]),
    "read": lambda store, put: store.read(put.key),
    "moment": lambda store, put: store.moment(put.key),
    "put": lambda store, put: store.put(put),
    "find": lambda store, put: store.find(ACME),
    "invalidate": lambda store, put: store.invalidate(ACME),
    "delete by key": lambda store, put: store.invalidate(Selector(tenant="acme", entry_key=put.key)),
}


def damage(server: RedisServer, field: str, value: bytes) -> None:
    with server.client() as client:
        client.hset(HISTORY, field, value)


@pytest.mark.parametrize(("field", "value"), DAMAGE)
async def test_of_a_history_that_cannot_be_read_nothing_is_served_and_it_begins_anew(
    redis_server: RedisServer, store: RedisStore, put: Entry, field: str, value: bytes
) -> None:
    assert await store.put(put)
    since = await store.moment(put.key)
    damage(redis_server, field, value)
    assert await store.get_many([put.key]) == [None]
    assert await store.get_questions([put.key]) == [None]
    found, moment = await store.read(put.key)
    assert found is None
    assert not await store.put(put, since=since)  # which may have been invalidated since
    assert await store.put(put, since=moment)
    assert await store.get_many([put.key]) == [put]
    assert await store.invalidate(Selector(tenant="acme")) == 1
    assert await store.get_many([put.key]) == [None]


@pytest.mark.parametrize("selector", [Selector(tenant="acme"), Selector(tenant="acme", tag="red"), None])
@pytest.mark.parametrize(("field", "value"), DAMAGE)
async def test_what_is_invalidated_without_a_history_is_served_to_nobody(
    redis_server: RedisServer, store: RedisStore, put: Entry, field: str, value: bytes, selector: Selector | None
) -> None:
    assert await store.put(put)
    since = await store.moment(put.key)
    damage(redis_server, field, value)
    assert await store.find(Selector(tenant="acme")) == []
    await store.invalidate(selector or Selector(entry_key=put.key))
    await store.put(put, since=since)
    assert await store.get_many([put.key]) == [None]
    assert (await store.read(put.key))[0] is None
    assert await store.get_many([put.key]) == [None]


@pytest.mark.parametrize("field", ["deletions", "last"])
async def test_what_cannot_be_held_against_the_invalidations_since_is_not_kept(
    redis_server: RedisServer, store: RedisStore, put: Entry, field: str
) -> None:
    since = await store.moment(put.key)
    await store.invalidate(Selector(tenant="acme", tag="blue"))
    damage(redis_server, field, b"\xff")
    assert not await store.put(put, since=since)


async def test_a_rule_of_which_only_the_number_can_be_read_takes_what_was_stored_before_it_and_no_more(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    await store.invalidate(Selector(tenant="acme", tag="blue"))
    since = await store.moment(put.key)
    (rule,) = [name for name in fields(redis_server) if name.startswith("rule:")]
    damage(redis_server, rule, b"1 1700000000000 {garbled")
    assert await another.get_many([put.key]) == [None]
    assert await another.put(put, since=since)
    assert await another.get_many([put.key]) == [put]
    assert another.unreadable == 1
    await another.invalidate(Selector(tenant="acme", tag="red"))
    assert await another.get_many([put.key]) == [None]


async def test_of_many_lookups_that_meet_a_history_that_cannot_be_read_one_ends_it(
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    damage(redis_server, "rule:x", b"garbled")
    damage(redis_server, "token", b"another")
    found = await asyncio.gather(*(store.read(put.key) for _ in range(20)))
    assert {entry for entry, _ in found} == {None}
    assert store.unreadable == 1
    assert await store.put(put, since=await store.moment(put.key))
    assert await store.get_many([put.key]) == [put]


async def test_a_rule_whose_conditions_changed_takes_what_was_stored_before_it_and_no_more(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    with redis_server.client() as client:
        body = client.dump(NAMES.entry(put.key))
        await store.invalidate(Selector(tenant="acme", tag="red"))
        client.restore(NAMES.entry(put.key), 0, body, replace=True)
        (rule,) = [name for name in fields(redis_server) if name.startswith("rule:")]
        damage(redis_server, rule, (client.hget(HISTORY, rule) or b"").replace(b'"red"', b'"rec"'))
    assert await another.get_many([put.key]) == [None]
    assert another.unreadable == 1
    assert await another.put(put, since=await another.moment(put.key))
    assert await another.get_many([put.key]) == [put]


@pytest.mark.parametrize("rest", [b"{garbled", b'{"tenant": "acme", "unheard": "x"}'])
@pytest.mark.parametrize("tenant", ["acme", None])
async def test_what_is_deleted_by_key_through_a_replica_that_knows_less_of_a_rule_is_gone_from_all(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry, rest: bytes, tenant: str | None
) -> None:
    left = entry("left", now_unix_s=SystemClock().unix())
    assert await store.put(put)
    assert await store.put(left)
    await store.invalidate(Selector(tenant="acme", tag="blue"))
    assert await store.get_many([put.key, left.key]) == [put, left]
    (rule,) = [name for name in fields(redis_server) if name.startswith("rule:")]
    damage(redis_server, rule, b"1 1700000000000 " + rest)
    assert await another.get_many([put.key]) == [None]
    assert await store.get_many([put.key]) == [put]
    assert await another.invalidate(Selector(tenant=tenant, entry_key=put.key)) == 0
    assert await store.get_many([put.key, left.key]) == [None, left]


async def test_what_is_invalidated_of_every_tenant_through_such_a_replica_is_gone_from_all_and_what_lived_is_counted(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry
) -> None:
    later = entry("later", tags=("red",), now_unix_s=SystemClock().unix())
    assert await store.put(put)
    await store.invalidate(Selector(tenant="acme", tag="blue"))
    assert await store.put(later)
    assert await store.get_many([put.key, later.key]) == [put, later]
    (rule,) = [name for name in fields(redis_server) if name.startswith("rule:")]
    damage(redis_server, rule, b"1 1700000000000 {garbled")
    assert await another.invalidate(Selector(tag="red")) == 1
    assert await store.get_many([put.key, later.key]) == [None, None]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_is_no_hash_is_forgotten_by_whatever_meets_it_and_told_once(
    redis_server: RedisServer, store: RedisStore, put: Entry, call: Callable[[RedisStore, Entry], Awaitable[Any]]
) -> None:
    old = entry("old", now_unix_s=SystemClock().unix())
    assert await store.put(old)
    since = await store.moment(put.key)
    await store.invalidate(Selector(tenant="acme", tag="red"))
    with redis_server.client() as client:
        client.delete(HISTORY)
        client.rpush(HISTORY, b"x")
    await call(store, put)
    assert store.unreadable == 1
    assert await store.get_many([old.key]) == [None]
    assert not await store.put(old, since=since)
    found, moment = await store.read(old.key)
    assert found is None
    assert await store.put(old, since=moment)
    assert await store.get_many([old.key]) == [old]
    assert await store.invalidate(ACME) >= 1
    assert await store.get_many([old.key]) == [None]
    assert store.unreadable == 1


async def test_a_put_of_a_moment_before_no_hash_stood_there_is_not_kept(
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    since = await store.moment(put.key)
    with redis_server.client() as client:
        client.delete(HISTORY)
        client.set(HISTORY, b"x")
    assert not await store.put(put, since=since)
    assert store.unreadable == 1
    assert await store.get_many([put.key]) == [None]


async def test_the_lookup_that_ends_a_history_says_a_moment_of_the_one_that_begins(
    redis_server: RedisServer, store: RedisStore, another: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    damage(redis_server, "rule:x", b"garbled")
    found, moment = await another.read(put.key)
    assert found is None
    assert await another.put(put, since=moment)
    assert await store.get_many([put.key]) == [put]


async def test_a_lookup_that_read_what_others_have_ended_since_leaves_the_history_that_they_began(
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    damage(redis_server, "rule:x", b"garbled")
    servers = RedisServers(parse_redis_url(redis_server.url), password="", clock=SystemClock())

    async def meanwhile() -> None:
        assert (await store.read(put.key))[0] is None
        assert await store.put(put)

    listing = RedisListing(servers, NAMES, clock=SystemClock())
    overtaken = cast("Redis", _Overtaken(await servers.client(0), meanwhile))
    reading = await listing.read(overtaken, [put.key], META_FIELDS)
    assert set(reading.moments.values()) == {None}
    assert listing.unreadable == 0
    assert await store.get_many([put.key]) == [put]
    await servers.close()


class _Overtaken:
    """A Redis at which somebody does something after the history was read."""

    def __init__(self, redis: Redis, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._redis = redis
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    async def hgetall(self, name: str) -> dict[bytes, bytes]:
        reading: Any = self._redis.hgetall(name)
        read: dict[bytes, bytes] = await reading
        await self._meanwhile()
        return read


def fields(server: RedisServer) -> list[str]:
    with server.client() as client:
        return [name.decode() for name in client.hkeys(HISTORY)]
