"""The same cache by other rules: what it holds and counts stays, and a call keeps the rules that it began with."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.cache.admission import Allowances, TtlByFreshness
from services.cache.entry import Entry, Scope
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import CacheKind
from tests.support.cache_parts import answer, cache_over, chat, policy

ACME = Scope("acme")
QUESTION = "What is the capital of France?"
PERSONAL = "What is my account balance?"


class HeldStore(MemoryStore):
    """Keeps an entry when it is let."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(entries_max=100, tenant_entries_max=100, bytes_max=1_000_000, clock=clock)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        self.asked.set()
        await self.go_on.wait()
        return await super().put(entry, since=since)


def lasting(seconds: float) -> TtlByFreshness:
    return TtlByFreshness(seconds, seconds, seconds)


async def kind(cache: SemanticCache, text: str = QUESTION) -> CacheKind:
    return (await cache.lookup(ACME, chat(text))).outcome.kind


async def test_answers_that_were_stored_before_are_found_and_counted_by_both() -> None:
    clock = FakeClock()
    before = cache_over(HeldStore(clock), clock)
    await before.store(ACME, chat(QUESTION), answer())
    after = before.ruled_by(policy(), similarity_min=0.9)
    assert await kind(after) is CacheKind.EXACT_HIT
    assert (before.stats().exact_hits, after.stats().stored) == (1, 1)


async def test_a_changed_lifetime_holds_for_answers_from_then_on() -> None:
    clock = FakeClock()
    before = cache_over(HeldStore(clock), clock, rules=replace(policy(), ttl=lasting(1_000.0)))
    await before.store(ACME, chat(QUESTION), answer())
    after = before.ruled_by(replace(policy(), ttl=lasting(10.0)), similarity_min=0.5)
    await after.store(ACME, chat("another"), answer())
    clock.advance(11.0)
    assert await kind(after) is CacheKind.EXACT_HIT
    assert await kind(after, "another") is CacheKind.MISS


async def test_what_is_admitted_changes_between_calls() -> None:
    clock = FakeClock()
    before = cache_over(HeldStore(clock), clock)
    after = before.ruled_by(replace(policy(), allowed=Allowances(personal=True)), similarity_min=0.5)
    assert (await before.store(ACME, chat(PERSONAL), answer())).result is StoreResult.NOT_ADMITTED
    assert (await after.store(ACME, chat(PERSONAL), answer())).result is StoreResult.STORED
    assert await kind(before, PERSONAL) is CacheKind.NEVER_CACHED
    small = after.ruled_by(replace(policy(), entry_bytes_max=1), similarity_min=0.5)
    assert (await small.store(ACME, chat(QUESTION), answer())).reason == "too_large"


async def test_a_call_under_way_keeps_its_rules() -> None:
    clock = FakeClock()
    store = HeldStore(clock)
    cache = cache_over(store, clock)
    store.go_on.clear()
    under_way = asyncio.create_task(cache.store(ACME, chat(QUESTION), answer()))
    await store.asked.wait()
    cache.ruled_by(replace(policy(), entry_bytes_max=1), similarity_min=0.5)
    store.go_on.set()
    assert (await under_way).result is StoreResult.STORED
