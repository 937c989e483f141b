"""Hits by the same words: what is read for them, and what is learned when they are told of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

from services.cache.entry import Entry, Scope
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.known_questions import KnownQuestion, same_words
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.partition_classes import PartitionClass
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, embedding, policy, vector

ACME = Scope("acme")
STORED = "How do I reset my router?"
ASKED = "how do I  reset my router"


async def a_cache(*, audit_rate: float) -> tuple[SemanticCache, str]:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, clock=clock)
    cache = cache_over(store, clock, risk=RiskPolicy(audit_rate=audit_rate))
    stored = await cache.store(
        ACME, chat(STORED), answer("hold_the_button"), embedding=embedding("r"), task_type=TaskType.OTHER
    )
    return cache, stored.entry_key


async def ask(cache: SemanticCache) -> bool:
    found = await cache.lookup(ACME, chat(ASKED), embedding=embedding("r"), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.SEMANTIC_HIT
    return found.audit


def judged(cache: SemanticCache) -> Judged:
    (last,) = cache._search._hits._judged.values()
    return last


async def tell(cache: SemanticCache, key: str, what: bool) -> Comparison:
    return await cache.record_evidence(
        ACME, chat(ASKED), what, key=key, embedding=embedding("r"), task_type=TaskType.OTHER
    )


class Slow(MemoryStore):
    """Reads nothing that is `held` before it is `free`, or fails where it is `away`."""

    held: frozenset[str] = frozenset()
    away = False

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(entries_max=100, clock=clock)
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        if not self.held.isdisjoint(keys):
            self.asked.set()
            if self.away:
                raise StoreUnavailableError("away")
            await self.free.wait()
        return await super().get_many(keys)


async def beside_what_is_read_slowly(*, audit_rate: float) -> tuple[Slow, SemanticCache, str]:
    """The question, and near it another, which has to be read and is held back."""
    clock = FakeClock()
    store = Slow(clock)
    cache = cache_over(store, clock, risk=RiskPolicy(audit_rate=audit_rate))
    stored = await cache.store(
        ACME, chat(STORED), answer("hold_the_button"), embedding=embedding("r"), task_type=TaskType.OTHER
    )
    other = chat("How do I open the window?")
    await cache.store(ACME, other, answer("pull"), embedding=embedding("w"), task_type=TaskType.OTHER)
    cache._search._known.forget(entry_key(ACME, other))
    store.held = frozenset({entry_key(ACME, other)})
    return store, cache, stored.entry_key


def deciding(cache: SemanticCache) -> PartitionClass:
    (only,) = cache._search.classes.all()
    return only


async def test_a_hit_waits_for_nothing_but_its_own_answer_audited_or_not() -> None:
    store, cache, key = await beside_what_is_read_slowly(audit_rate=1.0)
    while not await ask(cache):
        assert judged(cache).features is None
    assert judged(cache).features is None
    assert judged(cache).audit
    assert deciding(cache).audits_open == 1
    assert not store.asked.is_set()
    store.free.set()
    assert await tell(cache, key, True) is Comparison.SAME
    assert store.asked.is_set()
    assert deciding(cache).controller.observations().features.shape == (1, len(NAMES))


@pytest.mark.parametrize("is_away", [True, False])
async def test_an_audit_counts_where_the_store_does_not_say_in_time_what_else_is_near(is_away: bool) -> None:
    store, cache, key = await beside_what_is_read_slowly(audit_rate=1.0)
    store.away = is_away
    while not await ask(cache):
        pass
    in_time = cache.ruled_by(policy(lookup_s=0.4), similarity_min=0.5)
    said = await in_time.record_evidence(
        ACME,
        chat(ASKED),
        answer("hold_the_button"),
        key=key,
        embedding=embedding("r"),
        task_type=TaskType.OTHER,
    )
    assert said is Comparison.SAME
    assert store.asked.is_set()
    report = deciding(cache).report()
    assert (report.audited, report.risk.observations, deciding(cache).audits_open) == (1, 0, 0)
    assert report.risk.audits > 0.0


async def test_who_is_interrupted_has_told_nothing_and_may_tell_it_again() -> None:
    store, cache, key = await beside_what_is_read_slowly(audit_rate=0.0)
    await ask(cache)
    telling = asyncio.create_task(tell(cache, key, False))
    await store.asked.wait()
    telling.cancel()
    await asyncio.wait({telling})
    assert deciding(cache).report().audited == 0
    store.free.set()
    assert await tell(cache, key, False) is Comparison.DIFFERENT
    assert (deciding(cache).report().audited, deciding(cache).report().wrong) == (1, 1)


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_what_is_told_twice_at_the_same_time_counts_once(is_elsewhere: bool) -> None:
    store, cache, key = await beside_what_is_read_slowly(audit_rate=0.0)
    for _ in range(3):
        await ask(cache)
    if is_elsewhere:  # of its hits no more are told than this one had
        cache._search._hits._judged.clear()
    telling = [asyncio.create_task(tell(cache, key, True)) for _ in range(2)]
    await store.asked.wait()
    store.free.set()
    await asyncio.gather(*telling)
    assert deciding(cache).report().audited == 1


async def test_what_the_same_words_were_told_is_not_learned_under_another_answer() -> None:
    clock = FakeClock()
    cache = cache_over(MemoryStore(entries_max=100, clock=clock), clock, risk=RiskPolicy(audit_rate=0.0))

    async def put(text: str, said: str, name: str, distance: float) -> str:
        stored = await cache.store(
            ACME, chat(text), answer(said), embedding=beside(name, distance), task_type=TaskType.OTHER
        )
        return stored.entry_key

    def beside(name: str, distance: float) -> Embedding:
        values = vector("r", 64) + distance * vector(name, 64)
        return Embedding(values.astype("<f4").tobytes(), MODEL)

    key = await put(STORED, "hold_the_button", "r", 0.0)
    for number, text in enumerate(("router reboot steps", "reboot the router", "please reboot router now")):
        await put(text, "pull_the_plug", f"z{number}", 0.15)
    before = deciding(cache).report()
    asked: dict[str, Any] = {"embedding": beside("r9", 0.02), "task_type": TaskType.OTHER}
    found = await cache.lookup(ACME, chat(ASKED), **asked)
    assert found.answer == answer("hold_the_button")
    assert await cache.record_evidence(ACME, chat(ASKED), False, key=key, **asked) is Comparison.DIFFERENT
    after = deciding(cache).report()
    assert (after.audited, after.risk.observations) == (before.audited + 1, before.risk.observations)


async def test_a_complaint_about_the_same_words_is_evidence_of_how_its_neighbours_look() -> None:
    cache, key = await a_cache(audit_rate=0.0)
    await ask(cache)
    assert await tell(cache, key, False) is Comparison.DIFFERENT
    (features,) = deciding(cache).controller.observations().features
    assert features[NAMES.index("similarity")] == np.float32(1.0)
    assert deciding(cache).controller.observations().same.tolist() == [0.0]


async def test_where_nothing_is_near_any_more_a_complaint_counts_all_the_same() -> None:
    def complained(features: np.ndarray | None) -> RiskController:
        controller = RiskController(RiskPolicy(), Random(1))
        for _ in range(3):
            controller.serve_same_words()
            controller.observe(Judged(features, 0.001), same=False, source=Source.FEEDBACK)
        return controller

    without, other = complained(None), complained(np.zeros(len(NAMES)))
    assert without.report().tightening == other.report().tightening > 1.0
    assert (without.report().observations, other.report().observations) == (0, 3)


async def test_what_many_others_may_outvote_is_not_served_before_they_were_read() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, clock=clock)
    cache = cache_over(store, clock, risk=RiskPolicy(audit_rate=0.0))
    cache._search = cache._search.ruled_by(similarity_min=0.95)
    await cache.store(ACME, chat(STORED), answer("hold"), embedding=embedding("r"), task_type=TaskType.OTHER)
    known = cache._search._near
    found = []

    async def find(*arguments: object, **named: object) -> None:
        found.append(arguments)

    known.find = find  # type: ignore[method-assign]
    looked_up = await cache.lookup(ACME, chat(ASKED), embedding=embedding("r"), task_type=TaskType.OTHER)
    assert looked_up.outcome.kind is CacheKind.MISS
    assert len(found) == 1


@pytest.mark.parametrize("text", ["how  do I pay?", "How do I pay.", "how do I pay", " How do I pay"])
def test_a_known_question_has_the_words_of_a_text_with_other_spaces_one_mark_and_another_capital(text: str) -> None:
    assert same_words(text) == same_words("How do I pay")
    assert KnownQuestion("How do I pay", "group", 1).has_words_of(text)
    assert KnownQuestion(text, "group", 1).has_words_of("How do I pay")


@pytest.mark.parametrize("text", ["How do I pay??", "How do I pay you", "How do I", "How do I pa", "", "How do I pày"])
def test_a_known_question_has_no_other_words(text: str) -> None:
    assert not KnownQuestion("How do I pay", "group", 1).has_words_of(text)
