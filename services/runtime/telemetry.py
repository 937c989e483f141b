"""Traces and metrics of a process: over OTLP, and to be scraped by Prometheus; nothing at all without either.

Promises: with neither there is no provider, no thread and no interceptor, and every span is the no-op one. With an OTLP
endpoint, spans leave within the configured interval from a bounded queue; a collector that is gone costs dropped spans,
one log line a minute, and at most CLOSE_S_MAX at the end. With an address for Prometheus alone there are metrics and no
spans. Services make their own spans with `opentelemetry.trace.get_tracer`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from spillway.settings import Telemetry as TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

    from services.runtime.prometheus import PrometheusEndpoint

__all__ = [
    "CLOSE_S_MAX",
    "PrometheusListenError",
    "Telemetry",
    "certificate_expires_at",
    "context_of",
    "current_parent",
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
_PARENT: Final = "traceparent"
_ENDPOINT_ENV: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
# OpenTelemetry's own switch; "none" for a receiver that takes traces only, such as Jaeger.
_METRICS_ENV: Final = "OTEL_METRICS_EXPORTER"


class PrometheusListenError(Exception):
    """The address for Prometheus cannot be listened on."""


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
    """What `setup` made. With telemetry off, both calls return at once.

    `prometheus_listen` is where metrics can be scraped, "host:port"; empty when they cannot.
    """

    _shutdowns: tuple[Callable[[], object], ...] = ()
    _flushes: tuple[Callable[[], object], ...] = ()
    prometheus_listen: str = ""

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

    An empty `otlp_endpoint` is filled from $OTEL_EXPORTER_OTLP_ENDPOINT; when that and `prometheus_listen` are empty,
    nothing happens. With $OTEL_METRICS_EXPORTER=none only traces are pushed. Raises PrometheusListenError.
    """
    endpoint = settings.otlp_endpoint or os.environ.get(_ENDPOINT_ENV, "")
    if not endpoint and not settings.prometheus_listen:
        return Telemetry()
    processor, pushing = _otlp(endpoint, settings) if endpoint else (None, None)
    readers = [] if pushing is None else [pushing]
    if not settings.prometheus_listen:
        return install(service, settings.sample_ratio, processor, readers)
    from services.runtime.prometheus import PrometheusEndpoint  # noqa: PLC0415 - loaded only when it is wanted

    scraped = PrometheusEndpoint()
    listen = scraped.serve(settings.prometheus_listen)
    made = install(service, settings.sample_ratio, processor, [*readers, scraped.reader], scraped)
    return replace(made, prometheus_listen=listen)


def _otlp(endpoint: str, settings: TelemetrySettings) -> tuple[SpanProcessor, MetricReader | None]:
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
        return processor, None
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint, insecure=insecure, timeout=_EXPORT_TIMEOUT_S),
        export_interval_millis=max(settings.export_interval_s, _METRICS_INTERVAL_S_MIN) * 1_000,
        export_timeout_millis=_EXPORT_TIMEOUT_S * 1_000,
    )
    return processor, reader


def install(
    service: str,
    sample_ratio: float,
    processor: SpanProcessor | None,
    readers: Sequence[MetricReader],
    scraped: PrometheusEndpoint | None = None,
) -> Telemetry:
    """Sets the process's providers with the given ends; no tracer provider without a processor."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415

    resource = _resource(service)
    measures = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    metrics.set_meter_provider(measures)
    timeout_ms = CLOSE_S_MAX * 1_000
    shutdowns: list[Callable[[], object]] = [lambda: measures.shutdown(timeout_millis=timeout_ms)]
    flushes: list[Callable[[], object]] = [lambda: measures.force_flush(timeout_millis=timeout_ms)]
    if processor is not None:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

        spans = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
        )
        spans.add_span_processor(processor)
        trace.set_tracer_provider(spans)
        shutdowns.append(spans.shutdown)
        flushes.append(spans.force_flush)
    if scraped is not None:
        shutdowns.append(scraped.close)
    return Telemetry(tuple(shutdowns), tuple(flushes))


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
    """Whether `setup` has set providers in this process."""
    # Not imported for that: without telemetry the SDK stays unloaded.
    sdk = sys.modules.get("opentelemetry.sdk.metrics")
    return sdk is not None and isinstance(metrics.get_meter_provider(), sdk.MeterProvider)


def tracer() -> trace.Tracer:
    """The runtime's own tracer."""
    return trace.get_tracer(_NAME)


def meter() -> metrics.Meter:
    """The runtime's own meter."""
    return metrics.get_meter(_NAME)


def certificate_expires_at(unix_s: float) -> None:
    """Shows when the certificate that this process serves with expires, as Unix time; again after each rotation."""
    meter().create_gauge(
        "spillway.tls.expiry", unit="s", description="When the certificate served with expires, as Unix time."
    ).set(unix_s)


def current_trace_id() -> str:
    """The W3C trace id of the current span, 32 hex digits; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def current_parent() -> str:
    """The current span as a W3C traceparent, for who goes on with its trace later; empty outside of one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(_PARENT, "")


def context_of(parent: str) -> Context:
    """The context in which spans continue the trace of a traceparent; with an empty or odd one they begin their own."""
    return propagate.extract({_PARENT: parent}, context=Context())


def set_attributes(attributes: Mapping[str, AttributeValue | None]) -> None:
    """Puts `attributes` on the current span, those with a value; nothing when it is not recorded."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
