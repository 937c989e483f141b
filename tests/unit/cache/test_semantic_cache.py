"""The use case over the store in memory and a clock that only moves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from services.cache.cache_policy import UNFIT_CHARS_MAX
from services.cache.entry import Entry, Question, Scope, Selector
from services.cache.index.vector_index import DimensionMismatchError, InvalidVectorError
from services.cache.matching.findings import Link
from services.cache.outcomes import Stored, StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import CaughtUp, Change, Interrupted, StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, TTL, answer, cache_over, chat, embedding, policy

ACME = Scope("acme")
ON, ON_TOO, OFF = "How do I turn on the heater?", "how do I turn on  the heater", "How do I turn off the heater?"


@dataclass
class Bench:
    cache: SemanticCache
    clock: FakeClock
    store: MemoryStore

    async def kind(self, text: str, *, scope: Scope = ACME, skip_exact: bool = False) -> CacheKind:
        found = await self.cache.lookup(
            scope, chat(text), embedding=embedding("heater"), task_type=TaskType.OTHER, skip_exact=skip_exact
        )
        assert (found.answer is not None) == (found.outcome.kind in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT})
        return found.outcome.kind

    async def put(self, text: str = ON, *, tags: Sequence[str] = (), ttl_s: float | None = None) -> Stored:
        return await self.cache.store(
            ACME,
            chat(text),
            answer(),
            embedding=embedding("heater"),
            task_type=TaskType.OTHER,
            tags=tags,
            ttl_s=ttl_s,
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, clock=clock)
    cache = cache_over(store, clock)
    await cache.start()
    yield Bench(cache, clock, store)
    await cache.close()


async def test_the_same_request_is_an_exact_hit_with_its_age_and_key(bench: Bench) -> None:
    stored = await bench.put()
    bench.clock.advance(5.0)
    found = await bench.cache.lookup(ACME, chat(ON))
    assert found.answer == answer()
    assert found.outcome.kind is CacheKind.EXACT_HIT
    assert found.outcome.entry_key == stored.entry_key
    assert found.outcome.age_s == pytest.approx(5.0)


async def test_the_same_meaning_is_a_semantic_hit_with_its_similarity(bench: Bench) -> None:
    stored = await bench.put()
    found = await bench.cache.lookup(ACME, chat(ON_TOO), embedding=embedding("heater"), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.SEMANTIC_HIT
    assert found.outcome.similarity == pytest.approx(1.0)
    assert found.outcome.entry_key == stored.entry_key
    assert found.partition_entries == 1


async def test_on_never_answers_off_however_similar(bench: Bench) -> None:
    await bench.put(ON)
    found = await bench.cache.lookup(ACME, chat(OFF), embedding=embedding("heater"), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.MISS
    assert found.outcome.similarity == pytest.approx(1.0)


async def test_the_same_words_are_found_although_another_question_lies_as_near(bench: Bench) -> None:
    await bench.put(OFF)
    await bench.put(ON)
    assert await bench.kind(ON_TOO) is CacheKind.SEMANTIC_HIT


async def test_a_distant_question_is_a_miss(bench: Bench) -> None:
    await bench.put()
    found = await bench.cache.lookup(ACME, chat(ON_TOO), embedding=embedding("other"), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.MISS
    assert found.outcome.reason == "no comparable question is stored"


async def test_without_an_embedding_only_the_same_request_is_found(bench: Bench) -> None:
    await bench.put()
    assert (await bench.cache.lookup(ACME, chat(ON_TOO))).outcome.kind is CacheKind.MISS


@pytest.mark.parametrize("task_type", [TaskType.MATH, TaskType.CODE, None])
async def test_some_kinds_of_work_are_only_found_exactly(bench: Bench, task_type: TaskType | None) -> None:
    for asked in (ON, ON_TOO):
        await bench.cache.store(ACME, chat(ON), answer(), embedding=embedding("heater"), task_type=task_type)
        found = await bench.cache.lookup(ACME, chat(asked), embedding=embedding("heater"), task_type=task_type)
        assert found.outcome.kind is (CacheKind.EXACT_HIT if asked == ON else CacheKind.MISS)
    assert bench.cache.stats().indexed_entries == 0


async def test_skip_exact_does_not_repeat_the_exact_lookup(bench: Bench) -> None:
    await bench.put()
    assert (await bench.cache.lookup(ACME, chat(ON), skip_exact=True)).outcome.kind is CacheKind.MISS
    assert await bench.kind(ON_TOO, skip_exact=True) is CacheKind.SEMANTIC_HIT


async def test_the_same_request_is_an_exact_hit_even_if_it_was_stored_between_the_two_lookups(bench: Bench) -> None:
    assert await bench.kind(ON) is CacheKind.MISS
    await bench.put(ON)
    assert await bench.kind(ON, skip_exact=True) is CacheKind.EXACT_HIT
    assert bench.cache.stats().semantic_hits == 0


@pytest.mark.parametrize("other", [Scope("evil"), Scope("acme", "shop"), Scope("acme", "", "2"), Scope("")])
async def test_another_scope_finds_nothing(bench: Bench, other: Scope) -> None:
    await bench.put()
    assert await bench.kind(ON, scope=other) is CacheKind.MISS
    assert await bench.kind(ON_TOO, scope=other) is CacheKind.MISS


async def test_an_entry_that_lies_under_a_wrong_key_is_not_served(bench: Bench) -> None:
    stored = await bench.put()
    (entry,) = await bench.store.get_many([stored.entry_key])
    assert entry is not None
    await bench.store.put(
        Entry(entry.key, Scope("evil"), entry.answer, entry.stored_at_unix_s, entry.expires_at_unix_s, entry.partition)
    )
    assert await bench.kind(ON) is CacheKind.MISS
    assert await bench.kind(ON_TOO) is CacheKind.MISS


async def test_an_entry_of_another_partition_is_not_served_although_the_index_proposes_it(bench: Bench) -> None:
    stored = await bench.put()
    (entry,) = await bench.store.get_many([stored.entry_key])
    assert entry is not None
    await bench.store.put(replace(entry, partition="another"))
    assert await bench.kind(ON_TOO) is CacheKind.MISS


async def test_an_entry_is_gone_at_its_time_although_it_was_served_until_then(bench: Bench) -> None:
    await bench.put(ttl_s=60.0)
    for _ in range(59):
        bench.clock.advance(1.0)
        assert await bench.kind(ON) is CacheKind.EXACT_HIT
        assert await bench.kind(ON_TOO) is CacheKind.SEMANTIC_HIT
    bench.clock.advance(1.0)
    assert await bench.kind(ON) is CacheKind.MISS
    assert await bench.kind(ON_TOO) is CacheKind.MISS
    assert bench.cache.stats().indexed_entries == 0


async def test_the_freshness_class_sets_the_lifetime(bench: Bench) -> None:
    await bench.put(tags=("freshness:static",))
    bench.clock.advance(TTL.static_s - 1.0)
    assert await bench.kind(ON) is CacheKind.EXACT_HIT
    bench.clock.advance(1.0)
    assert await bench.kind(ON) is CacheKind.MISS


async def test_an_answer_that_may_not_be_cached_is_not(bench: Bench) -> None:
    stored = await bench.cache.store(ACME, chat(ON), answer(accepted=False))
    assert stored == Stored(StoreResult.NOT_ADMITTED, reason="not_accepted")
    assert await bench.kind(ON) is CacheKind.MISS


async def test_storing_again_replaces_the_answer(bench: Bench) -> None:
    await bench.put()
    await bench.cache.store(ACME, chat(ON), answer("fresh"), embedding=embedding("heater"), task_type=TaskType.OTHER)
    found = await bench.cache.lookup(ACME, chat(ON))
    assert found.answer == answer("fresh")
    assert bench.cache.stats().indexed_entries == 1


async def test_a_dry_run_counts_and_removes_nothing(bench: Bench) -> None:
    await bench.put(ON, tags=("red",))
    await bench.put(OFF)
    assert await bench.cache.invalidate(Selector(tenant="acme"), dry_run=True) == 2
    assert await bench.cache.invalidate(Selector(tenant="acme", tag="red"), dry_run=True) == 1
    assert await bench.kind(ON) is CacheKind.EXACT_HIT
    assert await bench.cache.invalidate(Selector(tenant="acme", tag="red"), dry_run=False) == 1
    assert await bench.kind(ON) is CacheKind.MISS
    assert await bench.kind(OFF) is CacheKind.EXACT_HIT
    assert await bench.cache.invalidate(Selector(tenant="acme", tag="red"), dry_run=False) == 0


async def test_embeddings_that_cannot_be_compared_are_refused(bench: Bench) -> None:
    broken = Embedding(b"\0" * 32, MODEL)
    with pytest.raises(InvalidVectorError):
        await bench.cache.lookup(ACME, chat(ON), embedding=broken, task_type=TaskType.OTHER)
    with pytest.raises(InvalidVectorError):
        await bench.cache.store(ACME, chat(ON), answer(), embedding=broken, task_type=TaskType.OTHER)


async def test_another_dimension_is_an_error_to_store_and_a_miss_to_look_up(bench: Bench) -> None:
    await bench.put()
    short = embedding("heater", dimensions=4)
    with pytest.raises(DimensionMismatchError):
        await bench.cache.store(ACME, chat(OFF), answer(), embedding=short, task_type=TaskType.OTHER)
    found = await bench.cache.lookup(ACME, chat(ON_TOO), embedding=short, task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.MISS
    assert "dimension" in found.outcome.reason


async def test_another_embedding_model_has_partitions_of_its_own(bench: Bench) -> None:
    await bench.put()
    other = Embedding(embedding("heater").values, "another/1")
    found = await bench.cache.lookup(ACME, chat(ON_TOO), embedding=other, task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.MISS


async def test_every_lookup_and_store_is_counted_once(bench: Bench) -> None:
    await bench.put()
    await bench.cache.store(ACME, chat(OFF), answer(accepted=False))
    for text in (ON, ON_TOO, OFF):
        await bench.kind(text)
    stats = bench.cache.stats()
    assert (stats.lookups, stats.exact_hits, stats.semantic_hits, stats.unavailable) == (3, 1, 1, 0)
    assert (stats.stored, stats.not_admitted, stats.dropped) == (1, 1, 0)
    assert (stats.indexed_entries, stats.partitions) == (1, 1)


async def test_a_request_that_is_looked_up_exactly_and_then_by_meaning_is_one_lookup(bench: Bench) -> None:
    await bench.put()
    for text in (ON_TOO, OFF):
        await bench.cache.lookup(ACME, chat(text))
        await bench.kind(text, skip_exact=True)
    stats = bench.cache.stats()
    assert (stats.lookups, stats.exact_hits, stats.semantic_hits, stats.unavailable) == (2, 0, 1, 0)


class AbsentStore:
    """A store that is away, or never answers."""

    evicted = 0

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._forever = FakeClock()

    async def _fail(self) -> None:
        if self._silent:
            await self._forever.sleep(1.0)
        raise StoreUnavailableError("away")

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        await self._fail()
        return []

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        await self._fail()
        return []

    async def read(self, key: str) -> tuple[Entry | None, str]:
        await self._fail()
        return None, ""

    async def moment(self, key: str) -> str:
        await self._fail()
        return ""

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        await self._fail()
        return False

    async def find(self, selector: Selector) -> list[str]:
        await self._fail()
        return []

    async def delete(self, keys: Sequence[str]) -> int:
        await self._fail()
        return 0

    async def invalidate(self, selector: Selector) -> int:
        await self._fail()
        return 0

    def served(self, key: str) -> None:
        return

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        yield Interrupted()
        await self._forever.sleep(1.0)
        yield CaughtUp()

    async def close(self) -> None:
        return


@pytest.mark.parametrize("silent", [False, True])
async def test_a_store_that_is_away_is_an_outcome_and_no_error(silent: bool) -> None:
    cache = cache_over(AbsentStore(silent=silent), FakeClock(), rules=policy(lookup_s=0.02))
    await cache.start()
    found = await cache.lookup(ACME, chat(ON))
    assert found.outcome.kind is CacheKind.UNAVAILABLE
    assert cache.stats().unavailable == 1
    await cache.close()


async def test_a_store_that_is_away_drops_answers_and_says_so() -> None:
    cache = cache_over(AbsentStore(silent=False), FakeClock())
    stored = await cache.store(ACME, chat(ON), answer())
    assert stored.result is StoreResult.UNAVAILABLE
    assert cache.stats().dropped == 1


class SlowStore(MemoryStore):
    """Lets a put wait before it happens."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(entries_max=10, clock=clock)
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        self.waits.set()
        await self.goes_on.wait()
        return await super().put(entry, since=since)


@pytest.mark.parametrize(("selector", "is_kept"), [(Selector(tenant="acme"), False), (Selector(tenant="other"), True)])
async def test_an_answer_that_an_invalidation_overtakes_is_not_kept(selector: Selector, is_kept: bool) -> None:
    clock = FakeClock()
    store = SlowStore(clock)
    cache = cache_over(store, clock)
    await cache.start()
    storing = asyncio.create_task(cache.store(ACME, chat(ON), answer()))
    await store.waits.wait()
    await cache.invalidate(selector, dry_run=False)
    store.goes_on.set()
    assert (await storing).result is (StoreResult.STORED if is_kept else StoreResult.NOT_ADMITTED)
    found = await cache.lookup(ACME, chat(ON))
    assert found.outcome.kind is (CacheKind.EXACT_HIT if is_kept else CacheKind.MISS)
    await cache.close()


async def test_an_invalidation_while_an_answer_is_judged_keeps_it_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def learn(*_: object) -> Link:
        await bench.cache.invalidate(Selector(tenant="acme"), dry_run=False)
        return Link()

    monkeypatch.setattr(bench.cache, "_learn", learn)
    assert (await bench.put()).reason == "invalidated"
    assert await bench.kind(ON) is CacheKind.MISS


async def test_a_turn_too_long_to_be_looked_through_is_never_cached(bench: Bench) -> None:
    text = "a" * (UNFIT_CHARS_MAX + 1)
    assert (await bench.put(text)).reason == "too_long"
    assert await bench.kind(text) is CacheKind.NEVER_CACHED
    assert (await bench.put(text[1:])).result is StoreResult.STORED


async def test_an_invalidation_that_could_not_happen_is_an_error() -> None:
    cache = cache_over(AbsentStore(silent=False), FakeClock())
    with pytest.raises(StoreUnavailableError):
        await cache.invalidate(Selector(tenant="acme"), dry_run=True)


@pytest.mark.parametrize("seen_ahead", [False, True])
async def test_what_a_clock_that_was_ahead_took_for_expired_is_found_by_meaning_again_once_it_was_found_exactly(
    bench: Bench, seen_ahead: bool
) -> None:
    await bench.put(ttl_s=3_600.0)
    bench.clock.advance(7_200.0)
    if seen_ahead:
        assert [await bench.kind(text) for text in (ON, ON_TOO)] == [CacheKind.MISS] * 2
        assert bench.cache.stats().indexed_entries == 0
    bench.clock._unix_offset -= 7_200.0
    assert [await bench.kind(text) for text in (ON, ON_TOO)] == [CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT]
    assert bench.cache.stats().indexed_entries == 1


async def test_what_is_only_found_exactly_is_not_indexed_when_it_is_found(bench: Bench) -> None:
    await bench.cache.store(ACME, chat(ON), answer())
    assert await bench.kind(ON) is CacheKind.EXACT_HIT
    assert bench.cache.stats().indexed_entries == 0
