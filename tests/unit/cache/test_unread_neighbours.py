"""A replica that knows nothing of a question's neighbours yet reads what they ask, and only one answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.cache.entry import Entry, Question, Scope
from services.cache.matching.nearby import SAME_WORDS_LOOKS, WHOLE_READS_MAX
from services.cache.matching.risk_control import RiskPolicy
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, embedding, vector

ACME = Scope("acme")
THINGS = [f"heater of the {name} room" for name in ("red", "blue", "small", "large", "old", "new", "upper", "lower")]
HEATER = embedding("heater")
FARTHER = Embedding((vector("heater") + 0.7 * vector("room")).astype("<f4").tobytes(), MODEL)


class CountingStore(MemoryStore):
    """Counts the keys that were read."""

    answers = questions = 0

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        self.answers += len(keys)
        return await super().get_many(keys)

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        self.questions += len(keys)
        return await super().get_questions(keys)


async def filled(clock: FakeClock, things: Sequence[str]) -> CountingStore:
    """A store that another replica has filled."""
    store = CountingStore(entries_max=100, clock=clock)
    other = cache_over(store, clock)
    for thing in things:
        asked = chat(f"How do I turn on the {thing}?")
        await other.store(ACME, asked, answer(f"{thing}."), embedding=HEATER, task_type=TaskType.OTHER)
    return store


@pytest.mark.parametrize("count", [1, WHOLE_READS_MAX, len(THINGS)])
async def test_of_many_neighbours_the_questions_are_read_and_of_a_few_all(count: int) -> None:
    clock = FakeClock()
    store = await filled(clock, THINGS[:count])
    cache = cache_over(store, clock)
    await cache.start()
    store.answers = store.questions = 0
    asked = chat("how do I switch on the heaters")
    found = await cache.lookup(ACME, asked, embedding=FARTHER, task_type=TaskType.OTHER, skip_exact=True)
    assert found.outcome.kind is CacheKind.MISS
    is_many = count > WHOLE_READS_MAX
    assert store.questions == (count if is_many else 0)
    assert store.answers <= (1 if is_many else count)
    await cache.close()


@pytest.mark.parametrize("count", [1, len(THINGS)])
async def test_for_the_same_words_nothing_is_read_but_what_may_have_them(count: int) -> None:
    clock = FakeClock()
    store = await filled(clock, THINGS[:count])
    cache = cache_over(store, clock, risk=RiskPolicy(audit_rate=0.0))
    await cache.start()
    store.answers = store.questions = 0
    asked = chat(f"how do I turn on  the {THINGS[0]}")
    found = await cache.lookup(ACME, asked, embedding=HEATER, task_type=TaskType.OTHER, skip_exact=True)
    assert found.outcome.kind is CacheKind.SEMANTIC_HIT
    assert found.answer == answer(f"{THINGS[0]}.")
    assert store.answers == 1
    assert store.questions == (SAME_WORDS_LOOKS if count > 1 else 0)
    await cache.close()


async def test_the_same_words_are_found_where_their_embedding_is_not_so_near() -> None:
    clock = FakeClock()
    store = await filled(clock, THINGS)
    cache = cache_over(store, clock)
    asked = chat(f"how do I turn on  the {THINGS[0]}")
    await cache.start()
    found = await cache.lookup(ACME, asked, embedding=FARTHER, task_type=TaskType.OTHER, skip_exact=True)
    assert (found.outcome.kind, found.answer) == (CacheKind.SEMANTIC_HIT, answer(f"{THINGS[0]}."))
    await cache.close()


async def test_of_many_unread_neighbours_none_is_served_that_is_gone_by_now() -> None:
    clock = FakeClock()
    store = await filled(clock, THINGS)
    cache = cache_over(store, clock)
    await cache.start()
    store._entries.clear()  # without a word to followers
    found = await cache.lookup(
        ACME, chat(f"how do I turn on  the {THINGS[0]}"), embedding=HEATER, task_type=TaskType.OTHER, skip_exact=True
    )
    assert found.outcome.kind is CacheKind.MISS
    assert cache.stats().indexed_entries == 0
    await cache.close()
