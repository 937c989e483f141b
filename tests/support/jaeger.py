"""Traces as Jaeger's query API tells them, as the same trees that `tests.support.otlp` makes of OTLP."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support.otlp import Span

__all__ = ["fetch", "tree"]

# What Jaeger tells as tags although it is none of the span's attributes.
_DERIVED = {
    "span.kind",
    "error",
    "otel.status_code",
    "otel.status_description",
    "otel.scope.name",
    "otel.scope.version",
}


def fetch(url: str, trace_id: str) -> dict[str, Any]:
    """The only trace in the answer of GET /api/traces/ID."""
    answer = httpx.get(f"{url}/api/traces/{trace_id}", timeout=20, trust_env=False).raise_for_status().json()
    (trace,) = answer["data"]
    assert isinstance(trace, dict)
    return trace


def tree(trace: dict[str, Any]) -> Span:
    """The root, with all spans under it. Attributes that are lists are told as JSON text, so are they here."""
    spans = {span["spanID"]: _span(span, trace["processes"]) for span in trace["spans"]}
    (root,) = [span for span in spans.values() if span.parent_id not in spans]
    for span in sorted(spans.values(), key=lambda one: one.start_ns):
        if span is not root:
            spans[span.parent_id].children.append(span)
    assert len(root.walk()) == len(spans)
    return root


def shape(span: Span) -> tuple[Any, ...]:
    """What both tellings of a span have in common, and that of its children in any order."""
    said = {key: json.dumps(value) if isinstance(value, list) else value for key, value in span.attributes.items()}
    children = sorted((shape(child) for child in span.children), key=repr)
    links = sorted(span.links)
    return (span.span_id, span.service, span.kind, span.name, span.error, sorted(said.items()), links, children)


def _span(span: dict[str, Any], processes: dict[str, Any]) -> Span:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    parents = [reference for reference in span["references"] if reference["refType"] == "CHILD_OF"]
    return Span(
        service=processes[span["processID"]]["serviceName"],
        name=span["operationName"],
        kind=tags["span.kind"],
        span_id=span["spanID"],
        parent_id=parents[0]["spanID"] if parents else "",
        start_ns=span["startTime"] * 1_000,
        end_ns=(span["startTime"] + span["duration"]) * 1_000,
        attributes={key: value for key, value in tags.items() if key not in _DERIVED},
        error=bool(tags.get("error", False)),
        links=[each["traceID"] for each in span["references"] if each["refType"] == "FOLLOWS_FROM"],
    )
