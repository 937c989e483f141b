"""A request's trace, fetched from a Jaeger query API and put together as a tree.

Promises: waits a bounded time for the spans, which the services export a moment after the answer; says whether all that
must be there has come. Reads Jaeger itself and anything that speaks its `/api/traces/{id}`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Span", "Trace", "fetch_trace", "parse_trace"]

WAIT_S = 10.0
PAUSE_S = 0.15
REQUEST_TIMEOUT_S = 2.0
SPANS_MAX = 2_000
# In the name of the server span of the service that callers ask.
FRONT = "OrchestratorService"


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Times in seconds; `parent_id` is empty for the root, or names a span of the caller."""

    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_s: float
    duration_s: float
    error: bool = False
    tags: Mapping[str, str | float | bool] = field(default_factory=dict)

    @property
    def is_attempt(self) -> bool:
        """Whether it is one call of a model."""
        return "gen_ai.request.model" in self.tags or self.name.startswith("chat ")


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans that arrived, and whether the tree has all that it must have."""

    trace_id: str
    spans: tuple[Span, ...]
    whole: bool

    @property
    def roots(self) -> tuple[Span, ...]:
        """Spans whose parent is not here, by start."""
        known = {span.span_id for span in self.spans}
        return _by_start(span for span in self.spans if span.parent_id not in known)

    def children(self, span: Span) -> tuple[Span, ...]:
        """The spans right below one, by start."""
        return _by_start(child for child in self.spans if child.parent_id == span.span_id)


def fetch_trace(
    query_url: str, trace_id: str, *, attempts: int, client: httpx.Client, wait_s: float = WAIT_S
) -> Trace | None:
    """The trace once it is whole, or what has arrived after `wait_s`; None when that is nothing, or nobody
    listens there.

    `attempts` is how many model calls the answer reports, each of which must have its span.
    """
    deadline = time.monotonic() + wait_s
    url = f"{query_url.rstrip('/')}/api/traces/{trace_id}"
    newest: Trace | None = None
    while True:
        try:
            response = client.get(url, timeout=REQUEST_TIMEOUT_S)
            if response.status_code == httpx.codes.OK:
                newest = parse_trace(trace_id, response.json(), attempts=attempts) or newest
        except httpx.ConnectError:
            return newest  # there is no store: waiting would not bring one
        except (httpx.HTTPError, ValueError):
            pass  # an answer of this moment only; the next one may be better
        if (newest is not None and newest.whole) or time.monotonic() >= deadline:
            return newest
        time.sleep(PAUSE_S)


def parse_trace(trace_id: str, value: Any, *, attempts: int) -> Trace | None:
    """The trace in an answer of `/api/traces/{id}`; None when it holds none. Raises ValueError on another form."""
    try:
        data = value["data"]
        if not data:
            return None
        services = {key: process["serviceName"] for key, process in data[0]["processes"].items()}
        spans = tuple(_span(raw, services) for raw in data[0]["spans"][:SPANS_MAX])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("not the form of Jaeger's query API") from error
    return Trace(trace_id, spans, _is_whole(spans, attempts)) if spans else None


def _span(raw: Any, services: Mapping[str, str]) -> Span:
    tags = {tag["key"]: tag["value"] for tag in raw["tags"]}
    parents = [reference["spanID"] for reference in raw.get("references") or () if reference["refType"] == "CHILD_OF"]
    return Span(
        span_id=raw["spanID"],
        parent_id=parents[0] if parents else "",
        name=raw["operationName"],
        service=services.get(raw["processID"], ""),
        kind=str(tags.get("span.kind", "")),
        start_s=raw["startTime"] / 1e6,
        duration_s=raw["duration"] / 1e6,
        error=tags.get("error") in {True, "true"},
        tags=tags,
    )


def _is_whole(spans: Sequence[Span], attempts: int) -> bool:
    """The front's own span as the one root, a span for each attempt, and behind each call of another service its own.

    One root alone says nothing: the executor's spans, when they come first, hang together under its server span.
    """
    known = {span.span_id for span in spans}
    with_server = {span.parent_id for span in spans if span.kind == "server"}
    roots = [span for span in spans if span.parent_id not in known]
    unanswered = [
        span
        for span in spans
        if span.kind == "client" and not span.is_attempt and not span.error and span.span_id not in with_server
    ]
    is_front = len(roots) == 1 and (not roots[0].parent_id or FRONT in roots[0].name)
    return is_front and not unanswered and sum(span.is_attempt for span in spans) >= attempts


def _by_start(spans: Iterator[Span]) -> tuple[Span, ...]:
    return tuple(sorted(spans, key=lambda span: span.start_s))
