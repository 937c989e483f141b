"""A server that takes over lacks an invalidation that its predecessor acknowledged: what was asked in between is not
kept on the strength of a number that now means another one."""

from __future__ import annotations

import pytest

from services.cache.entry import Entry, Selector
from services.cache.partition import tenant_bucket
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_layout import Names
from services.cache.store.redis_puts import NAMES_MAX
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

HISTORY = Names(1).history(tenant_bucket("acme"))
RED, OTHER, OTHER_STILL, LOST = (Selector(tenant="acme", tag=tag) for tag in ("red", "blue", "green", "grey"))


@pytest.fixture
def red() -> Entry:
    return entry("q", tags=("red",), now_unix_s=SystemClock().unix())


async def parted(server: RedisServer, store: RedisStore, key: str) -> str:
    """A moment after an invalidation that the server then no longer knows of."""
    with server.client() as client:
        kept = client.dump(HISTORY)
        await store.invalidate(LOST)
        since = await store.moment(key)
        client.restore(HISTORY, 0, kept, replace=True)
    return since


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [(RED,), (RED, OTHER), (OTHER, RED)])
async def test_what_was_asked_after_a_lost_invalidation_and_taken_by_its_successor_is_not_kept(
    redis_server: RedisServer, store: RedisStore, red: Entry, before: int, after: tuple[Selector, ...]
) -> None:
    await store.put(red)
    for _ in range(before):
        await store.invalidate(OTHER)
    since = await parted(redis_server, store, red.key)
    for selector in after:
        await store.invalidate(selector)
    assert not await store.put(red, since=since)
    assert await store.get_many([red.key]) == [None]
    assert await store.put(red, since=await store.moment(red.key))


async def test_what_was_asked_before_the_servers_parted_is_kept_unless_it_was_taken_since(
    redis_server: RedisServer, store: RedisStore, red: Entry
) -> None:
    await store.put(red)
    await store.invalidate(OTHER)
    since = await store.moment(red.key)
    await parted(redis_server, store, red.key)
    await store.invalidate(OTHER)
    await store.invalidate(OTHER_STILL)
    assert await store.put(red, since=since)
    await store.invalidate(RED)
    assert not await store.put(red, since=since)


async def test_what_was_asked_before_the_first_invalidation_is_kept_whatever_others_were_taken_since(
    store: RedisStore, red: Entry
) -> None:
    since = await store.moment(red.key)
    await store.invalidate(OTHER)
    assert await store.put(red, since=since)


async def test_of_the_past_a_bounded_part_is_kept_and_what_was_asked_before_it_is_not(
    redis_server: RedisServer, store: RedisStore, red: Entry
) -> None:
    await store.invalidate(OTHER)
    since = await store.moment(red.key)
    for _ in range(NAMES_MAX - 1):
        await store.invalidate(OTHER)
    assert await store.put(red, since=since)
    await store.invalidate(OTHER)
    assert not await store.put(red, since=since)
    with redis_server.client() as client:
        assert len((client.hget(HISTORY, "past") or b"").split()) == NAMES_MAX


async def test_a_deletion_by_key_is_not_taken_for_one_that_was_lost(
    redis_server: RedisServer, store: RedisStore, red: Entry
) -> None:
    blue = entry("other", tags=("blue",), now_unix_s=SystemClock().unix())
    for each in (red, blue):
        await store.put(each)
    with redis_server.client() as client:
        kept = client.dump(HISTORY)
        await store.invalidate(Selector(entry_key=blue.key))
        since = await store.moment(red.key)
        client.restore(HISTORY, 0, kept, replace=True)
    await store.invalidate(Selector(entry_key=red.key))
    assert not await store.put(red, since=since)


async def test_what_was_asked_between_deletions_of_others_is_kept(store: RedisStore, red: Entry) -> None:
    blue = entry("other", tags=("blue",), now_unix_s=SystemClock().unix())
    await store.invalidate(Selector(entry_key=blue.key))
    since = await store.moment(red.key)
    await store.invalidate(Selector(entry_key=blue.key))
    assert await store.put(red, since=since)


async def test_a_history_of_an_older_version_goes_on(redis_server: RedisServer, store: RedisStore, red: Entry) -> None:
    await store.put(red)
    await store.invalidate(OTHER)
    with redis_server.client() as client:
        client.hdel(HISTORY, "past", "last")
    since = await store.moment(red.key)
    await store.invalidate(OTHER_STILL)
    assert await store.put(red, since=since)
