"""What stands where a history of invalidations should, and is none: it makes misses, and no call fails otherwise."""

from __future__ import annotations

import asyncio

import pytest

from services.cache.entry import Entry, Selector
from services.cache.partition import tenant_bucket
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_layout import Names
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

HISTORY = Names(1).history(tenant_bucket("acme"))
DAMAGE = [
    ("number", b"abc"),
    ("number", b"1.5"),
    ("number", b"-1"),
    ("number", b"99999999999999999999"),
    ("number", b"\xff"),
    ("deletions", b"x"),
    ("last", b"\xff a"),
    ("era", b"x y"),
    ("era", b"e" * 40),
    ("token", b"\xff"),
    ("rule:x", b"garbled"),
    ("rule:x", b"5 1700000000000 {}"),  # ahead of its history
]


@pytest.fixture
def put() -> Entry:
    return entry("q", tags=("red",), now_unix_s=SystemClock().unix())


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
    redis_server: RedisServer, store: RedisStore, put: Entry
) -> None:
    assert await store.put(put)
    await store.invalidate(Selector(tenant="acme", tag="blue"))
    since = await store.moment(put.key)
    (rule,) = [name for name in fields(redis_server) if name.startswith("rule:")]
    damage(redis_server, rule, b"1 1700000000000 {garbled")
    another = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    assert await another.get_many([put.key]) == [None]
    assert await another.put(put, since=since)
    assert await another.get_many([put.key]) == [put]
    assert another.unreadable == 1
    await another.invalidate(Selector(tenant="acme", tag="red"))
    assert await another.get_many([put.key]) == [None]
    await another.close()


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


def fields(server: RedisServer) -> list[str]:
    with server.client() as client:
        return [name.decode() for name in client.hkeys(HISTORY)]
