"""The orchestrator as a process: its start, its spans, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
import yaml

from spillway.routing import CacheKind
from spillway.v1 import orchestrator_pb2 as api
from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from tests.integration.orchestrator.neighbours import Neighbourhood, asking, hit
from tests.support.otlp import Receiver, Span
from tests.support.processes import Process

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@asynccontextmanager
async def running(folder: Path, town: Neighbourhood, otlp_endpoint: str) -> AsyncIterator[Process]:
    settings = town.loaded.settings.model_copy(
        update={"telemetry": town.loaded.settings.telemetry.model_copy(update={"otlp_endpoint": otlp_endpoint})}
    )
    config = folder / "spillway.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True)))
    args = ["--config", str(config), "--listen", "127.0.0.1:0"]
    process = Process("services.orchestrator", args, {}, folder / "orchestrator.log")
    try:
        yield process
    finally:
        await asyncio.to_thread(process.stop)


async def ready(process: Process) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel((await asyncio.to_thread(process.ready))["listen"])


async def test_a_request_is_one_trace_with_its_store_and_the_server_span_says_how_it_went(
    tmp_path: Path, receiver: Receiver
) -> None:
    parent = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
    async with (
        Neighbourhood(alone=True) as town,
        running(tmp_path, town, receiver.endpoint) as process,
        await ready(process) as channel,
    ):
        response = await OrchestratorServiceStub(channel).Complete(
            asking("A prompt about quokkas", request_id="r1"), metadata=parent, timeout=30
        )
        await asyncio.wait_for(town.cache.stored.get(), 30)
        # A server span, the look for its id, and client spans for two lookups, a judgement, an execution and a store.
        root = await asyncio.to_thread(receiver.tree, TRACE_ID, spans_min=7, parent_id=SPAN_ID)
    assert response.completion.trace_id == TRACE_ID
    assert root.kind == "server"
    calls = [(span.kind, span.name.rpartition("/")[2]) for span in root.children]
    names = ["Lookup", "Classify", "Lookup", "Execute", "Store"]
    assert calls == [("internal", "replays"), *(("client", name) for name in names)]
    expected = {
        "spillway.request_id": "r1",
        "spillway.cache.outcome": "miss",
        "spillway.policy_step": "complexity",
        "spillway.tier": "medium",
        "spillway.target": "medium-1",
        "spillway.cost_nanousd": 4_350,
        "spillway.flagship_cost_nanousd": 24_000,
        "spillway.escalations": 1,
        "spillway.fallbacks": 0,
        "spillway.accepted": True,
    }
    assert expected.items() <= root.attributes.items()
    assert "quokkas" not in repr([span.attributes for span in root.walk()]) + process.log()


async def test_a_stream_from_the_cache_and_a_refusal_say_so_on_their_spans(tmp_path: Path, receiver: Receiver) -> None:
    async with (
        Neighbourhood(alone=True) as town,
        running(tmp_path, town, receiver.endpoint) as process,
        await ready(process) as channel,
    ):
        town.cache.exact = hit(CacheKind.EXACT_HIT)
        stub = OrchestratorServiceStub(channel)

        async def trace(request: api.CompleteRequest, trace_id: str, spans_min: int) -> tuple[grpc.StatusCode, Span]:
            metadata = (("traceparent", f"00-{trace_id}-{SPAN_ID}-01"),)
            call = stub.StreamComplete(api.StreamCompleteRequest(request=request), metadata=metadata, timeout=30)
            with suppress(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            return await call.code(), await asyncio.to_thread(
                receiver.tree, trace_id, spans_min=spans_min, parent_id=SPAN_ID
            )

        answered, from_cache = await trace(asking(), "1" * 32, 2)
        code, refused = await trace(asking(pinned_target="nowhere", request_id="r2"), "2" * 32, 1)
    assert (answered, code) == (grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION)
    assert from_cache.attributes["spillway.cache.outcome"] == "exact_hit"
    assert from_cache.attributes["spillway.cost_nanousd"] == 0
    assert from_cache.attributes["spillway.tier"] == "simple"
    assert refused.attributes["spillway.request_id"] == "r2"
    assert "spillway.tier" not in refused.attributes


async def test_on_sigterm_a_call_under_way_is_finished_stored_and_recorded(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    async with (
        Neighbourhood(alone=True, orchestrator={"decision_log": str(log)}) as town,
        running(tmp_path, town, "") as process,
        await ready(process) as channel,
    ):
        gate = asyncio.Event()

        async def held() -> None:
            await gate.wait()

        town.executor.before = held
        call = OrchestratorServiceStub(channel).Complete(asking(request_id="last"), timeout=30)
        await asyncio.wait_for(town.executor.working.wait(), 30)
        stopping = asyncio.create_task(asyncio.to_thread(process.stop))
        gate.set()
        response = await call
        assert await stopping == 0
        assert town.cache.stored.qsize() == 1
    assert response.completion.request_id == "last"
    assert '"last"' in log.read_text()
