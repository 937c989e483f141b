"""The executor as the orchestrator calls it: which lost calls are sent again, and what its errors are taken to mean."""
# ruff: noqa: N802 - the methods are named by the .proto files

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from services.orchestrator.grpc_executor import GrpcExecutor, Resends
from services.orchestrator.hops import Again, ExecutionError
from services.orchestrator.quotas.errors import BudgetExhausted
from services.runtime.errors import InvalidRequest, SpillwayError, Unavailable
from spillway import wire
from spillway.routing import AnswerDelta, Attempt, AttemptOutcome, Execution, FailedExecution, Plan, PlannedTier
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support.fake_services import serving
from tests.unit.orchestrator.fakes import executed
from tests.unit.orchestrator.ladder import request_of

PLAN = Plan((PlannedTier("simple", ("simple-1",)),))
CHAT = request_of("x").chat
Step = Callable[[Any], Awaitable[None]]


class Executor(executor_pb2_grpc.ExecutorServiceServicer):
    """Answers, after the next of `steps`, each of which may end the call; a stream's first delta comes before it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.plans: list[pb.Plan] = []
        self.begins_first = False

    @property
    def calls(self) -> int:
        return len(self.plans)

    async def _step(self, request: pb.ExecuteRequest, context: Any) -> None:
        self.plans.append(request.plan)
        if self.steps:
            await self.steps.pop(0)(context)

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> pb.ExecuteResponse:
        await self._step(request, context)
        return pb.ExecuteResponse(execution=wire.execution_to_proto(executed()))

    async def StreamExecute(
        self, request: pb.StreamExecuteRequest, context: Any
    ) -> AsyncIterator[pb.StreamExecuteResponse]:
        if self.begins_first:
            yield pb.StreamExecuteResponse(delta=pb.AnswerDelta(text="Par"))
        await self._step(request.request, context)
        yield pb.StreamExecuteResponse(delta=pb.AnswerDelta(text="is."))
        yield pb.StreamExecuteResponse(execution=wire.execution_to_proto(executed()))

    async def ListTargets(self, request: pb.ListTargetsRequest, context: Any) -> pb.ListTargetsResponse:
        raise NotImplementedError


async def lost(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def say(error: SpillwayError, *details: Any) -> Step:
    async def step(context: Any) -> None:
        error.details = details
        await context.abort(error.code, error.public, error.trailing_metadata())

    return step


@asynccontextmanager
async def executor() -> AsyncIterator[tuple[Executor, GrpcExecutor]]:
    servicer = Executor()
    async with (
        serving(servicer, executor_pb2_grpc.add_ExecutorServiceServicer_to_server) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield servicer, GrpcExecutor(channel)


async def execute(hop: GrpcExecutor, timeout_s: float = 20.0) -> Execution:
    return await hop.execute(CHAT, PLAN, task_type=None, timeout_s=timeout_s)


async def stream(hop: GrpcExecutor, timeout_s: float = 20.0) -> list[AnswerDelta | Execution]:
    return [event async for event in hop.stream(CHAT, PLAN, task_type=None, timeout_s=timeout_s)]


@pytest.mark.parametrize("call", [execute, stream])
async def test_a_lost_call_is_sent_again_twice_and_not_thrice(call: Callable[[GrpcExecutor], Awaitable[Any]]) -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [lost, lost]
        assert await call(hop)
        assert servicer.calls == 3
        servicer.steps = [lost, lost, lost]
        with pytest.raises(Unavailable) as caught:
            await call(hop)
        assert caught.value.reason == "SERVICE_UNAVAILABLE"
        assert servicer.calls == 6


async def afresh(hop: GrpcExecutor, again: Again, *, streams: bool) -> None:
    if streams:
        events = hop.stream(CHAT, PLAN, task_type=None, timeout_s=20.0, again=again)
        assert [event async for event in events]
    else:
        assert (await hop.execute(CHAT, PLAN, task_type=None, timeout_s=20.0, again=again)).accepted


@pytest.mark.parametrize("streams", [False, True])
async def test_a_lost_call_is_sent_again_with_the_plan_of_now(*, streams: bool) -> None:
    ceilings = iter([700, 500])

    async def again() -> Plan:
        return replace(PLAN, cost_nanousd_max=next(ceilings))

    async with executor() as (servicer, hop):
        servicer.steps = [lost, lost]
        await afresh(hop, again, streams=streams)
        assert [plan.cost_nanousd_max for plan in servicer.plans] == [0, 700, 500]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_lost_call_is_not_sent_again_without_a_plan_for_it(*, streams: bool) -> None:
    async def nothing() -> None:
        return None

    async def refused() -> Plan:
        raise BudgetExhausted("day", 3.0)

    async with executor() as (servicer, hop):
        for again, error in ((nothing, Unavailable), (refused, BudgetExhausted)):
            servicer.steps = [lost]
            with pytest.raises(error):
                await afresh(hop, again, streams=streams)
        assert servicer.calls == 2


@pytest.mark.parametrize("call", [execute, stream])
async def test_what_an_executor_says_itself_is_not_sent_again(call: Callable[[GrpcExecutor], Awaitable[Any]]) -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [say(Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5))]
        with pytest.raises(SpillwayError) as caught:
            await call(hop)
        assert (caught.value.reason, caught.value.retry_after_s) == ("NO_MODEL_AVAILABLE", 2.5)
        assert servicer.calls == 1


async def test_a_stream_that_has_begun_is_not_sent_again() -> None:
    async with executor() as (servicer, hop):
        servicer.begins_first = True
        servicer.steps = [lost]
        with pytest.raises(Unavailable) as caught:
            await stream(hop)
        assert caught.value.reason == "STREAM_INTERRUPTED"
        assert servicer.calls == 1


async def test_a_call_is_not_sent_again_without_time_for_it() -> None:
    async def late(context: Any) -> None:
        await asyncio.sleep(max(0.0, context.time_remaining() - 0.03))
        await lost(context)

    async with executor() as (servicer, hop):
        servicer.steps = [late]
        with pytest.raises(SpillwayError):
            await execute(hop, timeout_s=0.5)
        assert servicer.calls == 1


async def test_many_calls_lost_at_once_are_each_sent_again() -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [lost] * 60  # some are lost a second time, with the connection that was about to be given up
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(execute(hop)) for _ in range(40)]
        assert all(call.result() for call in calls)


async def test_an_outage_is_hardly_multiplied() -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [lost] * 1_000
        for _ in range(10):
            await asyncio.gather(*(execute(hop) for _ in range(20)), return_exceptions=True)
        assert 200 < servicer.calls <= 200 + 2 * 20


def test_since_the_last_answer_calls_are_sent_again_twice_for_each_under_way() -> None:
    resends = Resends()
    with resends.call(), resends.call():
        assert [resends.permit() for _ in range(5)] == [True, True, True, True, False]
        resends.answered()
        assert resends.permit()
    for _ in range(100):
        with resends.call():
            resends.permit()
    with resends.call():
        assert not resends.permit()


@pytest.mark.parametrize("path", ["plan.tiers[0].gates[0].rules.must_match[0]", "request.plan.tiers", "plan"])
async def test_what_is_wrong_with_the_plan_is_no_fault_of_the_caller(path: str) -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [say(InvalidRequest([(path, "cannot be used")]))]
        with pytest.raises(SpillwayError) as caught:
            await execute(hop)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert caught.value.violations == ()
        assert path in caught.value.detail


@pytest.mark.parametrize("path", ["chat.tools[0].name", "request.chat.messages", "planned"])
async def test_what_is_wrong_with_the_request_stays_the_callers(path: str) -> None:
    async with executor() as (servicer, hop):
        servicer.steps = [say(InvalidRequest([(path, "cannot be used")]))]
        with pytest.raises(SpillwayError) as caught:
            await execute(hop)
        assert caught.value.reason == "INVALID_FIELD"
        assert caught.value.violations == ((path, "cannot be used"),)


async def test_an_error_brings_what_was_done_in_vain() -> None:
    failed = FailedExecution((Attempt("simple", "a1", "m", "p", AttemptOutcome.ERROR, cost_nanousd=7),), 7, 1, 2)
    meant = SpillwayError(
        grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", "none", metadata=[("attempts", "a1:PROVIDER_AUTH")]
    )
    async with executor() as (servicer, hop):
        servicer.steps = [say(meant, wire.failed_execution_to_proto(failed))]
        with pytest.raises(ExecutionError) as caught:
            await execute(hop)
        assert caught.value.failed == failed
        assert (caught.value.reason, caught.value.metadata) == (meant.reason, meant.metadata)


async def test_what_was_done_that_cannot_be_read_leaves_the_error_as_it_is() -> None:
    strange = pb.FailedExecution()
    strange.attempts.add(outcome=99)
    async with executor() as (servicer, hop):
        servicer.steps = [say(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), strange)]
        with pytest.raises(SpillwayError) as caught:
            await execute(hop)
        assert caught.value.reason == "NO_MODEL_AVAILABLE"
