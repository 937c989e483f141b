"""The store in memory: what expired, and followers that fall behind. The rest is in the contract suite."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.answer_store import CaughtUp, Change, Forget, StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry, indexed


async def test_expired_entries_leave_before_living_ones() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=2, clock=clock)
    living, short = entry("living", now_unix_s=clock.unix()), entry("short", now_unix_s=clock.unix(), ttl_s=1.0)
    await store.put(living)
    await store.put(short)
    clock.advance(1.0)
    await store.put(entry("new", now_unix_s=clock.unix()))
    assert await store.get_many([living.key]) == [living]
    assert len(await store.find(Selector(tenant="acme"))) == 2


async def test_a_follower_that_fell_behind_begins_anew() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    async with aclosing(store.changes()) as changes:
        seen: list[Change] = [await anext(changes), await anext(changes)]
        assert seen == [Forget(), CaughtUp()]
        put = entry("q", now_unix_s=clock.unix())
        for _ in range(MemoryStore.CHANGES_MAX + 1):
            await store.put(put)
        assert isinstance(await anext(changes), Forget)
        assert [each.key for each in indexed([await anext(changes)])] == [put.key]
        assert isinstance(await anext(changes), CaughtUp)


async def test_a_large_deletion_gives_others_their_turns_and_tells_followers_in_parts() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=2_000, clock=clock)
    for number in range(1_000):
        await store.put(entry(f"q{number}", now_unix_s=clock.unix()))
    deleting = asyncio.create_task(store.invalidate(Selector(tenant="acme")))
    sizes = [len(store)]
    while not deleting.done():
        await asyncio.sleep(0)
        sizes.append(len(store))
    assert deleting.result() == 1_000
    assert sizes[-1] == 0
    assert max(before - after for before, after in pairwise(sizes)) <= MemoryStore.DELETED_PER_TURN_MAX


async def test_from_the_beginning_of_an_invalidation_on_nothing_of_it_is_found_and_later_puts_are() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=5_000, clock=clock)
    entries = [entry(f"q{number}", now_unix_s=clock.unix()) for number in range(4_500)]
    for each in entries:
        await store.put(each)
    other = entry("q", now_unix_s=clock.unix(), scope=Scope("other"))
    await store.put(other)
    sweeping = asyncio.create_task(store.invalidate(Selector(tenant="acme")))
    await asyncio.sleep(0)
    assert len(store) == 4_501
    late = entry("late", now_unix_s=clock.unix())
    await store.put(late)
    looks = 0
    while not sweeping.done():
        keys = [entries[0].key, entries[-1].key, other.key, late.key]
        assert await store.get_many(keys) == [None, None, other, late]
        assert await store.find(Selector(tenant="acme")) == [late.key]
        looks += 1
        await asyncio.sleep(0)
    assert looks > 1
    assert sweeping.result() == 4_500
    assert len(store) == 2


async def test_an_invalidation_comes_to_its_end_though_its_caller_left() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=5_000, clock=clock)
    entries = [entry(f"q{number}", now_unix_s=clock.unix()) for number in range(2_100)]
    for each in entries:
        await store.put(each)
    caller = asyncio.create_task(store.invalidate(Selector(tenant="acme")))
    while len(store) == len(entries):  # noqa: ASYNC110
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert 0 < len(store) < len(entries)
    while len(store):
        assert set(await store.get_many([each.key for each in entries])) == {None}
        await asyncio.sleep(0)
    await store.close()


async def test_what_is_put_anew_while_an_invalidation_looks_for_what_it_takes_stays() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=5_000, clock=clock)
    entries = [entry(f"q{number}", now_unix_s=clock.unix()) for number in range(4_500)]
    for each in entries:
        await store.put(each)
    sweeping = asyncio.create_task(store.invalidate(Selector(tenant="acme")))
    anew: list[Entry] = []
    while not sweeping.done():
        anew.append(entries[-1 - len(anew)])
        await asyncio.sleep(0)
        await store.put(anew[-1])
    assert len(anew) > 3
    assert await store.get_many([each.key for each in anew]) == anew
    assert len(store) == len(anew)


async def test_an_invalidation_whose_caller_left_at_once_holds() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    put = entry("q", now_unix_s=clock.unix())
    await store.put(put)
    caller = asyncio.create_task(store.invalidate(Selector(tenant="acme")))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    for _ in range(10):
        assert await store.get_many([put.key]) == [None]
        await asyncio.sleep(0)
    assert len(store) == 0


async def test_too_many_invalidations_at_a_time_are_refused_at_once() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    put = entry("q", now_unix_s=clock.unix())
    await store.put(put)
    many = [asyncio.create_task(store.invalidate(Selector(tenant="other"))) for _ in range(MemoryStore.SWEEPS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await store.invalidate(Selector(tenant="acme"))
    assert await store.get_many([put.key]) == [put]
    await asyncio.gather(*many)
    assert await store.invalidate(Selector(tenant="acme")) == 1


async def test_a_put_behind_more_invalidations_than_are_remembered_is_not_kept() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    put = entry("q", now_unix_s=clock.unix())
    since = await store.moment(put.key)
    for _ in range(MemoryStore.INVALIDATIONS_MAX):
        await store.invalidate(Selector(tenant="other"))
    assert await store.put(put, since=since)
    await store.invalidate(Selector(tenant="other"))
    assert not await store.put(put, since=since)
