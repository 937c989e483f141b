"""A server that takes over lacks an invalidation that its predecessor acknowledged: what was asked in between is not
kept on the strength of a number that now means another one, and who knew the invalidation serves nothing it took."""

from __future__ import annotations

import asyncio

import pytest

from services.cache.entry import Entry, Selector
from services.cache.partition import tenant_bucket
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_names import Names
from services.cache.store.redis_puts import NAMES_MAX
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

HISTORY = Names(1).history(tenant_bucket("acme"))
RED, OTHER, OTHER_STILL, LOST = (Selector(tenant="acme", tag=tag) for tag in ("red", "blue", "green", "grey"))


@pytest.fixture
def red() -> Entry:
    return entry("q", tags=("red",), now_unix_s=SystemClock().unix())


async def parted(server: RedisServer, key: str) -> str:
    """A moment after an invalidation that the server then no longer knows of, as no replica that is left does."""
    gone = RedisStore(server.url, timeout_s=10.0, clock=SystemClock())
    with server.client() as client:
        kept = client.dump(HISTORY)
        await gone.invalidate(LOST)
        since = await gone.moment(key)
        client.restore(HISTORY, 0, kept, replace=True)
    await gone.close()
    return since


def restored(server: RedisServer, before: bytes) -> None:
    with server.client() as client:
        client.restore(HISTORY, 0, before, replace=True)


def hash_of(server: RedisServer) -> bytes:
    with server.client() as client:
        return client.dump(HISTORY) or b""


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [(RED,), (RED, OTHER), (OTHER, RED)])
async def test_what_was_asked_after_a_lost_invalidation_and_taken_by_its_successor_is_not_kept(
    redis_server: RedisServer, store: RedisStore, red: Entry, before: int, after: tuple[Selector, ...]
) -> None:
    await store.put(red)
    for _ in range(before):
        await store.invalidate(OTHER)
    since = await parted(redis_server, red.key)
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
    await parted(redis_server, red.key)
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


@pytest.mark.parametrize("end", ["", "0" * 7, "0" * 9])
async def test_a_name_of_the_past_that_says_of_no_key_may_be_that_of_any(
    redis_server: RedisServer, store: RedisStore, red: Entry, end: str
) -> None:
    """As a replica of an older version leaves it."""
    since = await store.moment(red.key)
    with redis_server.client() as client:
        client.hset(HISTORY, mapping={"past": f" 0123456789abcdef{end}", "last": f"0123456789abcdef{end}"})
        client.hincrby(HISTORY, "deletions", 1)
    assert not await store.put(red, since=since)
    assert await store.put(red, since=await store.moment(red.key))


@pytest.mark.parametrize("since", [(), (OTHER,), (OTHER, OTHER_STILL), (RED,)])
async def test_what_was_invalidated_as_a_replica_knows_comes_back_to_nobody_with_a_backup(
    redis_server: RedisServer,
    store: RedisStore,
    red: Entry,
    monkeypatch: pytest.MonkeyPatch,
    since: tuple[Selector, ...],
) -> None:
    monkeypatch.setattr("services.cache.store.redis_sweep.SWEEPS_MAX", 0)  # the bodies stay, as in the backup
    another = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    await store.put(red)
    await store.invalidate(OTHER)
    before = hash_of(redis_server)
    await store.invalidate(LOST if since == (RED,) else RED)
    assert await store.get_many([red.key]) == [red if since == (RED,) else None]
    restored(redis_server, before)
    for selector in since:
        await another.invalidate(selector)
    assert await store.get_many([red.key]) == [None]
    assert store.unreadable == 1
    assert await another.get_many([red.key]) == [None]
    assert await another.put(red, since=(await store.read(red.key))[1])
    assert await store.get_many([red.key]) == await another.get_many([red.key]) == [red]
    await another.close()


@pytest.mark.parametrize("field", ["number", "rule"])
async def test_what_vanished_of_a_history_takes_with_it_what_a_replica_knows_it_took(
    redis_server: RedisServer, store: RedisStore, red: Entry, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setattr("services.cache.store.redis_sweep.SWEEPS_MAX", 0)
    await store.put(red)
    await store.invalidate(RED)
    assert await store.get_many([red.key]) == [None]
    with redis_server.client() as client:
        (rule,) = [name for name in client.hkeys(HISTORY) if name.startswith(b"rule:")]
        client.hdel(HISTORY, rule if field == "rule" else field)
    assert await store.get_many([red.key]) == [None]
    await store.invalidate(OTHER)
    assert await store.get_many([red.key]) == [None]
    assert store.unreadable == 1
    assert await store.put(red, since=(await store.read(red.key))[1])
    assert await store.get_many([red.key]) == [red]


async def test_what_was_stored_ahead_of_a_history_is_served_to_nobody_and_taken_by_the_next_invalidation(
    redis_server: RedisServer, store: RedisStore, red: Entry
) -> None:
    await store.invalidate(OTHER)
    before = hash_of(redis_server)
    for _ in range(2):
        await store.invalidate(OTHER)
    await store.put(red)
    restored(redis_server, before)
    another = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    assert await another.get_many([red.key]) == [None]
    for selector in (RED, OTHER, OTHER):
        await another.invalidate(selector)
        assert await another.get_many([red.key]) == [None]
    await another.close()


async def test_what_is_known_of_a_history_that_was_lost_says_nothing_of_the_one_that_began_after_it(
    redis_server: RedisServer, store: RedisStore, red: Entry
) -> None:
    another = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    await store.put(red)
    assert await store.get_many([red.key]) == [red]
    with redis_server.client() as client:
        client.delete(HISTORY)
    later = entry("later", now_unix_s=SystemClock().unix())
    await another.put(later)
    assert await store.get_many([red.key, later.key]) == await another.get_many([red.key, later.key]) == [None, later]
    await another.close()


async def test_many_invalidations_at_once_are_no_loss(store: RedisStore, red: Entry) -> None:
    await store.put(red)

    async def look() -> None:
        for _ in range(30):
            assert await store.get_many([red.key]) == [red]

    async def invalidate(replica: int) -> None:
        for number in range(30):
            await store.invalidate(Selector(tenant="acme", tag=f"{replica} {number}"))

    await asyncio.gather(look(), look(), look(), invalidate(0), invalidate(1))
    assert store.unreadable == 0
