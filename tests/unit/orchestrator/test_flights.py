"""Requests that are the same and under way at once: one asks the models, its answer is for all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.orchestrator.disclosure import SHARED
from services.orchestrator.flights import Flights
from services.orchestrator.hops import CacheReply, Unanswered
from services.runtime.clock import FakeClock
from spillway.routing import AnswerDelta, CacheKind, CacheMode, CacheOutcome, Completion
from tests.unit.orchestrator.crowd import REMAINING_S, Crowd, kinds, settle
from tests.unit.orchestrator.fakes import Bench, collect
from tests.unit.orchestrator.ladder import request_of, settings_of


async def test_a_hundred_misses_of_one_request_make_one_call() -> None:
    crowd = Crowd()
    await crowd.come(100)
    assert len(crowd.executor.calls) == 1
    await crowd.let_go()
    first, *others = await crowd.all()
    assert len(crowd.executor.calls) == 1
    assert (first.cache.kind, first.cost.cost_nanousd) == (CacheKind.MISS, 4_350)
    assert len(crowd.bench.cache.stored) == 1
    for each in others:
        assert (each.cache.kind, each.cache.reason) == (CacheKind.EXACT_HIT, SHARED)
        assert (each.text, each.tier, each.accepted) == (first.text, first.tier, True)
        assert (each.cost.cost_nanousd, each.cost.flagship_cost_nanousd) == (0, first.cost.flagship_cost_nanousd)
        assert each.attempts == ()
        assert each.hops[-1].hop == "shared"
    assert [run.span_attributes().get("spillway.shared") for run in crowd.runs] == [None] + [True] * 99


async def test_whoever_missed_before_the_answer_was_stored_and_comes_late_shares_it() -> None:
    crowd = Crowd()
    await crowd.come()
    late = crowd.bench.pipeline.begin(request_of(), remaining_s=REMAINING_S)
    gate = asyncio.Event()
    classify = crowd.bench.classifier.classify

    async def slow(*args: Any, **more: Any) -> Any:
        await gate.wait()
        return await classify(*args, **more)

    crowd.bench.classifier.classify = slow  # type: ignore[method-assign]
    task = asyncio.create_task(crowd.bench.pipeline.complete(late))
    await settle()
    await crowd.let_go()
    assert crowd.waiting == 0
    gate.set()
    assert (await task).cache.reason == SHARED
    assert len(crowd.executor.calls) == 1
    assert crowd.bench.flights == 0


async def test_streams_share_with_each_other_and_with_single_answers() -> None:
    crowd = Crowd()
    await crowd.come(streams=False)
    await crowd.come(2, streams=True)
    await crowd.let_go()
    _, *others = await crowd.all()
    assert [each.cache.reason for each in others] == [SHARED] * 2

    streamed = Bench()
    streamed.cache.gate = asyncio.Event()
    leader, follower = (streamed.pipeline.begin(request_of(), remaining_s=REMAINING_S) for _ in range(2))
    leading = streamed.pipeline.stream(leader)
    assert await anext(leading) == AnswerDelta("Par")
    following = asyncio.create_task(collect(streamed, follower))
    await settle()
    assert [event async for event in leading][-1] == leader.completion
    streamed.pipeline.finish(leader)
    await settle()
    assert not following.done()
    streamed.cache.gate.set()
    delta, completion = await following
    assert delta == AnswerDelta("Paris.")
    assert isinstance(completion, Completion)
    assert completion.cache.reason == SHARED
    assert len(streamed.executor.plans) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "another"},
        {"namespace": "another"},
        {"template_version": "2"},
        {"knowledge_version": "2"},
        {"text": "What is the capital of Spain?"},
        {"tier_floor": "medium"},
        {"user_tier": "vip"},
        {"endpoint": "chat"},
        {"cache_mode": CacheMode.REFRESH},
        {"cache_mode": CacheMode.BYPASS},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_requests_that_differ_never_share(other: dict[str, Any]) -> None:
    crowd = Crowd()
    await crowd.come()
    await crowd.come(1, request_of(**other))
    assert len(crowd.executor.calls) == 2
    await crowd.let_go(0)
    await crowd.let_go(1)
    assert kinds(await crowd.all()) == sorted({CacheKind.MISS, crowd.runs[1].cache.kind})


@pytest.mark.parametrize("mode", [CacheMode.REFRESH, CacheMode.BYPASS])
async def test_who_asks_for_a_fresh_answer_neither_shares_nor_leads(mode: CacheMode) -> None:
    crowd = Crowd()
    await crowd.come(3, request_of(cache_mode=mode))
    assert len(crowd.executor.calls) == 3
    assert crowd.bench.flights == 0
    for index in range(3):
        await crowd.let_go(index)
    await crowd.all()


async def test_without_a_cache_nothing_is_shared() -> None:
    crowd = Crowd(settings_of(cache={"enabled": False}))
    await crowd.come(3)
    assert len(crowd.executor.calls) == 3
    for index in range(3):
        await crowd.let_go(index)
    await crowd.all()


async def test_nobody_waits_while_the_cache_is_away() -> None:
    crowd = Crowd()
    crowd.bench.cache.exact = CacheReply(CacheOutcome(CacheKind.UNAVAILABLE, reason="unavailable"))
    crowd.bench.cache.remembers = False
    await crowd.come(3)
    assert len(crowd.executor.calls) == 3
    for index in range(3):
        await crowd.let_go(index)
    assert kinds(await crowd.all()) == [CacheKind.UNAVAILABLE]


async def test_one_whose_lookup_was_too_slow_waits_for_whoever_leads_all_the_same() -> None:
    crowd = Crowd()
    await crowd.come()
    crowd.bench.cache.exact = CacheReply(CacheOutcome(CacheKind.UNAVAILABLE, reason="too slow"))
    await crowd.come(2)
    assert len(crowd.executor.calls) == 1
    await crowd.let_go()
    _, *others = await crowd.all()
    assert [each.cache.reason for each in others] == [SHARED] * 2


async def test_an_answer_that_the_route_does_not_allow_is_not_shared() -> None:
    rule = {"name": "r", "when": {"task_type": ["factual_qa"]}, "then": {"tier_floor": "complex"}}
    crowd = Crowd(settings_of(policy={"rules": [rule]}))
    judging, crowd.bench.classifier.says = crowd.bench.classifier.says, Unanswered("unavailable")
    await crowd.come()
    crowd.bench.classifier.says = judging
    await crowd.come()
    await crowd.let_go(0)
    assert len(crowd.executor.calls) == 2
    await crowd.let_go(1)
    rough, judged_well = await crowd.all()
    assert rough.tier == "medium"
    assert judged_well.cache.kind is CacheKind.MISS
    assert judged_well.routing.rule == "r"


async def test_what_is_never_cached_is_shared_with_nobody_and_nobody_waits_for_it() -> None:
    crowd = Crowd()
    crowd.bench.cache.exact = CacheReply(CacheOutcome(CacheKind.NEVER_CACHED, reason="the question is personal"))
    await crowd.come(5)
    assert len(crowd.executor.calls) == 5
    for index in range(5):
        await crowd.let_go(index)
    assert kinds(await crowd.all()) == [CacheKind.NEVER_CACHED]
    await settle()
    # Neither embedded, nor looked up by meaning, nor offered to the cache.
    assert [wanted for wanted, _ in crowd.bench.classifier.asked] == [False] * 5
    assert [skip_exact for _, skip_exact, _ in crowd.bench.cache.looked_up] == [False] * 5
    assert crowd.bench.cache.stored == []


async def test_explaining_waits_for_nobody() -> None:
    crowd = Crowd()
    await crowd.come()
    run = crowd.bench.pipeline.begin(request_of(), remaining_s=REMAINING_S)
    assert (await crowd.bench.pipeline.explain(run)).cache.kind is CacheKind.MISS
    await crowd.let_go()
    await crowd.all()


def test_beyond_the_bound_requests_go_by_themselves() -> None:
    flights = Flights(flights_max=1)
    first = flights.board("a")
    assert first is not None
    assert flights.board("b") is None
    again = flights.board("a")
    assert again is not None
    first.leave()
    again.leave()
    again.leave()
    assert len(flights) == 0
    assert flights.board("b") is not None


async def test_who_comes_after_an_answer_has_landed_begins_anew() -> None:
    flights, clock = Flights(), FakeClock()
    first = flights.board("a")
    assert first is not None
    assert not first.must_wait()
    second = flights.board("a")
    assert second is not None
    assert second.must_wait()
    waiting = asyncio.create_task(second.wait(clock, 1.0))
    await asyncio.sleep(0)
    answer = await answer_of(Bench())
    first.land(answer)
    await waiting
    assert second.answer is answer
    third = flights.board("a")
    assert third is not None
    assert third.answer is None
    assert not third.must_wait()


async def answer_of(bench: Bench) -> Any:
    run = bench.pipeline.begin(request_of(), remaining_s=REMAINING_S)
    await bench.pipeline.complete(run)
    bench.pipeline.finish(run)
    await bench.background.close(5)
    return bench.cache.stored[0][1]
