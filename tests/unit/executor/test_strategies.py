"""Races, hedges and streams through gates, against models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc
import pytest

from services.executor.calls import PIECES_MAX
from services.executor.execution import ExecutionEvent
from services.executor.gates.schema import InvalidSchemaError
from services.executor.latency import CALLS_MIN
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.providers.provider import FakeStep
from services.runtime.errors import SpillwayError
from spillway.chat import FormatKind, Message, ResponseFormat, Role, ToolCall
from spillway.routing import (
    AgreementSpec,
    AnswerDelta,
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
from tests.support.executor_bench import outcomes
from tests.support.waiting import until
from tests.unit.executor.builders import DOWN, REFUSED, Bench, answer, chat

HANG = FakeStep(DOWN, hang=True)
PREFIX = StreamPrefix(tokens=4, wait_s=2.0)
GOOD = "This is a good and long enough answer."
SURE = f"{GOOD}\nCONFIDENCE: 5"
UNSURE = f"{GOOD}\nCONFIDENCE: 1"
REFUSAL = "I'm sorry, but I can't help with that, whatever you say."


def plan(
    *gates: GateSpec, strategy: Strategy = Strategy.CHEAP_FIRST, stream_prefix: StreamPrefix | None = None
) -> Plan:
    """All tiers but the last are gated."""
    return Plan(
        (
            PlannedTier("simple", ("a1", "a2"), gates, stream_prefix=stream_prefix),
            PlannedTier("medium", ("b1",), gates, stream_prefix=stream_prefix),
            PlannedTier("complex", ("c1", "c2"), stream_prefix=stream_prefix),
        ),
        strategy,
    )


def race(*gates: GateSpec, stream_prefix: StreamPrefix | None = None) -> Plan:
    return plan(*gates, strategy=Strategy.RACE, stream_prefix=stream_prefix)


async def run(bench: Bench, given: Plan) -> Execution:
    return await bench.executor.execute(chat(), given, None, 60.0)


def begin(bench: Bench, given: Plan) -> AsyncGenerator[ExecutionEvent, None]:
    return bench.executor.stream(chat(), given, None, 60.0)


async def drain(events: AsyncGenerator[ExecutionEvent, None], received: list[ExecutionEvent]) -> None:
    async for event in events:
        received.append(event)  # noqa: PERF401 - what came before an error is to be kept


async def stream(bench: Bench, given: Plan) -> tuple[list[str], Execution]:
    events = [event async for event in begin(bench, given)]
    end = events.pop()
    assert isinstance(end, Execution)
    return [event.text for event in events if isinstance(event, AnswerDelta)], end


def assert_nothing_is_left(bench: Bench) -> None:
    assert bench.provider.in_flight == 0
    assert all(state.breaker.in_flight == 0 for state in bench.pool.states(0.0))


async def test_a_race_asks_all_tiers_and_cancels_and_pays_the_losers() -> None:
    bench = Bench({"a1": [HANG], "b1": ["42"], "c1": [HANG]})
    execution = await run(bench, race())
    assert outcomes(execution) == [("a1", "cancelled"), ("b1", "accepted"), ("c1", "cancelled")]
    assert execution.tier == "medium"
    assert bench.provider.cancelled == 2
    assert all(attempt.cost_nanousd > 0 for attempt in execution.attempts)
    assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)
    assert (execution.escalations, execution.fallbacks) == (0, 0)
    assert_nothing_is_left(bench)


async def test_a_rejected_answer_does_not_win_a_race() -> None:
    bench = Bench({"a1": [UNSURE], "b1": [SURE], "c1": [HANG]})
    execution = await run(bench, race(SelfConfidenceSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("b1", "accepted"), ("c1", "cancelled")]
    assert execution.message.text == GOOD


async def test_a_race_that_nobody_wins_returns_the_highest_answer() -> None:
    never = RulesSpec(must_match=("yes",))
    tiers = (PlannedTier("simple", ("a1",), (never,)), PlannedTier("complex", ("c1",), (never,)))
    execution = await run(Bench({"a1": ["no"], "c1": ["neither"]}), Plan(tiers, Strategy.RACE))
    assert (execution.message.text, execution.accepted) == ("neither", False)
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]


async def test_a_race_within_a_ceiling_leaves_out_the_dearest() -> None:
    bench = Bench({"a1": ["42"]})
    tiers = race().tiers
    cheap = Plan(tiers, Strategy.RACE, cost_nanousd_max=20_000_000)
    execution = await run(bench, cheap)
    assert outcomes(execution)[:2] == [("c1", "skipped"), ("c2", "skipped")]
    assert {attempt.error_reason for attempt in execution.attempts[:2]} == {"COST_CEILING"}
    assert "c1" not in bench.asked


async def test_a_racer_with_a_second_opinion_waits_for_it() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": ["#### 7"], "c1": ["#### 43"]})
    execution = await run(bench, race(AgreementSpec()))
    assert execution.tier != "simple"
    assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)


async def test_a_caller_who_leaves_a_race_ends_every_call() -> None:
    bench = Bench({"a1": [HANG], "b1": [HANG], "c1": [HANG]})
    task = asyncio.create_task(run(bench, race()))
    await until(lambda: bench.provider.in_flight >= 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.provider.cancelled == 3
    assert_nothing_is_left(bench)


async def test_a_race_refused_by_all_is_refused() -> None:
    with pytest.raises(SpillwayError) as caught:
        await run(Bench({name: [REFUSED] for name in ("a1", "b1", "c1")}), race())
    assert caught.value.reason == "PROVIDER_REJECTED"


HEDGING = {"delay_s_default": 3.0, "share_max": 1.0}


async def test_a_slow_call_is_hedged_after_its_delay() -> None:
    bench = Bench({"a1": [HANG], "a2": ["42"]}, hedging=HEDGING)
    task = asyncio.create_task(run(bench, plan(strategy=Strategy.HEDGED)))
    await until(lambda: bench.provider.in_flight >= 1)
    await until(lambda: bench.clock.sleepers)
    bench.clock.advance(2.9)
    await asyncio.sleep(0)
    assert bench.asked == ["a1"]
    bench.clock.advance(0.2)
    execution = await task
    assert outcomes(execution) == [("a1", "cancelled"), ("a2", "accepted")]
    assert [attempt.purpose for attempt in execution.attempts] == [AttemptPurpose.ANSWER, AttemptPurpose.HEDGE]
    assert execution.attempts[0].cost_nanousd > 0
    assert_nothing_is_left(bench)


async def test_the_delay_is_learned() -> None:
    bench = Bench({"a1": [HANG], "a2": ["42"]}, hedging=HEDGING)
    for _ in range(CALLS_MIN):
        bench.pool.latencies["a1"].record(0.5)
    task = asyncio.create_task(run(bench, plan(strategy=Strategy.HEDGED)))
    await until(lambda: bench.clock.sleepers)
    bench.clock.advance(0.6)
    assert (await task).target == "a2"


async def test_hedges_are_a_bounded_share_of_the_requests() -> None:
    bench = Bench({"a1": [HANG], "a2": ["42"]}, hedging={**HEDGING, "share_max": 0.1})
    task = asyncio.create_task(run(bench, plan(strategy=Strategy.HEDGED)))
    await until(lambda: bench.clock.sleepers)
    bench.clock.advance(5.0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.asked == ["a1"], "one request in ten may be hedged, and this is the first"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_is_left(bench)


async def test_a_good_prefix_flows_while_the_rest_is_written() -> None:
    bench = Bench({"a1": [FakeStep(answer(SURE), chunk_chars=5)]})
    pieces, execution = await stream(bench, plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert "".join(pieces) == execution.message.text == GOOD
    assert len(pieces) > 3
    assert (execution.tier, execution.accepted) == ("simple", True)
    assert bench.asked == ["a1"]


async def test_a_stream_may_have_any_number_of_pieces() -> None:
    text = "x" * (3 * PIECES_MAX)
    bench = Bench({"a1": [FakeStep(answer(text), chunk_chars=1)]})
    pieces, execution = await stream(bench, plan(stream_prefix=PREFIX))
    assert "".join(pieces) == execution.message.text == text


async def test_a_bad_prefix_escalates_before_the_caller_has_seen_any_of_it() -> None:
    bench = Bench({"a1": [FakeStep(answer(REFUSAL + " Really." * 99), chunk_chars=40)], "b1": [GOOD]})
    pieces, execution = await stream(bench, plan(RulesSpec(), stream_prefix=PREFIX))
    assert "".join(pieces) == execution.message.text == GOOD
    assert outcomes(execution) == [("a1", "rejected"), ("b1", "accepted")]
    rejected = execution.attempts[0]
    assert [verdict.gate for verdict in rejected.verdicts] == ["hard_failure"]
    assert rejected.cost_nanousd > 0
    assert rejected.usage is None, "what was cut off is estimated"
    assert execution.escalations == 1
    assert_nothing_is_left(bench)


async def test_a_committed_answer_that_its_gates_reject_stays_but_is_not_accepted() -> None:
    bench = Bench({"a1": [FakeStep(answer(UNSURE), chunk_chars=7)], "b1": [SURE]})
    pieces, execution = await stream(bench, plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert "".join(pieces) == execution.message.text == GOOD
    assert (execution.tier, execution.accepted) == ("simple", False)
    assert execution.attempts[0].verdicts[-1].gate == "self_confidence"
    assert bench.asked == ["a1"]


async def test_a_committed_answer_still_gets_its_second_opinion() -> None:
    bench = Bench({"a1": [FakeStep(answer(f"{GOOD} #### 42"))], "a2": ["#### 42"]})
    _, execution = await stream(bench, plan(AgreementSpec(), stream_prefix=PREFIX))
    assert execution.accepted
    assert outcomes(execution) == [("a1", "accepted"), ("a2", "evidence")]


async def test_a_short_answer_is_judged_whole_before_it_leaves() -> None:
    bench = Bench({"a1": ["No.\nCONFIDENCE: 1"], "b1": ["Yes.\nCONFIDENCE: 5"]})
    pieces, execution = await stream(bench, plan(SelfConfidenceSpec(), stream_prefix=StreamPrefix(100, 2.0)))
    assert pieces == [execution.message.text] == ["Yes."]


async def test_a_stream_that_breaks_before_its_commit_falls_back_unseen() -> None:
    bench = Bench({"a1": [FakeStep(answer(SURE), cut_after=2)], "a2": [SURE]})
    pieces, execution = await stream(bench, plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert "".join(pieces) == GOOD
    assert outcomes(execution) == [("a1", "error"), ("a2", "accepted")]


async def test_a_stream_that_breaks_after_its_commit_is_the_end() -> None:
    bench = Bench({"a1": [FakeStep(answer(SURE), cut_after=6)], "a2": [SURE]})
    received: list[ExecutionEvent] = []
    with pytest.raises(SpillwayError) as caught:
        await drain(begin(bench, plan(SelfConfidenceSpec(), stream_prefix=PREFIX)), received)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")
    assert "".join(event.text for event in received if isinstance(event, AnswerDelta)) == GOOD[:24]
    assert bench.asked == ["a1"]
    failed = next(state for state in bench.pool.states(0.0) if state.target.name == "a1")
    assert failed.breaker.window_failures == 1
    assert_nothing_is_left(bench)


async def test_a_stream_that_does_not_come_far_enough_in_its_time_is_given_up() -> None:
    bench = Bench({"a1": [HANG], "a2": [SURE]})
    events = begin(bench, plan(SelfConfidenceSpec(), stream_prefix=PREFIX))
    task = asyncio.create_task(anext(events))
    await until(lambda: bench.provider.in_flight >= 1)
    await until(lambda: bench.clock.sleepers)
    bench.clock.advance(11.0)  # the rung's third of a minute, halved for the other target
    first = await task
    assert isinstance(first, AnswerDelta)
    *_, end = [event async for event in events]
    assert isinstance(end, Execution)
    assert outcomes(end) == [("a1", "timeout"), ("a2", "accepted")]
    assert end.attempts[0].error_reason == "PROVIDER_TIMEOUT"
    assert bench.provider.cancelled == 1
    assert_nothing_is_left(bench)


async def test_a_race_of_streams_is_won_by_the_first_good_prefix() -> None:
    slow = FakeStep(answer(SURE), chunk_chars=1)
    bench = Bench(
        {"a1": [FakeStep(answer(REFUSAL), chunk_chars=60)], "b1": [FakeStep(answer(SURE), chunk_chars=9)], "c1": [slow]}
    )
    pieces, execution = await stream(bench, race(SelfConfidenceSpec(), stream_prefix=PREFIX))
    assert "".join(pieces) == execution.message.text == GOOD
    assert outcomes(execution) == [("a1", "rejected"), ("b1", "accepted"), ("c1", "cancelled")]
    assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)
    assert_nothing_is_left(bench)


async def test_a_race_without_prefixes_holds_every_answer_back() -> None:
    bench = Bench({"a1": ["41\nCONFIDENCE: 1"], "b1": ["42\nCONFIDENCE: 5"], "c1": [FakeStep(answer("43"))]})
    pieces, execution = await stream(bench, race(SelfConfidenceSpec()))
    assert pieces == [execution.message.text]


async def test_the_last_stream_of_a_race_flows_once_it_is_alone() -> None:
    bench = Bench({"a1": [answer("")], "b1": [answer("")], "c1": [FakeStep(answer("one, two, three"), chunk_chars=1)]})
    pieces, execution = await stream(bench, race())
    assert "".join(pieces) == execution.message.text == "one, two, three"
    assert len(pieces) > 1


async def test_a_stream_left_early_ends_its_call_and_is_paid_for() -> None:
    bench = Bench({"a1": [FakeStep(answer(SURE * 50), chunk_chars=5)], "a2": [HANG]})
    events = begin(bench, plan(AgreementSpec(), stream_prefix=PREFIX))
    assert isinstance(await anext(events), AnswerDelta)
    await events.aclose()
    assert_nothing_is_left(bench)


async def test_a_mark_to_escalate_never_flows_from_the_last_rung() -> None:
    only = Plan((PlannedTier("complex", ("c1",)),))
    pieces, execution = await stream(Bench({"c1": [FakeStep(answer(f"{GOOD}\n[ESCALATE]"), chunk_chars=3)]}), only)
    assert "".join(pieces) == execution.message.text == GOOD
    assert not execution.accepted


async def test_tool_calls_follow_the_text_that_flowed() -> None:
    call = ToolCall("1", "f", "{}")
    said = answer(GOOD)
    both = FakeStep(type(said)(Message(Role.ASSISTANT, said.message.parts, tool_calls=(call,)), usage=said.usage))
    only = Plan((PlannedTier("complex", ("c1",)),))
    events = [event async for event in begin(Bench({"c1": [both]}), only)]
    end = events.pop()
    assert isinstance(end, Execution)
    assert (end.message.text, end.message.tool_calls) == (GOOD, (call,))
    deltas = [event for event in events if isinstance(event, AnswerDelta)]
    assert "".join(delta.text for delta in deltas) == GOOD
    assert [delta.tool_calls for delta in deltas if delta.tool_calls] == [(call,)]


async def test_a_waterfall_goes_on_where_the_plan_allows_no_escalation() -> None:
    never = RulesSpec(must_match=("yes",))
    bench = Bench({"a1": ["no"], "b1": ["no"], "c1": ["yes"]})
    given = Plan(plan(never).tiers, Strategy.WATERFALL, escalations_max=0)
    execution = await run(bench, given)
    assert [attempt.outcome for attempt in execution.attempts] == [
        AttemptOutcome.REJECTED,
        AttemptOutcome.REJECTED,
        AttemptOutcome.ACCEPTED,
    ]


async def test_a_defect_in_a_call_is_raised_and_leaves_nothing_behind() -> None:
    bench = Bench({"a1": [HANG], "b1": ["42"], "c1": [HANG]})
    request = chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "no schema, and nobody has checked"))
    with pytest.raises(InvalidSchemaError):
        await bench.executor.execute(request, race(), None, 60.0)
    assert_nothing_is_left(bench)


async def test_throttling_during_a_race_is_remembered() -> None:
    throttled = ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 20.0)
    bench = Bench({"a1": [throttled], "a2": [throttled], "b1": [throttled], "c1": [throttled], "c2": [throttled]})
    with pytest.raises(SpillwayError) as caught:
        await run(bench, race())
    assert caught.value.reason == "NO_MODEL_AVAILABLE"
    assert caught.value.retry_after_s == 20.0
