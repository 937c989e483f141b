"""Second opinions one after the other: the next is asked only while the verdict is open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spillway.routing import AgreementSpec
from tests.unit.executor.builders import DOWN, Bench
from tests.unit.executor.gated import HANG, made, plan, run

TURNS = AgreementSpec("a2", further_targets=("b1",), agreeing_min=1, in_turn=True)


async def test_in_turn_nobody_else_is_asked_when_the_second_agrees() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"], "b1": ["#### 42"]})
    execution = await run(bench, plan(TURNS))
    assert (bench.asked, execution.tier, execution.accepted) == (["a1", "a2"], "simple", True)


async def test_in_turn_the_next_is_asked_while_the_verdict_is_open() -> None:
    for second in ("#### 41", DOWN):
        bench = Bench({"a1": ["#### 42"], "a2": [second], "b1": ["#### 42"]})
        execution = await run(bench, plan(TURNS))
        assert (bench.asked, execution.tier, execution.accepted) == (["a1", "a2", "b1"], "simple", True)
        assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)


async def test_in_turn_nobody_is_asked_once_all_cannot_agree_any_more() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": ["#### 42"], "c1": ["#### 42"]})
    execution = await run(bench, plan(AgreementSpec("a2", further_targets=("b1",), in_turn=True)))
    assert (bench.asked, execution.tier) == (["a1", "a2", "c1"], "complex")


async def test_in_turn_the_second_is_asked_at_the_same_time_as_the_answer() -> None:
    bench = Bench({"a1": [HANG], "a2": [HANG], "b1": [HANG]})
    task = asyncio.create_task(run(bench, plan(TURNS)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.asked == ["a1", "a2"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(state.breaker.in_flight == 0 for state in bench.pool.states(0.0))


async def test_in_turn_the_next_stands_in_when_target_and_second_fail() -> None:
    bench = Bench({"a1": [DOWN], "a2": [DOWN], "b1": ["#### 42"], "c1": ["#### 42"]})
    execution = await run(bench, plan(TURNS))
    assert bench.asked == ["a1", "a2", "b1", "c1"]
    assert made(execution)[2] == ("b1", "second_opinion", "rejected")


async def test_in_turn_opinions_share_the_time_of_their_call() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": ["#### 42"], "c1": ["#### 42"]})
    complete = bench.provider.complete

    async def slow(call: Any) -> Any:
        result = await complete(call)
        if call.model == "a2":
            bench.clock.advance(spent_s)
        return result

    bench.provider.complete = slow  # type: ignore[method-assign]
    spent_s = 5.0
    await run(bench, plan(TURNS, timeout_s=7.0))
    assert [call.timeout_s for call in bench.provider.calls if call.model == "b1"] == [pytest.approx(2.0)]
    bench.provider.calls.clear()
    spent_s = 7.0
    await run(bench, plan(TURNS, timeout_s=7.0))
    assert bench.asked == ["a1", "a2", "c1"]
