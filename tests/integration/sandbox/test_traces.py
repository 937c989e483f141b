"""The trace store, filled by the SDK's own exporter over real OTLP and read over HTTP."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode

from tests.integration.sandbox.conftest import Sandbox


@pytest.fixture
def providers(traced: Sandbox) -> Iterator[dict[str, TracerProvider]]:
    """Two services that export to the sandbox; a span is there once it has ended."""
    made = {}
    for service in ("front", "back"):
        made[service] = TracerProvider(resource=Resource({"service.name": service, "service.version": "7"}))
        exporter = OTLPSpanExporter(endpoint=traced.otlp_endpoint, insecure=True, timeout=10)
        made[service].add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    for provider in made.values():
        provider.shutdown()


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


async def fetch(traced: Sandbox, path: str) -> Any:
    body = (await traced.http.get(path)).json()
    assert body["errors"] is None
    return body["data"]


async def test_a_trace_over_two_services_is_told_as_jaeger_tells_it(
    traced: Sandbox, providers: dict[str, TracerProvider]
) -> None:
    front, back = providers["front"].get_tracer("front-code", "1.2"), providers["back"].get_tracer("back-code")
    with front.start_as_current_span("Complete", kind=SpanKind.SERVER) as root:
        root.set_attributes({"tokens": 12, "score": 0.5, "hit": False, "tiers": ["a", "b"], "model": "big"})
        root.add_event("escalated", {"to": "b"})
        linked = root.get_span_context()
        with back.start_as_current_span("Execute", kind=SpanKind.CLIENT, links=[Link(linked)]) as child:
            child.set_status(StatusCode.ERROR, "no luck")
    trace_id = trace.format_trace_id(linked.trace_id)

    (found,) = await fetch(traced, f"/api/traces/{trace_id}")
    assert found["traceID"] == trace_id
    complete, execute = found["spans"]
    assert (complete["operationName"], complete["references"]) == ("Complete", [])
    root_reference = {"traceID": trace_id, "spanID": complete["spanID"]}
    assert execute["references"] == [
        {"refType": "CHILD_OF", **root_reference},
        {"refType": "FOLLOWS_FROM", **root_reference},
    ]
    assert complete["spanID"] == trace.format_span_id(linked.span_id)
    assert complete["startTime"] <= execute["startTime"]
    assert complete["duration"] >= execute["duration"] >= 0
    assert {tag["key"]: tag["type"] for tag in complete["tags"]}.items() >= {
        "tokens": "int64",
        "score": "float64",
        "hit": "bool",
        "tiers": "string",
        "model": "string",
    }.items()
    assert (
        tags(complete).items()
        >= {
            "tokens": 12,
            "score": 0.5,
            "hit": False,
            "tiers": '["a", "b"]',
            "span.kind": "server",
            "otel.scope.name": "front-code",
            "otel.scope.version": "1.2",
        }.items()
    )
    assert not {"error", "otel.status_code"} & set(tags(complete))
    assert (
        tags(execute).items()
        >= {
            "span.kind": "client",
            "otel.status_code": "ERROR",
            "error": True,
            "otel.status_description": "no luck",
        }.items()
    )
    (log,) = complete["logs"]
    assert log["fields"] == [
        {"key": "event", "type": "string", "value": "escalated"},
        {"key": "to", "type": "string", "value": "b"},
    ]
    processes = found["processes"]
    assert [processes[span["processID"]]["serviceName"] for span in found["spans"]] == ["front", "back"]
    assert {"key": "service.version", "type": "string", "value": "7"} in processes["p1"]["tags"]


async def test_traces_are_listed_newest_first_by_service_up_to_the_limit(
    traced: Sandbox, providers: dict[str, TracerProvider]
) -> None:
    for service, name in (("front", "1"), ("back", "2"), ("front", "3")):
        providers[service].get_tracer("t").start_span(name).end()

    async def names(query: str) -> list[str]:
        return [found["spans"][0]["operationName"] for found in await fetch(traced, f"/api/traces{query}")]

    assert await names("") == ["3", "2", "1"]
    assert await names("?service=front") == ["3", "1"]
    assert await names("?service=front&limit=1") == ["3"]
    assert await names("?service=nobody") == []
    assert await fetch(traced, "/api/services") == ["back", "front"]


async def test_an_unknown_trace_is_a_404_and_a_wrong_id_or_limit_a_400(traced: Sandbox) -> None:
    unknown = await traced.http.get(f"/api/traces/{'a' * 32}")
    assert unknown.status_code == 404
    assert unknown.json() == {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}
    for path in ("/api/traces/xyz", f"/api/traces/{'a' * 33}", "/api/traces?limit=0", "/api/traces?limit=9999999999"):
        assert (await traced.http.get(path)).status_code == 400


async def test_malformed_otlp_is_an_invalid_argument_and_later_exports_go_on(
    traced: Sandbox, providers: dict[str, TracerProvider]
) -> None:
    assert traced.otlp_endpoint is not None
    async with grpc.aio.insecure_channel(traced.otlp_endpoint) as channel:
        export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(b"\xff\xff\xff", timeout=10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert await export(ExportTraceServiceRequest().SerializeToString(), timeout=10) == b""
    providers["front"].get_tracer("t").start_span("after").end()
    assert await fetch(traced, "/api/services") == ["front"]


async def test_metrics_sent_to_the_same_endpoint_are_taken_and_dropped(traced: Sandbox) -> None:
    assert traced.otlp_endpoint is not None
    async with grpc.aio.insecure_channel(traced.otlp_endpoint) as channel:
        export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        )
        assert await export(b"", timeout=10) == b""
