"""Traces and metrics of a process, over OTLP; nothing at all without an endpoint.

Promises: with no endpoint there is no provider, no thread and no interceptor, and every span is the no-op one. With
one, spans leave within the configured interval from a bounded queue; a collector that is gone costs dropped spans, one
log line a minute, and at most CLOSE_S_MAX at the end. Services make their own spans with
`opentelemetry.trace.get_tracer`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from spillway.settings import Telemetry as TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = [
    "CLOSE_S_MAX",
    "Telemetry",
    "current_trace_id",
    "install",
    "is_on",
    "meter",
    "set_attributes",
    "setup",
    "tracer",
]

# Together: what an exit may wait for a collector that does not answer.
CLOSE_S_MAX: Final = 2.0
SPANS_QUEUED_MAX: Final = 8_192
SPANS_BATCH_MAX: Final = 512
_EXPORT_TIMEOUT_S: Final = 5.0
_METRICS_INTERVAL_S_MIN: Final = 5.0
_EXPORTER_LOG_INTERVAL_S: Final = 60.0
_NAME: Final = "spillway.runtime"
_ENDPOINT_ENV: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
# OpenTelemetry's own switch; "none" for a receiver that takes traces only, such as Jaeger.
_METRICS_ENV: Final = "OTEL_METRICS_EXPORTER"


class _OncePerInterval(logging.Filter):
    """Lets one record through per interval, whichever logger it comes from."""

    def __init__(self, interval_s: float, now: Callable[[], float]) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._now = now
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if self._now() < self._next:
            return False
        self._next = self._now() + self._interval_s
        return True


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What `setup` made. With telemetry off, both calls return at once."""

    _shutdowns: tuple[Callable[[], object], ...] = ()
    _flushes: tuple[Callable[[], object], ...] = ()

    @property
    def on(self) -> bool:
        return bool(self._shutdowns)

    def flush(self, timeout_s: float = CLOSE_S_MAX) -> bool:
        """Sends what is queued. Blocks for at most `timeout_s`; False when that was not enough."""
        return _all_within(self._flushes, timeout_s)

    def close(self, timeout_s: float = CLOSE_S_MAX) -> bool:
        """Sends what is queued and ends the exporters. Blocks for at most `timeout_s`; what remains is dropped."""
        return _all_within(self._shutdowns, timeout_s)


def _all_within(calls: tuple[Callable[[], object], ...], timeout_s: float) -> bool:
    """Runs each call in a thread of its own, since the SDK's time limits do not bound a hanging export."""
    threads = [threading.Thread(target=call, daemon=True, name="telemetry-close") for call in calls]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def setup(service: str, settings: TelemetrySettings) -> Telemetry:
    """Sets the process's providers for `service` (e.g. "cache"). Call once per process, before channels and servers.

    An empty `otlp_endpoint` is filled from $OTEL_EXPORTER_OTLP_ENDPOINT; when that is empty too, nothing happens.
    With $OTEL_METRICS_EXPORTER=none only traces are sent.
    """
    endpoint = settings.otlp_endpoint or os.environ.get(_ENDPOINT_ENV, "")
    if not endpoint:
        return Telemetry()
    # The SDK and the exporters are loaded only when they are wanted: 25 MB and a quarter of a second.
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    _quieten_exporters()
    insecure = not endpoint.startswith("https://")
    span_exporter = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=_EXPORT_TIMEOUT_S)
    processor = BatchSpanProcessor(
        span_exporter,
        max_queue_size=SPANS_QUEUED_MAX,
        schedule_delay_millis=settings.export_interval_s * 1_000,
        max_export_batch_size=SPANS_BATCH_MAX,
        export_timeout_millis=_EXPORT_TIMEOUT_S * 1_000,
    )
    if os.environ.get(_METRICS_ENV, "") == "none":
        return install(service, settings.sample_ratio, processor)
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint, insecure=insecure, timeout=_EXPORT_TIMEOUT_S),
        export_interval_millis=max(settings.export_interval_s, _METRICS_INTERVAL_S_MIN) * 1_000,
        export_timeout_millis=_EXPORT_TIMEOUT_S * 1_000,
    )
    return install(service, settings.sample_ratio, processor, reader)


def install(
    service: str, sample_ratio: float, processor: SpanProcessor, reader: MetricReader | None = None
) -> Telemetry:
    """Sets the process's providers with the given ends."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    resource = _resource(service)
    spans = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
    )
    spans.add_span_processor(processor)
    measures = MeterProvider(metric_readers=[reader] if reader else [], resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(measures)
    timeout_ms = CLOSE_S_MAX * 1_000
    return Telemetry(
        _shutdowns=(spans.shutdown, lambda: measures.shutdown(timeout_millis=timeout_ms)),
        _flushes=(spans.force_flush, lambda: measures.force_flush(timeout_millis=timeout_ms)),
    )


def _resource(service: str) -> Resource:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    try:
        release = version("spillway")
    except PackageNotFoundError:  # run from a source tree that is not installed
        release = "0"
    return Resource.create(
        {"service.name": f"spillway-{service}", "service.version": release, "service.instance.id": str(uuid.uuid4())}
    )


def _quieten_exporters() -> None:
    once = _OncePerInterval(_EXPORTER_LOG_INTERVAL_S, time.monotonic)
    for name in (
        "opentelemetry.exporter.otlp.proto.grpc.exporter",
        "opentelemetry.sdk._shared_internal",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.sdk.metrics._internal.export",
    ):
        logging.getLogger(name).addFilter(once)


def is_on() -> bool:
    """Whether this process has a tracer provider."""
    return not isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider))


def tracer() -> trace.Tracer:
    """The runtime's own tracer."""
    return trace.get_tracer(_NAME)


def meter() -> metrics.Meter:
    """The runtime's own meter."""
    return metrics.get_meter(_NAME)


def current_trace_id() -> str:
    """The W3C trace id of the current span, 32 hex digits; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def set_attributes(attributes: Mapping[str, AttributeValue | None]) -> None:
    """Puts `attributes` on the current span, those with a value; nothing when it is not recorded."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
