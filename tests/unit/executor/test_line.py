"""More executions than there are places: they wait in line, and nobody takes that for a failure of a target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.executor.execution import LINE_SHARE_MAX, WAITED_S, Executor
from services.executor.gates.calibration import BASELINE
from services.executor.metrics import ExecutorMetrics
from services.executor.no_answer import NoAnswerError
from services.executor.outcome import Answer, ProviderFailure
from services.executor.providers.provider import ProviderCall, StreamEvent
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from spillway.routing import AttemptOutcome, Execution, Plan, PlannedTier, RulesSpec
from spillway.settings import Settings
from tests.support.metric_points import Meters
from tests.unit.executor.builders import answer, chat, target

DEADLINE_S = 60.0
PLAN = Plan((PlannedTier("simple", ("a1",)), PlannedTier("complex", ("c1",))))


class Held:
    """A provider whose calls end when they are let go, the eldest first."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[None]] = []
        self.asked: list[str] = []
        self.most = 0

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.append(ended)
        self.asked.append(f"{call.model}:{call.chat.messages[0].text}")
        self.most = max(self.most, len(self.under_way))
        try:
            await ended
        finally:
            self.under_way.remove(ended)
        return answer("42")

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        yield await self.complete(call)

    async def close(self) -> None:
        """Nothing is open."""

    def let_go(self) -> None:
        self.under_way[0].set_result(None)


class Crowd:
    """An executor with a provider of few connections, and executions at it."""

    def __init__(self, *, connections_max: int = 100, concurrency_max: int = 100) -> None:
        tiers = [("simple", "a1"), ("complex", "c1")]
        settings = Settings.model_validate(
            {
                "providers": {"p": {"base_url": "http://127.0.0.1:1/v1", "connections_max": connections_max}},
                "tiers": [
                    {"name": tier, "targets": [target(name, concurrency_max=concurrency_max)]} for tier, name in tiers
                ],
            }
        )
        self.provider = Held()
        self.meters = Meters()
        self.clock = FakeClock()
        self.pool = TargetPool(settings, random=lambda: 0.5)
        self.executor = Executor(
            {"p": self.provider},
            self.pool,
            self.clock,
            confidence_min=0.8,
            calibration=BASELINE,
            hedging=settings.executor.hedging,
            metrics=ExecutorMetrics(self.meters.meter, self.pool, self.clock),
        )

    def timed(self) -> set[tuple[str, str]]:
        return {(labels["target"], labels["outcome"]) for labels, _ in self.meters.points("spillway.attempt.duration")}

    def ask(self, text: str, plan: Plan = PLAN) -> asyncio.Task[Execution]:
        return asyncio.create_task(self.executor.execute(chat(text), plan, None, DEADLINE_S))

    async def settle(self) -> None:
        """Until nothing moves any more by itself."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def serve(self) -> None:
        """Until nobody is left."""
        await self.settle()
        while self.provider.under_way:
            self.provider.let_go()
            await self.settle()


async def test_no_more_calls_are_under_way_than_the_provider_has_connections_and_all_are_answered() -> None:
    crowd = Crowd(connections_max=3)
    asked = [crowd.ask(str(number)) for number in range(20)]
    await crowd.settle()
    assert (len(crowd.provider.under_way), len(crowd.executor.line)) == (3, 17)
    await crowd.serve()
    executions = await asyncio.gather(*asked)
    assert crowd.provider.most == 3
    assert [[each.outcome for each in execution.attempts] for execution in executions] == [
        [AttemptOutcome.ACCEPTED]
    ] * 20


async def test_waiting_is_no_failure_of_a_target_and_none_of_its_time() -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask("first"), crowd.ask("second")]
    await crowd.settle()
    crowd.clock.advance(DEADLINE_S / 4)
    await crowd.serve()
    second = await asked[1]
    await asked[0]
    seen = {state.target.name: state.breaker for state in crowd.pool.states(crowd.clock.monotonic())}
    assert (seen["a1"].window_calls, seen["a1"].window_failures, seen["c1"].window_calls) == (2, 0, 0)
    assert second.attempts[-1].latency_s == 0.0


async def test_who_has_waited_longest_is_next() -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask(str(number)) for number in range(5)]
    await crowd.serve()
    await asyncio.gather(*asked)
    assert crowd.provider.asked == [f"a1:{number}" for number in range(5)]


@pytest.mark.parametrize("limit", ["connections_max", "concurrency_max"])
@pytest.mark.parametrize("ticks", range(8))
async def test_a_newcomer_overtakes_nobody_however_soon_after_a_call_it_comes(limit: str, ticks: int) -> None:
    crowd = Crowd(**{limit: 1})
    only = Plan((PlannedTier("simple", ("a1",)),))
    asked = [crowd.ask(str(number), only) for number in range(3)]
    await crowd.settle()
    crowd.provider.let_go()
    for _ in range(ticks):
        await asyncio.sleep(0)
    asked.append(crowd.ask("newcomer", only))
    await crowd.serve()
    await asyncio.gather(*asked)
    assert crowd.provider.asked == ["a1:0", "a1:1", "a1:2", "a1:newcomer"]


async def test_a_place_that_is_promised_to_nobody_is_a_newcomers_at_once() -> None:
    crowd = Crowd(concurrency_max=2)
    only = Plan((PlannedTier("simple", ("a1",)),))
    asked = [crowd.ask(str(number), only) for number in range(3)]
    await crowd.settle()
    crowd.provider.under_way[0].set_result(None)
    crowd.provider.under_way[1].set_result(None)
    asked.append(crowd.ask("newcomer", only))
    await crowd.settle()
    assert sorted(crowd.provider.asked[2:]) == ["a1:2", "a1:newcomer"]
    await crowd.serve()
    await asyncio.gather(*asked)


async def test_a_target_is_counted_as_skipped_once_however_often_it_was_looked_at() -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask(str(number)) for number in range(4)]
    await crowd.settle()
    for _ in range(10):
        crowd.clock.advance(1.0)
        await crowd.settle()
    asked[3].cancel()
    with suppress(asyncio.CancelledError):
        await asked[3]
    for _ in range(int(DEADLINE_S * LINE_SHARE_MAX)):
        crowd.clock.advance(1.0)
        await crowd.settle()
    await crowd.serve()
    await asyncio.gather(*asked, return_exceptions=True)
    counted = {(p["target"], p["outcome"]): value for p, value in crowd.meters.points("spillway.attempts")}
    assert counted == {("a1", "accepted"): 1, ("a1", "skipped"): 3, ("c1", "skipped"): 3}
    assert {outcome for _, outcome in crowd.timed()} == {"accepted"}


async def test_who_got_a_place_after_all_was_not_skipped() -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask(str(number)) for number in range(4)]
    await crowd.serve()
    await asyncio.gather(*asked)
    assert [(p["outcome"], value) for p, value in crowd.meters.points("spillway.attempts")] == [("accepted", 4)]


async def test_the_length_of_the_line_is_shown() -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask(str(number)) for number in range(4)]
    await crowd.settle()
    assert crowd.meters.points("spillway.line.waiting") == [({}, 3)]
    crowd.provider.let_go()
    await crowd.settle()
    assert crowd.meters.points("spillway.line.waiting") == [({}, 2)]
    await crowd.serve()
    await asyncio.gather(*asked)
    assert crowd.meters.points("spillway.line.waiting") == [({}, 0)]


async def test_the_callers_span_says_how_long_it_waited_in_line() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    crowd = Crowd(connections_max=1)

    async def traced(text: str) -> None:
        with provider.get_tracer("test").start_as_current_span(text):
            await crowd.ask(text)

    asked = [asyncio.create_task(traced(text)) for text in ("first", "second")]
    await crowd.settle()
    crowd.clock.advance(2.5)
    await crowd.serve()
    await asyncio.gather(*asked)
    spans = exporter.get_finished_spans()
    assert {span.name: dict(span.attributes or {}) for span in spans} == {"first": {}, "second": {WAITED_S: 2.5}}


async def test_a_full_target_is_passed_over_before_anybody_waits() -> None:
    crowd = Crowd(concurrency_max=1)
    asked = [crowd.ask(str(number)) for number in range(3)]
    await crowd.settle()
    assert crowd.provider.asked == ["a1:0", "c1:1"]
    assert len(crowd.executor.line) == 1
    await crowd.serve()
    await asyncio.gather(*asked)


async def test_a_place_goes_to_one_who_can_use_it() -> None:
    crowd = Crowd(concurrency_max=1)
    only = {name: Plan((PlannedTier(tier, (name,)),)) for tier, name in (("simple", "a1"), ("complex", "c1"))}
    asked = [crowd.ask(f"{number}", only[name]) for number in range(2) for name in only]
    await crowd.settle()
    assert crowd.provider.asked == ["a1:0", "c1:0"]
    crowd.provider.under_way[1].set_result(None)
    await crowd.settle()
    assert crowd.provider.asked[2:] == ["c1:1"]
    await crowd.serve()
    await asyncio.gather(*asked)


async def test_who_waits_in_vain_is_shed_and_told_so() -> None:
    crowd = Crowd(connections_max=1)
    first, second = crowd.ask("first"), crowd.ask("second")
    await crowd.settle()
    for _ in range(int(DEADLINE_S * LINE_SHARE_MAX)):
        assert not second.done()
        crowd.clock.advance(1.0)
        await crowd.settle()
    with pytest.raises(NoAnswerError) as caught:
        await second
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert caught.value.retry_after_s is not None
    assert {(each.target, each.error_reason) for each in caught.value.failed.attempts} == {
        ("a1", "CONCURRENCY_LIMIT"),
        ("c1", "CONCURRENCY_LIMIT"),
    }
    assert len(crowd.executor.line) == 0
    await crowd.serve()
    await first


@pytest.mark.parametrize("is_told", [False, True])
async def test_who_leaves_the_line_holds_nobody_up(is_told: bool) -> None:
    crowd = Crowd(connections_max=1)
    asked = [crowd.ask(str(number)) for number in range(3)]
    await crowd.settle()
    if is_told:
        crowd.provider.let_go()
        await asyncio.sleep(0)  # the call ends
        await asyncio.sleep(0)  # and its execution: the next one knows, and has not been there yet
    asked[1].cancel()
    with suppress(asyncio.CancelledError):
        await asked[1]
    await crowd.serve()
    assert [(await each).accepted for each in (asked[0], asked[2])] == [True, True]
    assert crowd.provider.asked == ["a1:0", "a1:2"]


async def test_an_execution_that_had_a_place_once_does_not_wait_for_another() -> None:
    """Its answer was refused, and the next tier is full: what there is, is returned."""
    crowd = Crowd(concurrency_max=1)
    held = crowd.ask("held", Plan((PlannedTier("complex", ("c1",)),)))
    await crowd.settle()
    rules = PlannedTier("simple", ("a1",), (RulesSpec(chars_min=10),))
    refused = crowd.ask("refused", Plan((rules, PlannedTier("complex", ("c1",)))))
    await crowd.settle()
    crowd.provider.under_way[1].set_result(None)
    await crowd.settle()
    assert not (await refused).accepted
    await crowd.serve()
    await held
