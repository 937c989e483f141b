"""A receiver of traces over real OTLP gRPC, and a view of them as trees."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.processes import wait_until

__all__ = ["Receiver", "Span"]


@dataclass(slots=True)
class Span:
    """One span, and its children in the order of their starts."""

    service: str
    name: str
    kind: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    error: bool
    links: list[str] = field(default_factory=list)
    """Trace ids."""
    children: list[Span] = field(default_factory=list)

    def walk(self) -> list[Span]:
        return [self, *(span for child in self.children for span in child.walk())]

    def find(self, name_part: str, kind: str = "") -> list[Span]:
        return [span for span in self.walk() if name_part in span.name and kind in span.kind]


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Collects every span that is exported to `endpoint`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[str, list[Span]] = {}
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._onward: trace_service_pb2_grpc.TraceServiceStub | None = None
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(None)
        if self._channel is not None:
            self._channel.close()

    def forward(self, address: str) -> None:
        """Hands what comes in from now on to another receiver as well, as a collector does."""
        self._channel = grpc.insecure_channel(address.removeprefix("http://"))
        self._onward = trace_service_pb2_grpc.TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def Export(  # noqa: N802 - named by the OTLP service
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        if self._onward is not None:
            self._onward.Export(request, timeout=20)
        with self._lock:
            for resource_spans in request.resource_spans:
                service = _values(resource_spans.resource.attributes).get("service.name", "")
                for scope_spans in resource_spans.scope_spans:
                    for span in scope_spans.spans:
                        self._spans.setdefault(span.trace_id.hex(), []).append(_span(service, span))
        return trace_service_pb2.ExportTraceServiceResponse()

    def tree(self, trace_id: str, *, spans_min: int, parent_id: str = "") -> Span:
        """The root of a trace (the span whose parent is `parent_id`) once `spans_min` spans hang together under it."""

        def whole() -> Span | None:
            root = self._assemble(trace_id, parent_id)
            return root if root is not None and len(root.walk()) >= spans_min else None

        try:
            root: Span = wait_until(whole, what=f"{spans_min} connected spans of trace {trace_id}", within_s=20)
        except AssertionError as error:
            seen = [(s.service, s.kind, s.name, s.span_id, s.parent_id) for s in self._spans.get(trace_id, [])]
            raise AssertionError(f"{error}; seen: {seen}") from None
        return root

    def linked(self, trace_id: str, name: str) -> str:
        """The trace of the first span with that name that has a link to `trace_id`, once there is one."""

        def find() -> str:
            with self._lock:
                return next(
                    (
                        each
                        for each, spans in self._spans.items()
                        if any(span.name == name and trace_id in span.links for span in spans)
                    ),
                    "",
                )

        found: str = wait_until(find, what=f"a span {name} with a link to {trace_id}", within_s=20)
        return found

    def traces(self) -> list[str]:
        with self._lock:
            return list(self._spans)

    def _assemble(self, trace_id: str, parent_id: str) -> Span | None:
        with self._lock:
            spans = list(self._spans.get(trace_id, []))
        by_id = {span.span_id: span for span in spans}
        for span in spans:
            span.children = []
        for span in sorted(spans, key=lambda one: one.start_ns):
            if span.parent_id in by_id:
                by_id[span.parent_id].children.append(span)
        return next((span for span in spans if span.parent_id == parent_id), None)


def _span(service: str, span: trace_pb2.Span) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        links=[link.trace_id.hex() for link in span.links],
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
