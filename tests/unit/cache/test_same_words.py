"""Hits by the same words: what is read for them, and what is learned when they are told of."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from services.cache.entry import Entry, Scope
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding

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
    (last,) = cache._search._judged.values()
    return last


async def tell(cache: SemanticCache, key: str, what: bool) -> Comparison:
    return await cache.record_evidence(
        ACME, chat(ASKED), what, key=key, embedding=embedding("r"), task_type=TaskType.OTHER
    )


async def test_of_a_hit_that_is_to_be_audited_the_neighbours_are_looked_at_and_of_others_not() -> None:
    cache, _ = await a_cache(audit_rate=1.0)
    while not await ask(cache):
        assert judged(cache).features is None
    features = judged(cache).features
    assert features is not None
    assert features.shape == (len(NAMES),)
    cache, _ = await a_cache(audit_rate=0.0)
    await ask(cache)
    assert judged(cache).features is None


class Unread(MemoryStore):
    """Fails where one of these is to be read."""

    failing: frozenset[str] = frozenset()

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        if not self.failing.isdisjoint(keys):
            raise StoreUnavailableError("away")
        return await super().get_many(keys)


async def test_the_same_words_are_served_and_audited_where_the_store_does_not_say_what_else_is_near() -> None:
    clock = FakeClock()
    store = Unread(entries_max=100, clock=clock)
    cache = cache_over(store, clock, risk=RiskPolicy(audit_rate=1.0))
    stored = await cache.store(
        ACME, chat(STORED), answer("hold_the_button"), embedding=embedding("r"), task_type=TaskType.OTHER
    )
    other = chat("How do I open the window?")
    await cache.store(ACME, other, answer("pull"), embedding=embedding("w"), task_type=TaskType.OTHER)
    cache._search._known.forget(entry_key(ACME, other))
    store.failing = frozenset({entry_key(ACME, other)})
    while not await ask(cache):
        pass
    assert judged(cache).features is None
    assert judged(cache).audit
    assert await tell(cache, stored.entry_key, True) is Comparison.SAME


async def test_a_complaint_about_the_same_words_is_evidence_of_how_its_neighbours_look() -> None:
    cache, key = await a_cache(audit_rate=0.0)
    await ask(cache)
    assert await tell(cache, key, False) is Comparison.DIFFERENT
    (deciding,) = cache._search.classes.all()
    (features,) = deciding.controller.observations().features
    assert features[NAMES.index("similarity")] == np.float32(1.0)
    assert deciding.controller.observations().same.tolist() == [0.0]


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
