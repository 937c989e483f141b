"""Plans run against models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import pytest

from services.executor import budget
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.provider import FakeStep
from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest, FormatKind, GenerationParams, ResponseFormat, Role, Usage
from spillway.routing import (
    AgreementSpec,
    AnswerDelta,
    AttemptOutcome,
    Execution,
    GateSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    Verdict,
)
from tests.support.executor_bench import outcomes
from tests.support.waiting import until
from tests.unit.executor.builders import CUT, DOWN, REFUSED, USAGE, Bench, answer, chat

Steps = dict[str, Iterable[FakeStep | Answer | ProviderFailure | str]]


def plan(*gates: GateSpec, **fields: Any) -> Plan:
    tiers = (PlannedTier("simple", ("a1", "a2"), gates), PlannedTier("complex", ("c1", "c2")))
    return Plan(tiers, **fields)


async def run(bench: Bench, given: Plan, request: ChatRequest | None = None) -> Execution:
    return await bench.executor.execute(request or chat(), given, None, 60.0)


async def stream(bench: Bench, given: Plan, request: ChatRequest | None = None) -> list[AnswerDelta | Execution]:
    return [event async for event in bench.executor.stream(request or chat(), given, None, 60.0)]


def text_of(events: list[AnswerDelta | Execution]) -> str:
    return "".join(event.text for event in events if isinstance(event, AnswerDelta))


async def test_a_good_cheap_answer_is_returned() -> None:
    bench = Bench({"a1": ["42"]})
    execution = await run(bench, plan())
    assert (execution.message.text, execution.accepted, execution.tier) == ("42", True, "simple")
    assert outcomes(execution) == [("a1", "accepted")]
    assert execution.cost_nanousd == 100 * 1_000 + 10 * 2_000


async def test_low_confidence_escalates_and_its_line_is_stripped() -> None:
    bench = Bench({"a1": ["41\nCONFIDENCE: 2"], "c1": ["42"]})
    execution = await run(bench, plan(SelfConfidenceSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]
    assert execution.escalations == 1
    asked_first, asked_then = (call.chat.messages[0] for call in bench.provider.calls)
    assert "CONFIDENCE:" in asked_first.text
    assert asked_then.role is Role.SYSTEM
    assert "unsure" in asked_then.text
    assert "41" not in asked_then.text


async def test_confidence_is_stripped_from_an_accepted_answer() -> None:
    execution = await run(Bench({"a1": ["42\n**CONFIDENCE: 5**"]}), plan(SelfConfidenceSpec()))
    assert (execution.message.text, execution.accepted) == ("42", True)


async def test_two_that_agree_are_accepted_and_both_are_paid_for() -> None:
    bench = Bench({"a1": ["It is #### 42"], "a2": ['{"answer": "42.0"}']})
    execution = await run(bench, plan(AgreementSpec()))
    assert outcomes(execution) == [("a1", "accepted"), ("a2", "evidence")]
    assert execution.cost_nanousd == 2 * (100 * 1_000 + 10 * 2_000)
    assert execution.usage == USAGE
    assert execution.usage_total == USAGE + USAGE
    assert execution.attempts[0].verdicts[-1].cost_nanousd == execution.attempts[1].cost_nanousd


async def test_two_that_differ_escalate_without_being_shown() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "c1": ["42"]})
    execution = await run(bench, plan(AgreementSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("a2", "evidence"), ("c1", "accepted")]
    note = bench.provider.calls[-1].chat.messages[0].text
    assert "disagreed" in note
    assert "41" not in note
    assert len(note) < 120


async def test_a_missing_second_opinion_proves_nothing() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": [DOWN], "c1": ["42"]})
    execution = await run(bench, plan(AgreementSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("a2", "error"), ("c1", "accepted")]


async def test_a_second_opinion_stands_in_for_a_target_that_fails() -> None:
    bench = Bench({"a1": [DOWN], "a2": ["#### 42"], "c1": [DOWN], "c2": [DOWN]})
    execution = await run(bench, plan(AgreementSpec()))
    assert (execution.target, execution.message.text, execution.accepted) == ("a2", "#### 42", False)
    assert bench.asked == ["a1", "a2", "c1", "c2"]


async def test_the_only_target_is_sampled_twice_and_warmer_the_second_time() -> None:
    bench = Bench({"a1": ["#### 42"]})
    only = Plan((PlannedTier("simple", ("a1",), (AgreementSpec(),)), PlannedTier("complex", ("c1",))))
    request = chat(generation=GenerationParams(temperature=0.0, seed=7))
    execution = await run(bench, only, request)
    assert execution.accepted
    first, second = (call.chat.generation for call in bench.provider.calls)
    assert (first.temperature, first.seed) == (0.0, 7)
    assert (second.temperature, second.seed) == (0.7, None)


async def test_a_useless_answer_cancels_its_second_opinion() -> None:
    bench = Bench({"a1": [answer("")], "a2": [FakeStep(DOWN, hang=True)], "c1": ["42"]})
    execution = await run(bench, plan(AgreementSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("a2", "cancelled"), ("c1", "accepted")]
    assert execution.attempts[1].cost_nanousd > 0
    assert bench.provider.cancelled == 1


@pytest.mark.parametrize("bad", [answer(""), answer("I'm sorry, but I can't help with that."), answer("Half", CUT)])
async def test_hard_failures_escalate(bad: Answer) -> None:
    execution = await run(Bench({"a1": [bad], "c1": ["42"]}), plan())
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]


async def test_a_wrong_form_escalates() -> None:
    schema = '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}'
    request = chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema))
    bench = Bench({"a1": ['{"n": "secret"}'], "c1": ['```json\n{"n": 42}\n```']})
    execution = await run(bench, plan(SelfConfidenceSpec()), request)
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]
    note = bench.provider.calls[1].chat.messages[0].text
    assert "properties/n/type" in note
    assert "secret" not in note
    assert "CONFIDENCE" not in bench.provider.calls[0].chat.messages[0].text


async def test_the_last_answer_is_returned_unproven() -> None:
    bench = Bench({"a1": ["no"], "c1": ["neither"]})
    tiers = (PlannedTier("simple", ("a1",)), PlannedTier("complex", ("c1",)))
    picky = tuple(PlannedTier(t.name, t.targets, (RulesSpec(must_match=("yes",)),)) for t in tiers)
    execution = await run(bench, Plan(picky))
    assert (execution.message.text, execution.accepted) == ("neither", False)
    assert execution.attempts[-1].outcome is AttemptOutcome.ACCEPTED
    assert execution.attempts[-1].verdicts[-1].verdict is Verdict.FAIL


async def test_a_gate_that_cannot_tell_passes_only_on_the_last_rung() -> None:
    talk = ("It depends on many things, which would take long to tell. " * 3).strip()
    bench = Bench({"a1": [talk], "a2": [talk + " Perhaps."], "c1": [talk], "c2": [talk + " Maybe."]})
    tiers = (
        PlannedTier("simple", ("a1", "a2"), (AgreementSpec(),)),
        PlannedTier("complex", ("c1", "c2"), (AgreementSpec(),)),
    )
    execution = await run(bench, Plan(tiers))
    assert (execution.tier, execution.accepted) == ("complex", True)


async def test_a_least_confidence_of_the_request_is_kept() -> None:
    steps: Steps = {"a1": ["41\nCONFIDENCE: 4"], "c1": ["42"]}
    assert (await run(Bench(steps), plan(SelfConfidenceSpec()))).tier == "simple"
    assert (await run(Bench(steps), plan(SelfConfidenceSpec(), confidence_min=0.95))).tier == "complex"


async def test_a_target_that_fails_falls_back() -> None:
    execution = await run(Bench({"a1": [DOWN], "a2": ["42"]}), plan())
    assert outcomes(execution) == [("a1", "error"), ("a2", "accepted")]
    assert (execution.fallbacks, execution.escalations) == (1, 0)


async def test_failures_open_the_breaker_and_then_nothing_is_called() -> None:
    bench = Bench({name: [DOWN] for name in ("a1", "a2", "c1", "c2")})
    for _ in range(20):
        with pytest.raises(SpillwayError):
            await run(bench, plan())
    called = len(bench.asked)
    with pytest.raises(SpillwayError) as caught:
        await run(bench, plan())
    assert len(bench.asked) == called
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE")
    assert caught.value.retry_after_s is not None


async def test_retry_after_keeps_a_target_shut_for_that_long() -> None:
    throttled = ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 20.0)
    bench = Bench({"a1": [throttled, answer("42")], "a2": ["42"]})
    await run(bench, plan())
    assert outcomes(await run(bench, plan())) == [("a1", "skipped"), ("a2", "accepted")]
    bench.clock.advance(20.0)
    assert outcomes(await run(bench, plan())) == [("a1", "accepted")]


async def test_a_refused_request_opens_no_breaker() -> None:
    bench = Bench({"a1": [REFUSED]})
    for _ in range(20):
        with pytest.raises(SpillwayError) as caught:
            await run(bench, plan())
        assert caught.value.reason == "PROVIDER_REJECTED"
    assert bench.asked == ["a1"] * 20


async def test_a_hurried_callers_timeouts_open_no_breaker() -> None:
    bench = Bench({"a1": [FakeStep(DOWN, hang=True)]})
    only = Plan((PlannedTier("simple", ("a1",)),))
    for _ in range(6):
        with pytest.raises(SpillwayError):
            await bench.executor.execute(chat(), only, None, 0.03)
    assert len(bench.asked) == 6


async def test_a_concurrency_limit_passes_on_to_the_next_target() -> None:
    bench = Bench({"a1": [FakeStep(DOWN, hang=True), FakeStep(answer("x"))], "a2": ["42"]})
    limit = bench.pool["a1"].concurrency_max
    leases = [bench.pool.take("a1", 0.0) for _ in range(limit)]
    assert len(leases) == limit
    assert outcomes(await run(bench, plan())) == [("a1", "skipped"), ("a2", "accepted")]


async def test_a_caller_who_leaves_cancels_the_calls_and_returns_the_permits() -> None:
    hang = FakeStep(DOWN, hang=True)
    bench = Bench({"a1": [hang], "a2": [hang]})
    task = asyncio.create_task(run(bench, plan(AgreementSpec())))
    await until(lambda: bench.provider.in_flight >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (bench.provider.in_flight, bench.provider.cancelled) == (0, 2)
    states = list(bench.pool.states(0.0))
    assert all(state.breaker.in_flight == 0 and state.breaker.window_calls == 0 for state in states)


async def test_missing_usage_is_estimated_and_marked() -> None:
    execution = await run(Bench({"a1": [answer("x" * 400, usage=None)]}), plan())
    assert execution.attempts[0].usage is None
    assert execution.usage.output_tokens == 100
    assert execution.cost_nanousd == execution.attempts[0].cost_nanousd > 0


async def test_a_call_that_may_have_been_charged_costs_something_and_a_refusal_nothing() -> None:
    lost = ProviderFailure(FailureKind.ERROR, "PROVIDER_INTERRUPTED", billable=True, output_chars=40)
    execution = await run(Bench({"a1": [lost], "a2": [DOWN], "c1": ["42"]}), plan())
    interrupted, refused, _ = execution.attempts
    input_tokens = budget.estimate_input_tokens(chat())
    assert (interrupted.usage, interrupted.cost_nanousd) == (None, 1_000 * input_tokens + 2_000 * 10)
    assert refused.cost_nanousd == 0


async def test_under_a_ceiling_a_call_that_nobody_counted_costs_its_bound_and_says_what_of_it_is_no_estimate() -> None:
    lost = ProviderFailure(FailureKind.ERROR, "PROVIDER_INTERRUPTED", billable=True, output_chars=40)
    steps: Steps = {"a1": [lost], "a2": [answer("x" * 400, usage=None)]}
    free = await run(Bench(dict(steps)), plan())
    bounded = await run(Bench(dict(steps)), plan(cost_nanousd_max=500_000_000))
    assert [each.cost_excess_nanousd for each in free.attempts] == [0, 0]
    for with_ceiling, without in zip(bounded.attempts, free.attempts, strict=True):
        assert with_ceiling.cost_excess_nanousd > 0
        assert with_ceiling.cost_nanousd - with_ceiling.cost_excess_nanousd == without.cost_nanousd
    assert bounded.cost_nanousd == sum(each.cost_nanousd for each in bounded.attempts)
    assert bounded.usage == free.usage


async def test_the_ceiling_stops_before_the_money_is_spent() -> None:
    bench = Bench({"a1": ["no"], "c1": ["42"]})
    given = plan(RulesSpec(must_match=("42",)), cost_nanousd_max=5_000_000)
    execution = await run(bench, given)
    assert outcomes(execution) == [("a1", "accepted"), ("c1", "skipped"), ("c2", "skipped")]
    assert execution.accepted is False
    assert execution.attempts[1].error_reason == "COST_CEILING"
    with pytest.raises(SpillwayError) as caught:
        await run(Bench({}), plan(cost_nanousd_max=1))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "COST_CEILING")


async def test_a_held_stream_sends_one_accepted_answer_whole() -> None:
    bench = Bench({"a1": ["41\nCONFIDENCE: 1"], "c1": ["42"]})
    given = Plan(
        (PlannedTier("simple", ("a1",), (SelfConfidenceSpec(),)), PlannedTier("complex", ("c1",), (RulesSpec(),)))
    )
    events = await stream(bench, given)
    assert [type(event) for event in events] == [AnswerDelta, Execution]
    assert text_of(events) == "42"


async def test_the_last_rung_flows_as_it_is_written() -> None:
    bench = Bench({"c1": [FakeStep(answer("one, two, three"), chunk_chars=3)]})
    events = await stream(bench, Plan((PlannedTier("complex", ("c1",)),)))
    assert len(events) > 3
    assert text_of(events) == "one, two, three"
    last = events[-1]
    assert isinstance(last, Execution)
    assert last.message.text == "one, two, three"
    assert last.attempts[0].time_to_first_token_s is not None


async def test_a_stream_that_fails_before_its_first_piece_falls_back_unseen() -> None:
    bench = Bench({"c1": [DOWN], "c2": ["42"]})
    events = await stream(bench, Plan((PlannedTier("complex", ("c1", "c2")),)))
    assert text_of(events) == "42"


async def test_spaces_alone_do_not_begin_a_stream() -> None:
    bench = Bench({"c1": [FakeStep(answer("      tail"), cut_after=1)], "c2": ["42"]})
    events = await stream(bench, Plan((PlannedTier("complex", ("c1", "c2")),)))
    assert text_of(events) == "42"


async def test_a_stream_that_breaks_after_it_began_is_never_continued_by_another() -> None:
    bench = Bench({"c1": [FakeStep(answer("one, two, three"), cut_after=2)], "c2": ["42"]})
    events = bench.executor.stream(chat(), Plan((PlannedTier("complex", ("c1", "c2")),)), None, 60.0)
    received = [await anext(events), await anext(events)]
    with pytest.raises(SpillwayError) as caught:
        await anext(events)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")
    assert bench.asked == ["c1"]
    assert text_of(received) == "one, two"


async def test_a_request_with_a_form_is_held_back_even_on_the_last_rung() -> None:
    bench = Bench({"c1": [FakeStep(answer('{"a": 1}'), chunk_chars=1)]})
    request = chat(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
    events = await stream(bench, Plan((PlannedTier("complex", ("c1",)),)), request)
    assert len(events) == 2


async def test_a_stream_left_early_returns_its_permit() -> None:
    bench = Bench({"c1": [FakeStep(answer("one, two, three"), chunk_chars=1)]})
    events = bench.executor.stream(chat(), Plan((PlannedTier("complex", ("c1",)),)), None, 60.0)
    await anext(events)
    await events.aclose()
    assert all(state.breaker.in_flight == 0 for state in bench.pool.states(0.0))


async def test_costs_add_up() -> None:
    bench = Bench({"a1": ["#### 1"], "a2": ["#### 2"], "c1": [DOWN], "c2": ["3"]})
    execution = await run(bench, plan(AgreementSpec()))
    assert execution.cost_nanousd == sum(attempt.cost_nanousd for attempt in execution.attempts)
    used = [attempt.usage for attempt in execution.attempts if attempt.usage]
    assert execution.usage_total == sum(used, start=Usage())
