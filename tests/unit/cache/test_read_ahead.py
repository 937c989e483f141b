"""Questions are read before anybody asks for them, as far as there is room."""

from __future__ import annotations

import asyncio

import pytest

from services.cache.entry import Question, Scope
from services.cache.index.vector_index import VectorIndex
from services.cache.matching.condensed import is_complete
from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.read_ahead import read_ahead
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from tests.support.cache_parts import cache_over, entry, pair_model, vector
from tests.support.waiting import until


class Away(MemoryStore):
    async def get_questions(self, keys: object) -> list[Question | None]:
        raise StoreUnavailableError("away")


async def filled(store: MemoryStore, count: int) -> VectorIndex:
    index = VectorIndex(entries_max=1_000)
    for number in range(count):
        made = entry(f"how do I pay bill {number}", now_unix_s=FakeClock().unix())
        await store.put(made)
        index.add(made.key, partition="p", model="m", vector=vector(made.key), expires_at_unix_s=1e12)
    return index


async def test_all_are_known_and_read_when_there_is_room_for_all() -> None:
    store, known = MemoryStore(entries_max=100, clock=FakeClock()), KnownQuestions(pair_model().idf, entries_max=100)
    index = await filled(store, 20)
    assert await read_ahead(store, index, known, pause_s=0.0) == 20
    assert None not in known.get_many(index.newest(100))
    assert all(map(is_complete, known._sketches._condensed.values()))
    assert len(known._sketches._condensed) == 20


async def test_of_more_than_may_be_known_the_newest_are_and_none_leaves_for_them() -> None:
    store, known = MemoryStore(entries_max=100, clock=FakeClock()), KnownQuestions(pair_model().idf, entries_max=5)
    index = await filled(store, 20)
    heard = Question("heard", Scope("acme"), "p", "what was heard of", 1e12)
    known.learn(heard)
    assert await read_ahead(store, index, known, pause_s=0.0) == 4
    assert known.get("heard") is not None
    assert None not in known.get_many(index.newest(4))


async def test_what_is_gone_or_found_by_nobody_is_passed_over() -> None:
    store, known = MemoryStore(entries_max=100, clock=FakeClock()), KnownQuestions(pair_model().idf, entries_max=100)
    index = await filled(store, 9)
    gone = index.newest(1)
    await store.delete(gone)
    assert await read_ahead(store, index, known, pause_s=0.0) == 8
    assert known.get(gone[0]) is None


async def test_a_store_that_is_away_ends_it() -> None:
    store = Away(entries_max=100, clock=FakeClock())
    assert await read_ahead(store, await filled(store, 9), KnownQuestions(pair_model().idf, entries_max=9)) == 0


async def test_what_others_read_meanwhile_is_not_read_again() -> None:
    known = KnownQuestions(pair_model().idf, entries_max=9)
    question = Question("k", Scope("acme"), "p", "how do I pay", 1e12)
    first = known.sketch_of("k", "how do I pay")
    assert known.read_ahead(question)
    assert known.sketch_of("k", "how do I pay") is first
    assert not known._sketches._condensed


async def test_a_cache_reads_ahead_from_its_start_and_ends_it_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore(entries_max=100, clock=FakeClock())
    await store.put(entry("how do I pay", now_unix_s=FakeClock().unix()))
    cache = cache_over(store, FakeClock())
    cache._reads_ahead = True
    await cache.start()

    async def is_known() -> bool:
        return len(cache._search._known) == 1

    await until(is_known, what="the question is known")
    begun = asyncio.Event()

    async def for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(cache._search, "read_ahead", for_ever)
    await cache.start()
    await begun.wait()
    await cache.close()
    assert cache._reading is not None
    assert cache._reading.cancelled()
