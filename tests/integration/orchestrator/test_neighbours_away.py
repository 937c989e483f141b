"""What callers see of neighbours that err, hang, make no sense or are gone; what these see of callers who leave."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.runtime.errors import FailedPrecondition, Unavailable, from_rpc_error
from spillway import wire
from spillway.routing import CacheKind, CacheOutcome
from spillway.v1 import cache_pb2, classifier_pb2
from spillway.v1 import orchestrator_pb2 as api
from tests.integration.orchestrator.neighbours import TIMEOUT_S, Neighbourhood, asking, complete, forever, hit


async def refuse() -> None:
    raise ValueError("a text that nobody may see")


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("cache", {"exact": cache_pb2.LookupResponse()}),
    ("cache", {"exact": cache_pb2.LookupResponse(outcome=hit(CacheKind.EXACT_HIT).outcome)}),
    ("cache", {"before": refuse}),
    ("cache", {"before": forever}),
    ("classifier", {"says": classifier_pb2.ClassifyResponse()}),
    ("classifier", {"before": refuse}),
    ("classifier", {"before": forever}),
]


@pytest.mark.parametrize(
    ("name", "how"), BROKEN, ids=["no outcome", "no answer", "error", "hangs", "no judgement", "errs", "stalls"]
)
async def test_whatever_an_optional_neighbour_does_the_request_is_answered(name: str, how: dict[str, Any]) -> None:
    limits = {"cache_timeout_s": 0.05, "classifier_timeout_s": 0.05}
    async with Neighbourhood(orchestrator=limits) as town:
        for field, value in how.items():
            setattr(getattr(town, name), field, value)
        completion = await complete(town)
    assert wire.message_from_proto(completion.message).text == "Paris."
    assert list(completion.routing.degraded) == [name]


async def test_neighbours_that_are_gone_cost_no_request() -> None:
    async with Neighbourhood() as town:
        await complete(town)
        await town.stop("cache")
        await town.stop("classifier")
        completions = [await complete(town) for _ in range(3)]
    assert [list(each.routing.degraded) for each in completions] == [["cache", "classifier"]] * 3
    assert {each.routing.policy_step for each in completions} == {"confidence_bump"}


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5),
        FailedPrecondition("PROVIDER_REJECTED", "the provider refused the request"),
    ],
)
async def test_the_executors_error_reaches_the_caller_as_it_was_said(error: Unavailable | FailedPrecondition) -> None:
    async def fail() -> None:
        raise error

    async with Neighbourhood() as town:
        town.executor.before = fail
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await complete(town)
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            async for _ in town.stub.StreamComplete(api.StreamCompleteRequest(request=asking())):
                pass
        assert len(town.executor.asked) == 2
        assert town.cache.stored.empty()
    for raised in (unary, streamed):
        seen = from_rpc_error(raised.value)
        assert (seen.code, seen.reason, seen.public) == (error.code, error.reason, error.public)
        assert seen.retry_after_s == error.retry_after_s


async def test_an_executor_that_is_gone_is_unavailable_with_a_reason() -> None:
    async with Neighbourhood() as town:
        await town.stop("executor")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await complete(town)
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")


async def test_an_executor_whose_answer_makes_no_sense_is_an_internal_error_not_the_callers() -> None:
    async with Neighbourhood() as town:
        town.executor.spoil = True
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await complete(town)
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason, seen.public) == (grpc.StatusCode.INTERNAL, "INTERNAL", "internal error")


async def test_a_defect_behind_a_stream_is_internal_and_its_text_stays_there() -> None:
    async with Neighbourhood() as town:
        town.executor.before = refuse
        call: Any = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
        assert [(await call.read()).delta.text for _ in "12"] == ["Par", "is."]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "nobody may see" not in (raised.value.details() or "")


async def test_a_stream_whose_executor_goes_away_is_interrupted() -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        call: Any = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
        assert [(await call.read()).delta.text for _ in "12"] == ["Par", "is."]
        await town.break_off("executor")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_that_leaves_ends_the_executors_work_and_nothing_is_stored(streaming: bool) -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        call: Any
        if streaming:
            call = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
            await call.read()
        else:
            call = town.stub.Complete(asking())
        await asyncio.wait_for(town.executor.working.wait(), TIMEOUT_S)
        call.cancel()
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)
    assert town.cache.stored.empty()


async def test_the_callers_deadline_ends_the_executors_work() -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await town.stub.Complete(asking(), timeout=0.3)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)


async def test_a_cache_that_says_unavailable_is_degraded_not_an_error() -> None:
    async with Neighbourhood() as town:
        outcome = CacheOutcome(CacheKind.UNAVAILABLE, reason="store_timeout")
        town.cache.exact = cache_pb2.LookupResponse(outcome=wire.cache_finding_to_proto(outcome))
        completion = await complete(town)
    assert list(completion.routing.degraded) == ["cache"]
    assert completion.cache.reason == "the cache did not answer in time"
