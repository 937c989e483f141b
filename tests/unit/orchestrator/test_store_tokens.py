"""An answer whose model was asked before an invalidation is neither kept nor shared with who came after it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.cache.store.moment import parse_moment
from services.orchestrator.disclosure import SHARED
from services.orchestrator.hops import OLD_MOMENT, CacheReply, StoreResult
from spillway.routing import CacheKind, CacheMode, CacheOutcome
from tests.unit.orchestrator.crowd import Crowd, settle
from tests.unit.orchestrator.fakes import Bench, cached
from tests.unit.orchestrator.ladder import request_of, settings_of

INVALIDATED = StoreResult("not_admitted", "invalidated")


def saying(token: str, kind: CacheKind = CacheKind.MISS) -> CacheReply:
    return CacheReply(CacheOutcome(kind), store_token=token)


async def stored_with(bench: Bench, mode: CacheMode = CacheMode.USE) -> list[str]:
    run = bench.pipeline.begin(request_of(cache_mode=mode), remaining_s=30)
    await bench.pipeline.complete(run)
    bench.pipeline.finish(run)
    await bench.background.close(5)
    return bench.cache.tokens


async def test_a_store_brings_back_what_the_first_lookup_was_told() -> None:
    bench = Bench()
    bench.cache.exact, bench.cache.semantic = saying("first"), saying("second")
    assert await stored_with(bench) == ["first"]


async def test_a_lookup_by_meaning_that_fails_takes_nothing_from_what_the_first_one_told() -> None:
    bench = Bench()
    bench.cache.exact, bench.cache.semantic = saying("first"), saying("", CacheKind.UNAVAILABLE)
    assert await stored_with(bench) == ["first"]


async def test_a_refresh_asks_for_the_moment_and_counts_nowhere() -> None:
    bench = Bench()
    bench.cache.exact = replace(cached(CacheKind.EXACT_HIT), store_token="now")
    assert await stored_with(bench, CacheMode.REFRESH) == ["now"]
    assert (len(bench.cache.looked_up), bench.cache.peeks) == (1, 1)
    assert len(bench.executor.plans) == 1


@pytest.mark.parametrize("mode", [CacheMode.USE, CacheMode.REFRESH])
@pytest.mark.parametrize("kind", [CacheKind.UNAVAILABLE, CacheKind.MISS])
async def test_what_was_asked_at_a_moment_that_nobody_knows_is_not_stored(mode: CacheMode, kind: CacheKind) -> None:
    bench = Bench()
    bench.cache.exact = saying("", kind)
    assert await stored_with(bench, mode) == []


async def test_an_audit_at_a_moment_that_nobody_knows_is_evidence_of_an_answer_as_old_as_can_be() -> None:
    bench = Bench(settings_of(cache={"audits": {"per_minute_max": 60}}))
    bench.cache.exact = saying("")
    bench.cache.semantic = replace(cached(CacheKind.SEMANTIC_HIT), audit=True, store_token="")
    assert await stored_with(bench) == [OLD_MOMENT]
    assert parse_moment(OLD_MOMENT) is None


async def test_the_answer_of_an_audit_is_of_the_lookup_whose_hit_it_audits() -> None:
    bench = Bench(settings_of(cache={"audits": {"per_minute_max": 60}}))
    bench.cache.exact = saying("before")
    bench.cache.semantic = replace(cached(CacheKind.SEMANTIC_HIT), audit=True, store_token="")
    assert await stored_with(bench) == ["before"]
    assert len(bench.cache.evidence) == 1


async def test_whoever_waited_for_an_answer_that_was_invalidated_asks_anew_one_at_a_time() -> None:
    crowd = Crowd()
    cache = crowd.bench.cache
    cache.exact, cache.says_of_stores = saying("old"), INVALIDATED
    await crowd.come(5)
    cache.exact = saying("new")
    await crowd.let_go(0)
    assert len(crowd.executor.calls) == 2
    cache.says_of_stores = StoreResult("stored")
    await crowd.let_go(1)
    done = await crowd.all()
    assert len(crowd.executor.calls) == 2
    assert cache.tokens == ["old", "new"]
    assert [each.cache.reason for each in done[2:]] == [SHARED] * 3


async def test_who_takes_over_looks_whether_the_answer_is_there_by_now() -> None:
    crowd = Crowd()
    cache = crowd.bench.cache
    cache.says_of_stores = INVALIDATED
    await crowd.come(2)
    cache.exact = cached(CacheKind.EXACT_HIT)
    await crowd.let_go(0)
    _, second = await crowd.all()
    assert second.cache.kind is CacheKind.EXACT_HIT
    assert len(crowd.executor.calls) == 1


@pytest.mark.parametrize("is_late", [False, True])
async def test_who_comes_while_an_answer_is_being_stored_has_it_from_the_cache_or_not_at_all(is_late: bool) -> None:
    crowd = Crowd()
    cache = crowd.bench.cache
    cache.remembers, cache.gate = False, asyncio.Event()  # stored, and invalidated before it is looked for
    await crowd.come(1 if is_late else 2)
    await crowd.let_go(0)
    await crowd.come(1 if is_late else 0)
    cache.gate.set()
    await settle()
    assert len(crowd.executor.calls) == (2 if is_late else 1)
    if is_late:
        await crowd.let_go(1)
    _, second = await crowd.all()
    assert second.cache.kind is (CacheKind.MISS if is_late else CacheKind.EXACT_HIT)
