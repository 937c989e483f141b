"""When the one request that asks the models for its equals fails, leaves or gives no proof, another asks them."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.disclosure import SHARED
from services.orchestrator.hops import StoreResult
from services.runtime.errors import Unavailable
from spillway.chat import FinishReason
from spillway.routing import CacheKind, Completion
from tests.unit.orchestrator.crowd import REMAINING_S, Crowd, kinds, settle
from tests.unit.orchestrator.fakes import Bench, executed
from tests.unit.orchestrator.ladder import request_of, settings_of


async def test_when_the_one_that_leads_is_cancelled_the_next_takes_over_without_an_error() -> None:
    crowd = Crowd()
    await crowd.come(3)
    crowd.tasks.pop(0).cancel()
    await settle()
    assert len(crowd.executor.calls) == 2
    await crowd.let_go(1)
    second, third = await crowd.all()
    assert (second.cache.kind, third.cache.reason) == (CacheKind.MISS, SHARED)


async def test_a_reader_who_leaves_a_stream_hands_on_the_lead() -> None:
    bench = Bench()
    leader, follower = (bench.pipeline.begin(request_of(), remaining_s=REMAINING_S) for _ in range(2))
    leading = bench.pipeline.stream(leader)
    await anext(leading)
    following = asyncio.create_task(bench.pipeline.complete(follower))
    await settle()
    assert not following.done()
    await leading.aclose()
    assert (await following).cache.kind is CacheKind.MISS


async def test_one_who_is_cancelled_while_waiting_or_just_as_its_turn_comes_holds_nobody_up() -> None:
    crowd = Crowd()
    await crowd.come(4)
    waiting, next_one = crowd.tasks[2], crowd.tasks[1]
    waiting.cancel()
    await settle()
    crowd.tasks[0].cancel()
    await asyncio.sleep(0)  # the lead is handed on in this turn of the loop, and the next one leaves in the same
    next_one.cancel()
    await settle()
    assert crowd.waiting == 1
    await crowd.let_go()
    assert (await crowd.tasks[3]).cache.kind is CacheKind.MISS
    assert crowd.bench.flights == 0


async def test_when_the_one_that_leads_fails_the_others_go_one_after_another() -> None:
    crowd = Crowd()
    crowd.executor.next_gives = [Unavailable("NO_MODEL_AVAILABLE", "no model could answer")] * 3
    await crowd.come(10)
    for failures in range(1, 4):
        assert len(crowd.executor.calls) == failures
        await crowd.let_go()
    assert len(crowd.executor.calls) == 4
    await crowd.let_go()
    results = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in results) == 3
    assert [each.cache.kind for each in results if isinstance(each, Completion)] == [
        CacheKind.MISS,
        *[CacheKind.EXACT_HIT] * 6,
    ]


async def test_an_unproven_answer_is_not_shared_and_after_two_of_them_nobody_waits() -> None:
    crowd = Crowd()
    crowd.executor.gives = executed(accepted=False)
    await crowd.come(6)
    await crowd.let_go()
    assert len(crowd.executor.calls) == 2
    await crowd.let_go()
    assert len(crowd.executor.calls) == 6
    for index in range(2, 6):
        await crowd.let_go(index)
    assert kinds(await crowd.all()) == [CacheKind.MISS]
    assert crowd.bench.flights == 0


@pytest.mark.parametrize("why", ["not_admitted", "unavailable", "truncated"])
async def test_what_may_not_be_shared_is_waited_for_once(why: str) -> None:
    crowd = Crowd()
    if why == "truncated":
        crowd.executor.gives = executed(finish_reason=FinishReason.LENGTH)
    else:
        crowd.bench.cache.says_of_stores = StoreResult(why, "personal")
    await crowd.come(5)
    await crowd.let_go()
    assert len(crowd.executor.calls) == 5
    for index in range(1, 5):
        await crowd.let_go(index)
    assert kinds(await crowd.all()) == [CacheKind.MISS]


async def test_a_store_that_hangs_holds_nobody_up_for_longer_than_a_lookup() -> None:
    crowd = Crowd(settings_of(orchestrator={"cache_timeout_s": 0.001}))
    crowd.bench.cache.gate = asyncio.Event()
    await crowd.come(3)
    await crowd.let_go()
    async with asyncio.timeout(10):
        for _ in range(3):
            await crowd.executor.arrived.acquire()
    crowd.bench.cache.gate.set()
    for index in (1, 2):
        await crowd.let_go(index)
    assert kinds(await crowd.all()) == [CacheKind.MISS]


async def test_nobody_waits_for_more_than_half_of_its_time() -> None:
    crowd = Crowd()
    await crowd.come(3)
    crowd.bench.clock.advance(REMAINING_S / 2)
    await settle()
    assert len(crowd.executor.calls) == 3
    await crowd.let_go(1)
    assert crowd.waiting == 2
    await crowd.let_go(0)
    await crowd.let_go(2)
    assert kinds(await crowd.all()) == [CacheKind.MISS]
