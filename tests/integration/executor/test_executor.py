"""The executor behind gRPC, against a real provider process: everything over real sockets."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.executor.__main__ import build
from services.runtime.config import load
from services.runtime.errors import SpillwayError, from_rpc_error
from services.runtime.server import start
from spillway.chat import FormatKind, ResponseFormat, ToolDefinition
from spillway.failure import read_detail
from spillway.routing import AgreementSpec, AttemptOutcome, Execution, GateSpec, Plan, PlannedTier, SelfConfidenceSpec
from spillway.v1 import executor_pb2, executor_pb2_grpc
from tests.support.executor_bench import OPEN_S, PROMPT, Bench, config, outcomes, say
from tests.support.processes import Process
from tests.support.waiting import until


def plan(*gates: GateSpec, timeout_s: float = 20.0, **fields: Any) -> Plan:
    return Plan(
        (PlannedTier("simple", ("a1", "a2"), gates, timeout_s), PlannedTier("complex", ("c1", "c2"), (), timeout_s)),
        **fields,
    )


DIRECT = Plan((PlannedTier("complex", ("c1", "c2"), (), 20.0),))


async def test_an_answer_is_accepted_and_priced(bench: Bench) -> None:
    await bench.script(a1=[say("42")])
    execution = await bench.run(plan())
    assert (execution.message.text, execution.accepted, execution.tier) == ("42", True, "simple")
    assert execution.cost_nanousd == 100 * 1_000 + 10 * 4_000


async def test_low_confidence_escalates_and_costs_add_up(bench: Bench) -> None:
    await bench.script(a1=[say("41", confidence=2)], c1=[say("42")])
    execution = await bench.run(plan(SelfConfidenceSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]
    assert (execution.message.text, execution.escalations) == ("42", 1)
    assert execution.cost_nanousd == 11 * (100 * 1_000 + 10 * 4_000)
    assert execution.usage_total.input_tokens == 200


async def test_disagreement_escalates(bench: Bench) -> None:
    await bench.script(a1=[say("#### 41")], a2=[say("#### 42")], c1=[say("43")])
    execution = await bench.run(plan(AgreementSpec()))
    assert outcomes(execution) == [("a1", "rejected"), ("a2", "evidence"), ("c1", "accepted")]


async def test_a_violated_schema_escalates(bench: Bench) -> None:
    await bench.script(a1=[say("not json")], c1=[say('{"n": 1}')])
    form = ResponseFormat(FormatKind.JSON_SCHEMA, '{"type": "object", "required": ["n"]}')
    execution = await bench.run(plan(), response_format=form)
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]


async def test_tool_calls_come_through_and_are_checked(bench: Bench) -> None:
    tool = ToolDefinition("f", "", '{"type": "object", "required": ["x"]}')
    await bench.script(
        a1=[{"tool_calls": [{"name": "f", "arguments": "{}"}]}],
        c1=[{"tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]}],
    )
    execution = await bench.run(plan(), tools=(tool,))
    assert outcomes(execution) == [("a1", "rejected"), ("c1", "accepted")]
    assert [call.arguments_json for call in execution.message.tool_calls] == ['{"x": 1}']


async def test_retry_after_opens_the_breaker(bench: Bench) -> None:
    await bench.script(a1=[{"status": 429, "retry_after_s": 60, "times": 1}, say("42")], a2=[say("43")])
    first = await bench.run(plan())
    assert outcomes(first) == [("a1", "throttled"), ("a2", "accepted")]
    assert outcomes(await bench.run(plan())) == [("a1", "skipped"), ("a2", "accepted")]
    targets = {t.target: t for t in (await bench.stub.ListTargets(executor_pb2.ListTargetsRequest())).targets}
    assert list(targets) == ["a1", "a2", "c1", "c2"]
    assert targets["a1"].breaker == executor_pb2.TargetStatus.BREAKER_STATE_OPEN
    assert 0 < targets["a1"].open_for.seconds <= 60
    assert targets["a2"].window_calls == 2


async def test_targets_that_are_throttled_for_a_moment_are_waited_for(bench: Bench) -> None:
    step = {"status": 429, "retry_after_s": 0.2, "times": 1}
    await bench.script(a1=[step, say("42")], c1=[step, say("42")])
    single = Plan((PlannedTier("simple", ("a1",), (), 20.0), PlannedTier("complex", ("c1",), (), 20.0)))
    execution = await bench.run(single, timeout_s=15.0)
    assert outcomes(execution) == [("a1", "throttled"), ("c1", "throttled"), ("a1", "accepted")]


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ({"status": 500}, AttemptOutcome.ERROR, "PROVIDER_5XX"),
        ({"disconnect": True}, AttemptOutcome.ERROR, "PROVIDER_INTERRUPTED"),
        ({"hang": True}, AttemptOutcome.TIMEOUT, "PROVIDER_TIMEOUT"),
        ({"malformed_json": True}, AttemptOutcome.ERROR, "PROVIDER_UNREADABLE"),
        ({"status": 404}, AttemptOutcome.ERROR, "PROVIDER_NOT_FOUND"),
        ({"status": 401}, AttemptOutcome.ERROR, "PROVIDER_AUTH"),
    ],
)
async def test_faults_fall_back(bench: Bench, fault: dict[str, Any], outcome: AttemptOutcome, reason: str) -> None:
    await bench.script(a1=[fault], a2=[say("42")])
    execution = await bench.run(plan(timeout_s=0.5))
    assert execution.message.text == "42"
    assert (execution.attempts[0].outcome, execution.attempts[0].error_reason) == (outcome, reason)
    assert execution.fallbacks == 1


async def test_a_refused_request_is_tried_nowhere_else(bench: Bench) -> None:
    await bench.script(a1=[{"status": 400}], a2=[say("42")])
    with pytest.raises(SpillwayError) as caught:
        await bench.run(plan())
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_REJECTED")
    assert len(await bench.calls()) == 1


async def test_all_down_is_a_fast_clear_error_without_calls(bench: Bench) -> None:
    await bench.script(**{"*": [{"status": 503}]})
    for _ in range(3):
        with pytest.raises(SpillwayError):
            await bench.run(plan())
    before = len(await bench.calls())
    with pytest.raises(SpillwayError) as caught:
        await bench.run(plan())
    assert len(await bench.calls()) == before
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE")
    assert 0 < (caught.value.retry_after_s or 0) <= OPEN_S * 1.2


async def test_a_drip_cannot_outlast_the_deadline(bench: Bench) -> None:
    slow = say("x" * 4_000, drip=True, chunk_delay_s=0.2)
    await bench.script(**{"*": [slow]})
    began = time.monotonic()
    with pytest.raises(SpillwayError) as caught:
        await bench.run(plan(), timeout_s=1.0)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 10, "the drip alone would take longer than a minute"


async def test_a_stream_of_a_gated_tier_is_held_back(bench: Bench) -> None:
    await bench.script(a1=[say("41 or so, I guess", confidence=1)], a2=[say("x")], c1=[say("42")])
    gated = Plan(
        (
            PlannedTier("simple", ("a1",), (SelfConfidenceSpec(),), 20.0),
            PlannedTier("complex", ("c1",), (SelfConfidenceSpec(1),), 20.0),
        )
    )
    pieces, end = await bench.stream(gated)
    assert isinstance(end, Execution)
    assert pieces == ["42"]
    assert [call["stream"] for call in await bench.calls()] == [False, False]


async def test_the_last_tier_streams_as_it_is_written(bench: Bench) -> None:
    await bench.script(c1=[say("one two three four", chunk_chars=4, chunk_delay_s=0.05)])
    pieces, end = await bench.stream(DIRECT)
    assert len(pieces) > 1  # what arrives together goes on together
    assert isinstance(end, Execution)
    assert "".join(pieces) == end.message.text == "one two three four"
    assert end.attempts[0].usage is not None


@pytest.mark.parametrize("fault", [{"status": 500}, {"stream_cut_after_chunks": 0}, {"disconnect": True}])
async def test_a_stream_that_fails_before_it_began_falls_back_unseen(bench: Bench, fault: dict[str, Any]) -> None:
    await bench.script(c1=[fault], c2=[say("forty-two")])
    pieces, end = await bench.stream(DIRECT)
    assert isinstance(end, Execution)
    assert "".join(pieces) == "forty-two"
    assert [attempt.target for attempt in end.attempts] == ["c1", "c2"]


@pytest.mark.parametrize("fault", ["stream_cut_after_chunks", "stream_error_after_chunks"])
async def test_a_stream_that_breaks_is_interrupted_and_never_spliced(bench: Bench, fault: str) -> None:
    await bench.script(c1=[say("one two three four", chunk_chars=4, **{fault: 2})], c2=[say("forty-two")])
    pieces, end = await bench.stream(DIRECT)
    assert isinstance(end, SpillwayError)
    assert (end.code, end.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")
    assert "".join(pieces) == "one two "
    assert [call["model"] for call in await bench.calls()] == ["c1"]


async def test_a_stream_that_its_deadline_ends_says_so_and_what_it_cost(bench: Bench) -> None:
    await bench.script(c1=[say("one two three four " * 100, chunk_chars=4, chunk_delay_s=0.1)])
    events = aiter(bench.streaming(DIRECT, timeout_s=2.0))
    assert (await anext(events)).delta.text
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in events]
    assert from_rpc_error(caught.value).reason == "DEADLINE_EXCEEDED"
    failed = executor_pb2.FailedExecution()
    assert read_detail(caught.value, failed)
    assert [made.target for made in failed.attempts] == ["c1"]
    assert failed.cost_nanousd == failed.attempts[0].cost_nanousd > 0


async def test_a_caller_who_leaves_ends_the_providers_work(bench: Bench) -> None:
    await bench.script(a1=[{"hang": True}])
    call = bench.stub.Execute(bench.request(plan()), timeout=30)

    async def arrived() -> bool:
        return len(await bench.calls()) == 1

    async def cancelled() -> bool:
        return bool((await bench.calls())[0].get("cancelled"))

    await until(arrived)
    call.cancel()
    await until(cancelled)
    targets = (await bench.stub.ListTargets(executor_pb2.ListTargetsRequest())).targets
    assert [target.in_flight for target in targets] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"tiers": (PlannedTier("simple", ("nobody",)),)}, grpc.StatusCode.FAILED_PRECONDITION, "NO_ELIGIBLE_TARGET"),
        ({"cost_nanousd_max": 1}, grpc.StatusCode.FAILED_PRECONDITION, "COST_CEILING"),
        ({"escalations_max": 9}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"tiers": ()}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_a_plan_that_cannot_be_run_calls_nobody(
    bench: Bench, change: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    request = bench.request(Plan(**{"tiers": plan().tiers, **change}))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.stub.Execute(request, timeout=10)
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (code, reason)
    assert await bench.calls() == []


@pytest.mark.parametrize(
    "schema", ['{"type": "nonsense"}', '{"$ref": "https://example.com/s"}', '{"pattern": "(?=a)b"}']
)
async def test_a_schema_that_is_none_is_refused(bench: Bench, schema: str) -> None:
    with pytest.raises(SpillwayError) as caught:
        await bench.run(plan(), response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SCHEMA")
    assert caught.value.violations[0][0] == "chat.response_format.schema_json"


async def test_every_attempt_is_a_span(provider_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("services.executor.attempts.trace.get_tracer", provider.get_tracer)
    loaded = load(config(tmp_path, provider_url))
    server = await start(await build(loaded), loaded, "127.0.0.1:0")
    async with (
        grpc.aio.insecure_channel(server.address) as channel,
        httpx.AsyncClient(base_url=provider_url, timeout=20, trust_env=False) as http,
    ):
        bench = Bench(executor_pb2_grpc.ExecutorServiceStub(channel), http)
        await bench.script(a1=[say("#### 41")], a2=[say("#### 42")], c1=[{"status": 500}], c2=[say("43")])
        await bench.run(plan(AgreementSpec()))
    await server.stop()
    spans = {str(span.attributes["spillway.target"]): span for span in exporter.get_finished_spans() if span.attributes}
    assert set(spans) == {"a1", "a2", "c1", "c2"}
    first = dict(spans["a1"].attributes or {})
    assert spans["a1"].name == "chat a1"
    assert first["gen_ai.operation.name"] == "chat"
    assert first["gen_ai.provider.name"] == "sandbox"
    assert first["gen_ai.usage.input_tokens"] == 100
    assert first["spillway.attempt.outcome"] == "rejected"
    assert first["spillway.gate.agreement.verdict"] == "fail"
    assert first["spillway.cost_nanousd"] == 100 * 1_000 + 10 * 4_000
    assert dict(spans["a2"].attributes or {})["spillway.attempt.outcome"] == "evidence"
    assert dict(spans["c1"].attributes or {})["error.type"] == "PROVIDER_5XX"
    assert PROMPT not in str([span.to_json() for span in exporter.get_finished_spans()])


async def test_the_process_starts_serves_and_ends_cleanly(provider_url: str, tmp_path: Path) -> None:
    arguments = ["--config", str(config(tmp_path, provider_url)), "--listen", "127.0.0.1:0"]
    process = Process("services.executor", arguments, {}, tmp_path / "log")
    try:
        address = str(process.ready()["listen"])
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = executor_pb2_grpc.ExecutorServiceStub(channel)
            listed = await stub.ListTargets(executor_pb2.ListTargetsRequest(), timeout=20)
            assert [target.target for target in listed.targets] == ["a1", "a2", "c1", "c2"]
    finally:
        process.signal(signal.SIGTERM)
        code = process.stop()
    assert code == 0
