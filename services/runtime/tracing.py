"""Spans and durations of gRPC calls, on both sides of a hop.

Promises: every call of a Spillway service is one server span, and one client span where it was made with
`open_channel`, in the caller's trace; cancelled and streamed calls too. Health checks, reflection and channelz are not
traced. Why these are not the contrib interceptors: docs/adr/0006-own-grpc-tracing.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from services.runtime import telemetry

__all__ = ["CallOutcome", "ServerCalls", "client_interceptors", "is_infrastructure"]

# By the semantic conventions a server span is an error only for what is the server's fault.
_SERVER_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_OVERLOADED: Final = "OVERLOADED"
_DURATION_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def is_infrastructure(method: str) -> bool:
    """Whether `method` ("/package.Service/Method") is health, reflection or channelz."""
    return method.startswith("/grpc.")


def _attributes(method: str) -> dict[str, str]:
    service, _, name = method.removeprefix("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _durations(meter: Meter, side: str, description: str) -> Histogram:
    return meter.create_histogram(
        f"rpc.{side}.duration",
        unit="s",
        description=description,
        explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
    )


class CallOutcome:
    """How a call ended: OK until someone says otherwise."""

    __slots__ = ("code", "reason")

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.reason = ""


class ServerCalls:
    """Observes the calls that a server answers. Make it after `telemetry.setup`, whose meter it takes by default."""

    def __init__(self, meter: Meter | None = None) -> None:
        meter = meter or telemetry.meter()
        self._tracer = telemetry.tracer()
        self._duration = _durations(meter, "server", "How long calls took, as seen by who answered them.")
        self._active = meter.create_up_down_counter(
            "rpc.server.active_requests", unit="{request}", description="Calls under way."
        )
        self._shed = meter.create_counter(
            "spillway.shed", unit="{request}", description="Calls that ended with the reason OVERLOADED."
        )

    @contextmanager
    def observe(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> Iterator[CallOutcome]:
        """A server span that continues the caller's trace, current while the body runs."""
        outcome = CallOutcome()
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        attributes = _attributes(method)
        started_s = time.perf_counter()
        self._active.add(1, attributes)
        self._shed.add(0, attributes)  # so that the first one is seen as one
        token = otel_context.attach(propagate.extract(carrier))
        try:
            with self._tracer.start_as_current_span(
                method.removeprefix("/"),
                kind=SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    yield outcome
                except BaseException:
                    # Errors become an outcome inside the body; what comes through is a caller who left.
                    if outcome.code is grpc.StatusCode.OK:
                        outcome.code = grpc.StatusCode.CANCELLED
                    raise
                finally:
                    _conclude(span, outcome.code, error=outcome.code in _SERVER_FAULTS)
                    if outcome.reason:
                        span.set_attribute("spillway.error.reason", outcome.reason)
        finally:
            otel_context.detach(token)
            self._active.add(-1, attributes)
            if outcome.reason == _OVERLOADED:
                self._shed.add(1, attributes)
            self._duration.record(
                time.perf_counter() - started_s,
                {**attributes, "rpc.grpc.status_code": outcome.code.value[0]},
            )


def _conclude(span: Span, code: grpc.StatusCode, *, error: bool) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if error:
        span.set_status(StatusCode.ERROR, code.name)


class _ClientCalls:
    """Starts the span of a call, hands its context to the server, and ends the span when the call is done."""

    def __init__(self) -> None:
        self._duration = _durations(telemetry.meter(), "client", "How long calls took, as seen by who made them.")

    def _start(self, details: grpc.aio.ClientCallDetails) -> tuple[Span, grpc.aio.ClientCallDetails]:
        method = _text(details.method)  # bytes, whatever the type stubs say
        span = telemetry.tracer().start_span(
            method.removeprefix("/"), kind=SpanKind.CLIENT, attributes=_attributes(method)
        )
        carrier: dict[str, str] = {}
        propagate.inject(carrier, set_span_in_context(span))
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *carrier.items())
        return span, grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=details.timeout,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )

    async def _call(
        self, continuation: Callable[[Any, Any], Any], details: grpc.aio.ClientCallDetails, request: object
    ) -> Any:
        started_s = time.perf_counter()
        span, traced = self._start(details)
        try:
            call = await continuation(traced, request)
        except BaseException:
            span.set_status(StatusCode.ERROR)
            span.end()
            raise
        attributes = _attributes(_text(details.method))
        call.add_done_callback(lambda done: self._end(span, done, attributes, started_s))
        return call

    def _end(self, span: Span, call: grpc.aio.Call, attributes: dict[str, str], started_s: float) -> None:
        """Ends the span of a call that is done; its code is then there without waiting."""
        waiting = call.code()
        try:
            waiting.send(None)
        except StopIteration as stop:
            code: grpc.StatusCode = stop.value
            _conclude(span, code, error=code is not grpc.StatusCode.OK)
            self._duration.record(
                time.perf_counter() - started_s, {**attributes, "rpc.grpc.status_code": code.value[0]}
            )
        finally:
            waiting.close()
            span.end()


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method


class _UnaryCalls(_ClientCalls, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _StreamCalls(_ClientCalls, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """For a channel; none when telemetry is off. Calls that stream requests are not traced: Spillway has none."""
    return [_UnaryCalls(), _StreamCalls()] if telemetry.is_on() else []
