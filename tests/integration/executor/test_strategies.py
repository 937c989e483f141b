"""Strategies, deadlines and streams through gates, against a real provider process: everything over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.runtime.errors import SpillwayError
from spillway.routing import (
    AttemptOutcome,
    AttemptPurpose,
    Execution,
    GateSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    Strategy,
    StreamPrefix,
)
from tests.support.executor_bench import Bench, executor_over, outcomes, say
from tests.support.waiting import until

PREFIX = StreamPrefix(tokens=4, wait_s=5.0)
TEXT = "one two three four five six seven eight"
HANG: dict[str, Any] = {"hang": True}


def plan(
    *gates: GateSpec,
    strategy: Strategy = Strategy.CHEAP_FIRST,
    stream_prefix: StreamPrefix | None = None,
    timeout_s: float = 20.0,
) -> Plan:
    return Plan(
        (
            PlannedTier("simple", ("a1", "a2"), gates, timeout_s, stream_prefix=stream_prefix),
            PlannedTier("complex", ("c1", "c2"), (), timeout_s, stream_prefix=stream_prefix),
        ),
        strategy,
    )


async def cancelled(bench: Bench, *models: str) -> None:
    """Waits until the provider has seen the end of these models' calls."""

    async def gone() -> bool:
        return {call["model"] for call in await bench.calls() if call["cancelled"]} >= set(models)

    await until(gone)


async def test_a_race_is_won_by_the_first_and_its_losers_are_cut_off_and_paid_for(bench: Bench) -> None:
    await bench.script(a1=[HANG], c1=[say("42")])
    execution = await bench.run(plan(strategy=Strategy.RACE))
    assert outcomes(execution) == [("a1", "cancelled"), ("c1", "accepted")]
    assert execution.attempts[0].cost_nanousd > 0
    assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)
    await cancelled(bench, "a1")
    assert await bench.in_flight() == 0


async def test_a_race_goes_to_the_first_accepted_answer(bench: Bench) -> None:
    await bench.script(a1=[say("41", confidence=1)], c1=[say("42", latency_s=0.2)])
    execution = await bench.run(plan(SelfConfidenceSpec(), strategy=Strategy.RACE))
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]
    assert execution.escalations == 0


async def test_a_slow_call_is_hedged_and_its_loser_cut_off(provider_url: str, tmp_path: Path) -> None:
    hedging = {"delay_s_default": 0.05, "share_max": 1.0}
    async with executor_over(provider_url, tmp_path, hedging=hedging) as bench:
        await bench.script(a1=[HANG], a2=[say("42")])
        execution = await bench.run(plan(strategy=Strategy.HEDGED))
        assert outcomes(execution) == [("a1", "cancelled"), ("a2", "accepted")]
        assert execution.attempts[1].purpose is AttemptPurpose.HEDGE
        assert execution.attempts[1].started_after_s >= 0.05
        await cancelled(bench, "a1")


async def test_hedges_stay_within_their_share(provider_url: str, tmp_path: Path) -> None:
    hedging = {"delay_s_default": 0.001, "share_max": 0.25}
    async with executor_over(provider_url, tmp_path, hedging=hedging) as bench:
        await bench.script(**{"*": [say("42", latency_s=0.02)]})
        made = [await bench.run(plan(strategy=Strategy.HEDGED)) for _ in range(12)]
        hedged = [any(attempt.purpose is AttemptPurpose.HEDGE for attempt in each.attempts) for each in made]
        assert 1 <= sum(hedged) <= 3


async def test_a_waterfall_is_carried_out(bench: Bench) -> None:
    await bench.script(a1=[say("no")], c1=[say("yes")])
    given = Plan(plan(RulesSpec(must_match=("yes",))).tiers, Strategy.WATERFALL, escalations_max=0)
    assert outcomes(await bench.run(given)) == [("a1", "rejected"), ("c1", "accepted")]


async def test_a_good_prefix_flows_before_the_answer_is_whole(bench: Bench) -> None:
    # The rest takes twenty seconds: what flows does not wait for it.
    await bench.script(a1=[say("x" * 4_000, chunk_chars=20, chunk_delay_s=0.1)])
    call = bench.streaming(plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    first = await call.read()
    assert first.delta.text.startswith("xxxxxxxx")
    assert not any(made["cancelled"] for made in await bench.calls())
    assert await bench.in_flight() == 1, "it is still being written"
    call.cancel()
    await cancelled(bench, "a1")


async def test_a_stream_through_gates_is_whole_stripped_and_priced(bench: Bench) -> None:
    await bench.script(a1=[say(TEXT, confidence=5, chunk_chars=3, chunk_delay_s=0.02)])
    pieces, end = await bench.stream(plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert isinstance(end, Execution)
    assert len(pieces) > 1
    assert "".join(pieces) == end.message.text == TEXT
    assert (end.tier, end.accepted) == ("simple", True)
    assert end.cost_nanousd == 100 * 1_000 + 10 * 4_000


async def test_a_bad_prefix_escalates_unseen_and_its_call_is_cut_off(bench: Bench) -> None:
    refusal = "I'm sorry, but I can't help with that request. " + "x" * 4_000
    await bench.script(a1=[say(refusal, chunk_chars=60, chunk_delay_s=0.05)], c1=[say(TEXT, chunk_chars=4)])
    pieces, end = await bench.stream(plan(RulesSpec(), stream_prefix=StreamPrefix(8, 5.0)))
    assert isinstance(end, Execution)
    assert "".join(pieces) == end.message.text == TEXT
    assert outcomes(end) == [("a1", "rejected"), ("c1", "accepted")]
    assert end.attempts[0].cost_nanousd > 0
    await cancelled(bench, "a1")


@pytest.mark.parametrize("fault", [{"stream_cut_after_chunks": 2}, {"stream_error_after_chunks": 2}])
async def test_a_break_before_the_commit_is_not_seen(bench: Bench, fault: dict[str, int]) -> None:
    await bench.script(a1=[say(TEXT, chunk_chars=4, **fault)], a2=[say(TEXT, confidence=5)])
    pieces, end = await bench.stream(plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert isinstance(end, Execution)
    assert "".join(pieces) == TEXT
    assert outcomes(end) == [("a1", "error"), ("a2", "accepted")]


@pytest.mark.parametrize("fault", [{"stream_cut_after_chunks": 6}, {"stream_error_after_chunks": 6}])
async def test_a_break_after_the_commit_is_the_end(bench: Bench, fault: dict[str, int]) -> None:
    await bench.script(a1=[say(TEXT, chunk_chars=4, **fault)], a2=[say(TEXT, confidence=5)])
    pieces, end = await bench.stream(plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert isinstance(end, SpillwayError)
    assert (end.code, end.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")
    assert TEXT.startswith("".join(pieces).rstrip())
    assert [call["model"] for call in await bench.calls()] == ["a1"]
    assert await bench.in_flight() == 0


async def test_a_drip_into_a_prefix_is_given_up_for_the_next_target(bench: Bench) -> None:
    drip = say(TEXT, drip_bytes_per_s=1)
    await bench.script(a1=[drip], a2=[drip], c1=[say(TEXT)])
    pieces, end = await bench.stream(plan(SelfConfidenceSpec(), stream_prefix=PREFIX, timeout_s=0.3))
    assert isinstance(end, Execution)
    assert "".join(pieces) == TEXT
    assert [attempt.outcome for attempt in end.attempts[:2]] == [AttemptOutcome.TIMEOUT] * 2
    await cancelled(bench, "a1", "a2")


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_drip_cannot_outlive_the_deadline(bench: Bench, strategy: Strategy) -> None:
    await bench.script(**{"*": [say("x" * 4_000, drip_bytes_per_s=1)]})
    began_s = time.monotonic()
    with pytest.raises(SpillwayError) as caught:
        await bench.run(plan(strategy=strategy), timeout_s=1.0)
    assert caught.value.code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert time.monotonic() - began_s < 20, "the drip alone would take more than an hour"

    async def over() -> bool:
        calls = await bench.calls()
        return all(call["cancelled"] for call in calls) and await bench.in_flight() == 0

    await until(over)


async def test_the_strong_tier_still_answers_after_a_weak_one_that_drips(bench: Bench) -> None:
    drip = say("x" * 4_000, drip_bytes_per_s=1)
    await bench.script(a1=[drip], a2=[drip], c1=[say("42")])
    execution = await bench.run(plan(), timeout_s=2.0)
    assert outcomes(execution) == [("a1", "timeout"), ("a2", "timeout"), ("c1", "accepted")]


@pytest.mark.parametrize("strategy", [Strategy.CHEAP_FIRST, Strategy.RACE])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_caller_who_leaves_closes_every_providers_socket(
    bench: Bench, strategy: Strategy, is_stream: bool
) -> None:
    await bench.script(**{"*": [HANG]})
    given = plan(strategy=strategy, stream_prefix=PREFIX)
    call = bench.streaming(given) if is_stream else bench.stub.Execute(bench.request(given), timeout=30)
    models = ("a1", "c1") if strategy is Strategy.RACE else ("a1",)

    async def arrived() -> bool:
        return len(await bench.calls()) == len(models)

    reading = asyncio.ensure_future(call.read()) if is_stream else call
    await until(arrived)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await cancelled(bench, *models)

    async def idle() -> bool:
        return await bench.in_flight() == 0

    await until(idle)
