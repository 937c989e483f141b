"""How much every answer store keeps, and what leaves: in memory, in a file, and in a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.answer_store import AnswerStore, CaughtUp, Change, Removed
from services.cache.store.redis_limits import Limits
from services.runtime.clock import SystemClock
from tests.contract.cache.conftest import Opened
from tests.support.cache_parts import entry, indexed

MANY = 100
MIB = 1_048_576
WELL_S = 10.0


def entries_of(tenant: str, count: int, *, text: str = "Paris.") -> list[Entry]:
    now, scope = SystemClock().unix(), Scope(tenant)
    return [entry(f"{tenant} {number:02}", now_unix_s=now, scope=scope, text=text) for number in range(count)]


async def put_all(store: AnswerStore, entries: list[Entry]) -> None:
    for each in entries:
        assert await store.put(each)


async def kept_of(store: AnswerStore, entries: list[Entry]) -> list[Entry]:
    return [each for each in await store.get_many([each.key for each in entries]) if each is not None]


async def test_no_more_entries_are_kept_than_the_limit_and_those_that_left_are_counted(opened: Opened) -> None:
    store = await opened(Limits(MANY, 5, MIB))
    entries = entries_of("acme", 12)
    await put_all(store, entries)
    kept = await kept_of(store, entries)
    assert (len(kept), kept[-1], store.evicted) == (5, entries[-1], 7)


async def test_no_more_bytes_are_kept_than_the_limit(opened: Opened) -> None:
    store = await opened(Limits(MANY, MANY, 100_000))
    entries = entries_of("acme", 20, text="x" * 10_000)
    await put_all(store, entries)
    kept = await kept_of(store, entries)
    assert kept[-1] == entries[-1]
    assert 5 <= len(kept) <= 9


async def test_a_tenant_beyond_its_limit_makes_room_among_its_own(opened: Opened) -> None:
    store = await opened(Limits(4, MANY, MIB))
    others, own = entries_of("other", 3), entries_of("acme", 10)
    await put_all(store, others + own)
    assert await kept_of(store, others) == others
    kept = await kept_of(store, own)
    assert (len(kept), kept[-1]) == (4, own[-1])


async def test_a_flood_of_one_tenant_takes_nothing_of_one_that_has_less_than_its_share(opened: Opened) -> None:
    store = await opened(Limits(MANY, 10, MIB))
    quiet = entries_of("quiet", 4, text="x" * 10_000)
    await put_all(store, quiet)
    loud = entries_of("loud", 50)
    await put_all(store, loud)
    assert await kept_of(store, quiet) == quiet
    kept = await kept_of(store, loud)
    assert (len(kept), kept[-1]) == (6, loud[-1])


async def test_a_flood_of_large_answers_takes_nothing_of_one_that_has_less_than_its_share(opened: Opened) -> None:
    store = await opened(Limits(MANY, MANY, 100_000))
    quiet = entries_of("quiet", 8)
    await put_all(store, quiet)
    await put_all(store, entries_of("loud", 20, text="x" * 10_000))
    assert await kept_of(store, quiet) == quiet


async def test_what_was_served_stays_and_followers_learn_what_left(opened: Opened) -> None:
    store = await opened(Limits(MANY, 2, MIB))
    entries = entries_of("acme", 3)
    told: list[Change] = []
    async with aclosing(store.changes()) as changes, asyncio.timeout(WELL_S):
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
        await put_all(store, entries[:2])
        store.served(entries[0].key)
        await put_all(store, entries[2:])
        assert await kept_of(store, entries) == [entries[0], entries[2]]
        async for change in changes:
            told.append(change)
            if [each.key for each in indexed(told)][-1:] == [entries[2].key]:
                break
    assert Removed((entries[1].key,)) in told


async def test_an_entry_that_is_replaced_takes_the_room_of_one(opened: Opened) -> None:
    store = await opened(Limits(2, 3, MIB))
    (other,), own = entries_of("other", 1), entries_of("acme", 2)
    for _ in range(5):
        await put_all(store, [other, *own])
    assert await kept_of(store, [other, *own]) == [other, *own]
    assert store.evicted == 0


async def test_an_entry_that_is_replaced_takes_the_bytes_of_one(opened: Opened) -> None:
    store = await opened(Limits(MANY, MANY, 100_000))
    entries = entries_of("acme", 2, text="x" * 40_000)
    for _ in range(5):
        await put_all(store, entries)
    assert await kept_of(store, entries) == entries
    assert store.evicted == 0


async def test_what_was_deleted_and_what_was_invalidated_makes_room(opened: Opened) -> None:
    store = await opened(Limits(MANY, 4, MIB))
    kept, deleted, invalid = entries_of("kept", 2), entries_of("deleted", 1), entries_of("invalid", 1)
    await put_all(store, kept + deleted + invalid)
    await store.delete([deleted[0].key])
    await store.invalidate(Selector(tenant="invalid"))
    later = entries_of("later", 2)
    await put_all(store, later)
    assert await kept_of(store, kept + later) == kept + later
    assert store.evicted == 0
