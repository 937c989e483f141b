"""What every answer store promises: one suite, for the stores in memory, in a file, and in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache.entry import Question, Scope, Selector
from services.cache.store.answer_store import AnswerStore, CaughtUp, Change, Forget, Indexed, Removed
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.moment import MOMENT_CHARS_MAX
from services.runtime.clock import FakeClock, SystemClock
from tests.support.cache_parts import entry, indexed
from tests.support.waiting import until

WELL_S = 10.0
KEY = entry("q", now_unix_s=0.0).key


def now() -> float:
    return SystemClock().unix()


async def changes_until(store: AnswerStore, stop: Callable[[list[Change]], bool]) -> list[Change]:
    """A follower's changes up to where `stop` holds."""
    seen: list[Change] = []
    async with contextlib.aclosing(store.changes()) as changes, asyncio.timeout(WELL_S):
        async for change in changes:
            seen.append(change)
            if stop(seen):
                break
    return seen


def caught_up(seen: list[Change]) -> bool:
    return isinstance(seen[-1], CaughtUp)


async def test_an_entry_is_found_as_it_was_put(store: AnswerStore) -> None:
    put = entry("what is näive? 😀\n\0", now_unix_s=now(), tags=("a b", "ü", ""), scope=Scope("", "n s", "v:1"))
    await store.put(put)
    assert await store.get_many([put.key, "0" * 64]) == [put, None]


async def test_questions_are_those_of_the_entries_that_are_found(store: AnswerStore) -> None:
    kept = replace(entry("kept 😀\n\0", now_unix_s=now(), scope=Scope("acme", "n")), group="g", aliases=3)
    gone, short = entry("gone", now_unix_s=now(), tags=("red",)), entry("short", now_unix_s=now(), ttl_s=0.2)
    for each in (kept, gone, short):
        await store.put(each)
    await store.invalidate(Selector(tenant="acme", tag="red"))

    async def expired() -> bool:
        return await store.get_many([short.key]) == [None]

    await until(expired, what="the entry expires")
    asked = Question(kept.key, kept.scope, kept.partition, kept.question, kept.expires_at_unix_s, "g", 3)
    keys = [gone.key, kept.key, short.key, "0" * 64]
    assert await store.get_questions(keys) == [None, asked, None, None]
    assert await store.get_questions([]) == []


async def test_a_reading_says_which_moment_it_was(store: AnswerStore) -> None:
    put = entry("q", now_unix_s=now())
    nothing, before = await store.read(put.key)
    assert await store.put(put, since=before)
    found, after = await store.read(put.key)
    assert (nothing, found) == (None, put)
    await store.invalidate(Selector(tenant="acme"))
    gone, _ = await store.read(put.key)
    assert gone is None
    assert [await store.put(put, since=since) for since in (before, after)] == [False, False]
    _, since = await store.read(put.key)
    assert await store.put(put, since=since)


@pytest.mark.parametrize(
    "since", ["nonsense", "", " 0 0 0", "another-era 0 0 0", "another-era 99 99 99999999", "e 0 0 ٣", "e" * 200]
)
async def test_a_put_of_a_moment_that_the_store_does_not_know_is_not_kept(store: AnswerStore, since: str) -> None:
    await store.put(entry("other", now_unix_s=now()))
    assert not await store.put(entry("q", now_unix_s=now()), since=since)
    assert await store.get_many([KEY]) == [None]


async def test_moments_are_short(store: AnswerStore) -> None:
    for number in range(3):
        await store.invalidate(Selector(tenant="acme", tag=str(number)))
    assert len(await store.moment(KEY)) <= MOMENT_CHARS_MAX


async def test_nothing_is_found_for_no_keys(store: AnswerStore) -> None:
    assert await store.get_many([]) == []


async def test_a_put_replaces_the_whole_entry_of_that_key(store: AnswerStore) -> None:
    at = now()
    await store.put(entry("q", now_unix_s=at, tags=("old",), text="old"))
    fresh = entry("q", now_unix_s=at, text="new", partition="")
    await store.put(fresh)
    assert await store.get_many([fresh.key]) == [fresh]
    assert await store.find(Selector(tenant="acme", tag="old")) == []


async def test_an_entry_is_gone_at_its_expiry_and_no_read_prolongs_it(store: AnswerStore) -> None:
    short, long = entry("short", now_unix_s=now(), ttl_s=0.3), entry("long", now_unix_s=now())
    await store.put(short)
    await store.put(long)

    async def gone() -> bool:
        return await store.get_many([short.key, long.key]) == [None, long]

    await until(gone, what="the entry expires")
    assert now() >= short.expires_at_unix_s - 0.01
    assert await store.find(Selector(tenant="acme")) == [long.key]
    assert await store.delete([short.key]) == 0


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(tenant="acme"), {"a", "b", "c"}),
        (Selector(tenant="acme", namespace="shop"), {"b", "c"}),
        (Selector(tenant="acme", namespace=""), {"a"}),
        (Selector(tenant="acme", template_version="2"), {"c"}),
        (Selector(tenant="acme", tag="red"), {"a", "c"}),
        (Selector(tenant="acme", namespace="shop", tag="red"), {"c"}),
        (Selector(tenant=""), {"e"}),
        (Selector(tenant="nobody"), set()),
        (Selector(tag="red"), {"a", "c", "d"}),
    ],
)
async def test_find_takes_what_every_condition_holds_for(
    store: AnswerStore, selector: Selector, expected: set[str]
) -> None:
    at = now()
    entries = {
        "a": entry("a", now_unix_s=at, tags=("red",)),
        "b": entry("b", now_unix_s=at, scope=Scope("acme", "shop", "1")),
        "c": entry("c", now_unix_s=at, scope=Scope("acme", "shop", "2"), tags=("blue", "red")),
        "d": entry("d", now_unix_s=at, scope=Scope("other", "shop", "2"), tags=("red",), partition=""),
        "e": entry("e", now_unix_s=at, scope=Scope("")),
    }
    for each in entries.values():
        await store.put(each)
    assert set(await store.find(selector)) == {entries[name].key for name in expected}


async def test_find_by_key_still_asks_whose_it_is(store: AnswerStore) -> None:
    put = entry("q", now_unix_s=now())
    await store.put(put)
    assert await store.find(Selector(entry_key=put.key)) == [put.key]
    assert await store.find(Selector(entry_key=put.key, tenant="other")) == []
    assert await store.find(Selector(entry_key="not a key")) == []


async def test_delete_says_how_many_there_were(store: AnswerStore) -> None:
    a, b = entry("a", now_unix_s=now()), entry("b", now_unix_s=now())
    await store.put(a)
    await store.put(b)
    assert await store.delete([a.key, a.key, "0" * 64]) == 1
    assert await store.get_many([a.key, b.key]) == [None, b]
    assert await store.find(Selector(tenant="acme")) == [b.key]
    assert await store.delete([]) == 0


async def test_a_follower_begins_with_what_is_there(store: AnswerStore) -> None:
    a, b = entry("a", now_unix_s=now()), entry("b", now_unix_s=now())
    for each in (a, b, entry("found exactly only", now_unix_s=now(), partition="")):
        await store.put(each)
    await store.delete([b.key])
    seen = await changes_until(store, caught_up)
    assert isinstance(seen[0], Forget)
    assert indexed(seen[1:-1]) == [Indexed(a.key, a.partition, a.embedding_model, a.vector, a.expires_at_unix_s)]


async def test_a_follower_learns_of_every_later_put_and_deletion_in_order(store: AnswerStore) -> None:
    names = [f"question {number}" for number in range(50)]
    entries = [entry(name, now_unix_s=now()) for name in names]
    following = asyncio.Event()

    async def follow() -> list[Change]:
        def stop(seen: list[Change]) -> bool:
            if caught_up(seen):
                following.set()
            return isinstance(seen[-1], Removed)

        return await changes_until(store, stop)

    follower = asyncio.create_task(follow())
    await following.wait()
    for each in entries:
        await store.put(each)
    await store.delete([entries[0].key, entries[1].key])
    seen = await follower
    keys = [change.key for change in indexed(seen)]
    assert keys == [each.key for each in entries]
    assert seen[-1] == Removed((entries[0].key, entries[1].key))


async def test_memory_expires_by_its_clock() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    put = entry("q", now_unix_s=clock.unix(), ttl_s=60.0)
    await store.put(put)
    clock.advance(59.9)
    assert await store.get_many([put.key]) == [put]
    clock.advance(0.1)
    assert await store.get_many([put.key]) == [None]


@pytest.mark.parametrize(
    ("selector", "is_kept"),
    [
        (Selector(tenant="acme"), False),
        (Selector(tenant="acme", tag="red"), False),
        (Selector(tenant="acme", tag="blue"), True),
        (Selector(tenant="other"), True),
        (Selector(entry_key=KEY), False),
        (Selector(entry_key="1" + KEY[1:]), True),
    ],
)
async def test_a_put_that_an_invalidation_overtook_is_not_kept(
    store: AnswerStore, selector: Selector, is_kept: bool
) -> None:
    put = entry("q", now_unix_s=now(), tags=("red",))
    assert put.key == KEY
    since = await store.moment(put.key)
    await store.invalidate(selector)
    assert await store.put(put, since=since) is is_kept
    assert await store.get_many([put.key]) == [put if is_kept else None]
    assert await store.put(put, since=await store.moment(put.key))
    assert await store.get_many([put.key]) == [put]


async def test_a_put_after_many_invalidations_of_others_is_kept_and_after_one_of_its_own_is_not(
    store: AnswerStore,
) -> None:
    put = entry("q", now_unix_s=now(), tags=("red",))
    since = await store.moment(put.key)
    for number in range(5):
        await store.invalidate(Selector(tenant="acme", tag=f"tag {number}"))
    assert await store.put(put, since=since)
    await store.invalidate(Selector(tenant="acme", tag="red"))
    assert not await store.put(put, since=since)
    assert await store.get_many([put.key]) == [None]


async def test_what_was_there_stays_when_a_put_is_turned_away(store: AnswerStore) -> None:
    since = await store.moment(KEY)
    await store.invalidate(Selector(tenant="acme", tag="red"))
    kept, late = (entry("q", now_unix_s=now(), tags=tags) for tags in ((), ("red",)))
    assert await store.put(kept)
    assert not await store.put(late, since=since)
    assert await store.get_many([KEY]) == [kept]


async def test_a_put_after_many_deletions_of_other_keys_is_kept(store: AnswerStore) -> None:
    since = await store.moment(KEY)
    for number in range(20):
        await store.invalidate(Selector(entry_key=f"{KEY[:-2]}{number:02}"))
    assert await store.put(entry("q", now_unix_s=now()), since=since)
