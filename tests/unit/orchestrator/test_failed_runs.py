"""Runs that end without an answer: whose error it is, what is recorded, and whether its cost is known."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from services.orchestrator.hops import ExecutionError
from services.orchestrator.record import json_line
from services.orchestrator.run import Run
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Overloaded, SpillwayError, Unavailable
from spillway.routing import FailedExecution
from tests.unit.orchestrator.fakes import Bench, collect, executed
from tests.unit.orchestrator.ladder import request_of


async def test_the_executors_error_is_the_callers_and_nothing_is_stored() -> None:
    bench = Bench()
    bench.executor.gives = Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5)
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    with pytest.raises(Unavailable) as failed:
        await bench.pipeline.complete(run)
    assert (failed.value.reason, failed.value.retry_after_s) == ("NO_MODEL_AVAILABLE", 2.5)
    assert (run.status_code, run.error_reason) == (grpc.StatusCode.UNAVAILABLE.value[0], "NO_MODEL_AVAILABLE")
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_caller_without_time_is_told_so_before_a_model_is_called() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=0.004)
    with pytest.raises(DeadlineExceeded):
        await bench.pipeline.complete(run)
    assert bench.executor.plans == []
    assert run.error_reason == "DEADLINE_EXCEEDED"


async def test_a_request_that_leaves_no_target_is_refused_before_any_hop() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(tier_floor="complex", tier_ceiling="simple"), remaining_s=30)
    with pytest.raises(FailedPrecondition) as refused:
        await bench.pipeline.complete(run)
    assert refused.value.reason == "NO_ELIGIBLE_TARGET"
    assert bench.cache.looked_up == []


async def left(bench: Bench, remaining_s: float = 30) -> Run:
    """A run whose caller left while the executor was at it."""
    bench.executor.hold = True
    run = bench.pipeline.begin(request_of(), remaining_s=remaining_s)
    task = asyncio.create_task(bench.pipeline.complete(run))
    await bench.executor.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return run


async def test_a_cancelled_caller_cancels_the_executor_and_nothing_is_stored() -> None:
    bench = Bench()
    run = await left(bench)
    assert bench.executor.cancelled == 1
    assert (run.status_code, run.error_reason) == (grpc.StatusCode.CANCELLED.value[0], "")
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


FAILED = FailedExecution(executed().attempts[:2], 350, escalations=1, fallbacks=2)
NO_MODEL = ExecutionError(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), FAILED)


async def test_what_was_done_in_vain_is_recorded_and_told_to_the_span() -> None:
    bench = Bench()
    bench.executor.gives = NO_MODEL
    for streams in (False, True):
        run = bench.pipeline.begin(request_of(), remaining_s=30)
        call = collect(bench, run) if streams else bench.pipeline.complete(run)
        with pytest.raises(ExecutionError):
            await call
        record = run.record()
        assert (record.attempts, record.cost.cost_nanousd) == (FAILED.attempts, 350)
        assert (record.escalations, record.fallbacks, record.cost_unknown) == (1, 2, False)
        attributes = run.span_attributes()
        assert attributes["spillway.cost_nanousd"] == 350
        assert "spillway.tier" not in attributes
        assert "spillway.cost_unknown" not in attributes


async def test_what_a_caller_who_leaves_has_cost_is_not_known_and_not_said_to_be_nothing() -> None:
    bench = Bench()
    run = await left(bench)
    record = run.record()
    assert record.cost_unknown
    assert record.routing.plan is not None
    assert json.loads(json_line(record))["cost_unknown"] is True
    assert run.span_attributes()["spillway.cost_unknown"] is True


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (Unavailable(), True),
        (DeadlineExceeded(), True),
        (FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan names a target that is not configured"), False),
        (Overloaded(), False),
    ],
)
async def test_a_lost_executor_leaves_the_cost_unknown_and_a_refusal_costs_nothing(
    error: SpillwayError, unknown: bool
) -> None:
    bench = Bench()
    bench.executor.gives = error
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    with pytest.raises(type(error)):
        await bench.pipeline.complete(run)
    assert run.cost_unknown is unknown


async def test_the_cost_of_an_answer_or_of_no_call_at_all_is_known() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    await bench.pipeline.complete(run)
    assert not run.cost_unknown
    run = bench.pipeline.begin(request_of(), remaining_s=0.0)
    with pytest.raises(DeadlineExceeded):
        await bench.pipeline.complete(run)
    assert not run.cost_unknown


async def test_a_cancellation_at_the_deadline_is_the_deadlines() -> None:
    run = await left(Bench(), remaining_s=0.4)
    assert run.error_reason == "DEADLINE_EXCEEDED"
