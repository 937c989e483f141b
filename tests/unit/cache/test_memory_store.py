"""The store in memory: its bounds, and followers that fall behind. The rest is in the contract suite."""

from __future__ import annotations

from contextlib import aclosing

from services.cache.answer_store import CaughtUp, Change, Forget, Indexed, MemoryStore
from services.cache.entry import Selector
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry


async def test_the_oldest_entries_leave_when_there_are_too_many() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=2, clock=clock)
    entries = [entry(name, now_unix_s=clock.unix()) for name in ("a", "b", "c")]
    for each in entries:
        await store.put(each)
    assert await store.get_many([each.key for each in entries]) == [None, *entries[1:]]


async def test_the_oldest_entries_leave_when_they_are_too_large() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, bytes_max=10_000, clock=clock)
    entries = [entry(name, now_unix_s=clock.unix(), text="x" * 5_000) for name in ("a", "b")]
    for each in entries:
        await store.put(each)
    assert await store.get_many([each.key for each in entries]) == [None, entries[1]]


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
        assert isinstance(await anext(changes), Indexed)
        assert isinstance(await anext(changes), CaughtUp)
