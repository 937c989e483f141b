"""The trace store: the newest traces, in memory, in the shape of Jaeger's query JSON.

Pure: spans in, JSON values out; no I/O and no clock. What reads this store reads a real Jaeger too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SPANS_PER_TRACE_MAX", "TRACES_MAX", "Log", "Process", "Reference", "Span", "Tag", "TraceStore"]

TRACES_MAX: Final = 1_000
"""Traces kept; the one that came first goes first."""
SPANS_PER_TRACE_MAX: Final = 2_000
"""Spans kept per trace; later ones are dropped and counted in the trace's warnings."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A key and a value. `type` is one of Jaeger's: string, bool, int64, float64, binary (base64 text)."""

    key: str
    type: str
    value: str | bool | int | float

    def body(self) -> dict[str, Any]:
        """Render for the wire."""
        return {"key": self.key, "type": self.type, "value": self.value}


@dataclass(frozen=True, slots=True)
class Log:
    """An event in a span."""

    timestamp_us: int
    fields: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Another span that this one belongs to. `kind` is CHILD_OF or FOLLOWS_FROM."""

    kind: str
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Process:
    """Who made a span."""

    service: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Ids are lower-case hex: 32 digits for traces, 16 for spans."""

    trace_id: str
    span_id: str
    name: str
    references: tuple[Reference, ...]
    start_us: int
    """Unix time."""
    duration_us: int
    tags: tuple[Tag, ...]
    logs: tuple[Log, ...]
    process: Process


class _Trace:
    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.dropped_spans = 0

    def started_us(self) -> int:
        return min(span.start_us for span in self.spans.values())


class TraceStore:
    """The newest traces. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        """Start empty."""
        self._traces: dict[str, _Trace] = {}  # by trace id, in order of arrival

    def add(self, span: Span) -> bool:
        """Keep a span; the same span again replaces it. False when its trace is full."""
        trace = self._traces.get(span.trace_id)
        if trace is None:
            if len(self._traces) >= TRACES_MAX:
                del self._traces[next(iter(self._traces))]
            trace = self._traces[span.trace_id] = _Trace()
        if len(trace.spans) >= SPANS_PER_TRACE_MAX and span.span_id not in trace.spans:
            trace.dropped_spans += 1
            return False
        trace.spans[span.span_id] = span
        return True

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Render one trace, its spans by start; None when it is not here. The id has 32 lower-case hex digits."""
        trace = self._traces.get(trace_id)
        return None if trace is None else _trace_body(trace_id, trace)

    def recent(self, service: str, limit: int) -> list[dict[str, Any]]:
        """Render the newest traces, by their first span's start, that `service` (if not empty) has a span in."""
        chosen = [
            (trace.started_us(), trace_id, trace)
            for trace_id, trace in self._traces.items()
            if not service or any(span.process.service == service for span in trace.spans.values())
        ]
        chosen.sort(key=lambda item: item[:2], reverse=True)
        return [_trace_body(trace_id, trace) for _, trace_id, trace in chosen[:limit]]

    def services(self) -> list[str]:
        """Name the services that have spans here, sorted."""
        return sorted({span.process.service for trace in self._traces.values() for span in trace.spans.values()})


def _trace_body(trace_id: str, trace: _Trace) -> dict[str, Any]:
    process_ids: dict[Process, str] = {}
    spans = []
    for span in sorted(trace.spans.values(), key=lambda span: (span.start_us, span.span_id)):
        process_id = process_ids.setdefault(span.process, f"p{len(process_ids) + 1}")
        spans.append(_span_body(span, process_id))
    return {
        "traceID": trace_id,
        "spans": spans,
        "processes": {
            process_id: {"serviceName": process.service, "tags": _tag_bodies(process.tags)}
            for process, process_id in process_ids.items()
        },
        "warnings": [f"{trace.dropped_spans} spans dropped: the trace is full"] if trace.dropped_spans else None,
    }


def _span_body(span: Span, process_id: str) -> dict[str, Any]:
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "operationName": span.name,
        "references": [
            {"refType": reference.kind, "traceID": reference.trace_id, "spanID": reference.span_id}
            for reference in span.references
        ],
        "startTime": span.start_us,
        "duration": span.duration_us,
        "tags": _tag_bodies(span.tags),
        "logs": [{"timestamp": log.timestamp_us, "fields": _tag_bodies(log.fields)} for log in span.logs],
        "processID": process_id,
        "warnings": None,
    }


def _tag_bodies(tags: Iterable[Tag]) -> list[dict[str, Any]]:
    return [tag.body() for tag in tags]
