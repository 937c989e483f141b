"""Looks that serve nothing: they find what a lookup would, and leave no trace in what is counted and learned."""

from __future__ import annotations

from services.cache.entry import Scope
from services.cache.matching.risk_control import RiskPolicy
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding
from tests.support.cache_world import World

ACME = Scope("acme")


class CountingStore(MemoryStore):
    """Notes which entries are said to have been served."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(entries_max=10_000, clock=clock)
        self.said_served: list[str] = []

    def served(self, key: str) -> None:
        self.said_served.append(key)
        super().served(key)


def a_cache() -> tuple[SemanticCache, CountingStore]:
    clock = FakeClock()
    store = CountingStore(clock)
    return cache_over(store, clock, risk=RiskPolicy(max_wrong_rate=0.02, audit_rate=0.2)), store


async def test_looks_find_what_lookups_find_and_a_cache_with_them_goes_on_as_one_without() -> None:
    (cache, store), (twin, _) = a_cache(), a_cache()
    twin._keeper._group_secret = cache._keeper._group_secret  # a group's name says where its words are counted
    looked_at, left_alone = World(cache, 2), World(twin, 2)
    await looked_at.ask(320)
    await left_alone.ask(320)
    before = (cache.stats(), cache.wrong_rates(), len(store.said_served))
    kinds = []
    known, unknown = World(cache, 2), World(cache, 5)
    for number in range(60):
        text, at, _ = (known if number % 2 else unknown).question()
        again = chat(f"{text}.")  # else it would be the same request
        found = await cache.lookup(ACME, again, embedding=at, task_type=TaskType.OTHER, skip_exact=True, peek=True)
        assert not found.audit
        assert (found.answer is None) == (found.outcome.kind is CacheKind.MISS)
        kinds.append(found.outcome.kind)
    assert {CacheKind.SEMANTIC_HIT, CacheKind.MISS} <= set(kinds)
    assert (cache.stats(), cache.wrong_rates(), len(store.said_served)) == before
    assert await looked_at.ask(120) == await left_alone.ask(120)
    assert looked_at.told.audits
    assert cache.wrong_rates() == twin.wrong_rates()


async def test_an_exact_answer_that_is_looked_at_is_not_counted_as_served() -> None:
    cache, store = a_cache()
    stored = await cache.store(ACME, chat("q"), answer(), embedding=embedding("q"), task_type=TaskType.OTHER)
    assert (await cache.lookup(ACME, chat("q"), peek=True)).outcome.kind is CacheKind.EXACT_HIT
    assert (cache.stats().lookups, cache.stats().exact_hits, store.said_served) == (0, 0, [])
    await cache.lookup(ACME, chat("q"))
    assert (cache.stats().lookups, cache.stats().exact_hits, store.said_served) == (1, 1, [stored.entry_key])


async def test_a_tenant_who_only_looks_gets_no_class_of_its_own() -> None:
    cache, _ = a_cache()
    for tenant in ("one", "two"):
        await cache.lookup(Scope(tenant), chat("q"), embedding=embedding("q"), task_type=TaskType.OTHER, peek=True)
    assert cache.wrong_rates() == []


async def test_what_is_never_cached_is_neither_a_miss_nor_looked_up() -> None:
    cache, _ = a_cache()
    found = await cache.lookup(ACME, chat("What is the weather in Vienna today?"))
    assert found.outcome.kind is CacheKind.NEVER_CACHED
    assert found.outcome.reason == "the question is time sensitive"
