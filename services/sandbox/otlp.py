"""The OTLP/gRPC receiver: spans from any OpenTelemetry exporter into the trace store, told the way Jaeger tells them.

Malformed messages are INVALID_ARGUMENT; spans without valid ids, and spans that the store does not keep, are reported
as rejected and harm no others. No credentials, no TLS: for one machine.
"""

import base64
import json
import math
from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from services.sandbox.traces import Log, Process, Reference, Span, Tag, TraceStore

__all__ = ["OTLP_SERVICE", "create_otlp_server", "keep_spans"]

OTLP_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
METRICS_SERVICE: Final = "opentelemetry.proto.collector.metrics.v1.MetricsService"
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one export: gRPC's own default, stated."""
CALLS_CONCURRENT_MAX: Final = 64

_KINDS: Final = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}


def create_otlp_server(store: TraceStore) -> aio.Server:
    """Build a server, not started and bound to no port yet, that fills `store` on the running event loop."""

    async def export(request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        # Parsed here and not by gRPC, which would answer a malformed message with UNKNOWN.
        try:
            message = ExportTraceServiceRequest.FromString(request)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an ExportTraceServiceRequest")
        response = ExportTraceServiceResponse()
        rejected = keep_spans(message, store)
        if rejected:
            response.partial_success.rejected_spans = rejected
            response.partial_success.error_message = "spans without valid ids, or of full traces"
        return response.SerializeToString()

    async def drop(request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        return b""  # an empty response of its type: metrics are taken and not kept

    server = aio.server(
        options=[("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=CALLS_CONCURRENT_MAX,
    )
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
    dropped: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(drop)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(OTLP_SERVICE, {"Export": handler}),
            # Exporters send both to one endpoint, and log an error every few seconds where metrics are not taken.
            grpc.method_handlers_generic_handler(METRICS_SERVICE, {"Export": dropped}),
        )
    )
    return server


def keep_spans(message: ExportTraceServiceRequest, store: TraceStore) -> int:
    """Put all spans of a message into the store; return how many were rejected."""
    rejected = 0
    for resource_spans in message.resource_spans:
        process = _process(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                ids_valid = len(span.trace_id) == 16 and len(span.span_id) == 8
                ids_valid = ids_valid and any(span.trace_id) and any(span.span_id)
                if not ids_valid or not store.add(_span(span, scope_spans.scope, process)):
                    rejected += 1
    return rejected


def _process(resource: Resource) -> Process:
    tags = _tags(resource.attributes)
    service = next((str(tag.value) for tag in tags if tag.key == "service.name"), "unknown_service")
    return Process(service, tuple(tag for tag in tags if tag.key != "service.name"))


def _span(span: trace_pb2.Span, scope: InstrumentationScope, process: Process) -> Span:
    trace_id = span.trace_id.hex()
    references = []
    if any(span.parent_span_id):
        references.append(Reference("CHILD_OF", trace_id, span.parent_span_id.hex()))
    references += [Reference("FOLLOWS_FROM", link.trace_id.hex(), link.span_id.hex()) for link in span.links]
    logs = (
        Log(event.time_unix_nano // 1_000, (Tag("event", "string", event.name), *_tags(event.attributes)))
        for event in span.events
    )
    return Span(
        trace_id=trace_id,
        span_id=span.span_id.hex(),
        name=span.name,
        references=tuple(references),
        start_us=span.start_time_unix_nano // 1_000,
        duration_us=max(0, span.end_time_unix_nano - span.start_time_unix_nano) // 1_000,
        tags=(*_tags(span.attributes), *_derived_tags(span, scope)),
        logs=tuple(logs),
        process=process,
    )


def _derived_tags(span: trace_pb2.Span, scope: InstrumentationScope) -> Iterable[Tag]:
    """Tell as tags what Jaeger has no fields for, under the names that Jaeger uses."""
    if scope.name:
        yield Tag("otel.scope.name", "string", scope.name)
    if scope.version:
        yield Tag("otel.scope.version", "string", scope.version)
    if span.kind in _KINDS:
        yield Tag("span.kind", "string", _KINDS[span.kind])
    if span.trace_state:
        yield Tag("w3c.tracestate", "string", span.trace_state)
    if span.status.code == trace_pb2.Status.STATUS_CODE_OK:
        yield Tag("otel.status_code", "string", "OK")
    if span.status.code == trace_pb2.Status.STATUS_CODE_ERROR:
        yield Tag("otel.status_code", "string", "ERROR")
        yield Tag("error", "bool", True)
    if span.status.message:
        yield Tag("otel.status_description", "string", span.status.message)


def _tags(attributes: Iterable[KeyValue]) -> tuple[Tag, ...]:
    return tuple(_tag(attribute.key, attribute.value) for attribute in attributes)


def _tag(key: str, value: AnyValue) -> Tag:
    plain = _plain(value)
    match plain:
        case bool():
            return Tag(key, "bool", plain)
        case int():
            return Tag(key, "int64", plain)
        case float():
            return Tag(key, "float64", plain)
        case list() | dict():
            return Tag(key, "string", json.dumps(plain))
        case _:
            return Tag(key, "binary" if value.HasField("bytes_value") else "string", plain or "")


def _plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain(item.value) for item in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode("ascii")
        case "double_value" if not math.isfinite(value.double_value):
            return str(value.double_value)  # JSON has no such numbers
        case None:
            return None
        case field:
            return getattr(value, field)
