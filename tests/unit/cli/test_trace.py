"""Fetching a trace from Jaeger's query API, and the tree that it becomes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from rich.console import Console

from spillway.cli.trace import Trace, fetch_trace, parse_trace
from spillway.cli.trace_view import trace_view

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(span_id: str, parent: str, name: str, kind: str, process: str, start: int = 0, **tags: Any) -> dict[str, Any]:
    references = [{"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": parent}] if parent else []
    found = [{"key": "span.kind", "type": "string", "value": kind}]
    found += [{"key": key.replace("__", "."), "type": "string", "value": value} for key, value in tags.items()]
    return {
        "traceID": TRACE_ID,
        "spanID": span_id,
        "operationName": name,
        "references": references,
        "startTime": 1_000_000 + start,
        "duration": 10_000 - start,
        "tags": found,
        "logs": [],
        "processID": process,
    }


ROOT = span("01", "", "spillway.v1.OrchestratorService/Complete", "server", "p1")
CALL = span("02", "01", "/spillway.v1.ExecutorService/Execute", "client", "p1", 1000)
SERVED = span("03", "02", "/spillway.v1.ExecutorService/Execute", "server", "p2", 2000)
ATTEMPT = span(
    "04",
    "03",
    "chat small",
    "client",
    "p2",
    3000,
    gen_ai__request__model="small",
    gen_ai__usage__input_tokens=12,
    gen_ai__usage__output_tokens=3,
    spillway__tier="simple",
    spillway__attempt__outcome="rejected",
    spillway__cost_nanousd=2400,
    spillway__gate__hard_failure__verdict="pass",
    spillway__gate__self_confidence__verdict="fail",
    spillway__gate__self_confidence__reason="confidence 1 of 5",
)


def body(*spans: dict[str, Any]) -> dict[str, Any]:
    processes = {"p1": {"serviceName": "spillway-orchestrator"}, "p2": {"serviceName": "spillway-executor"}}
    return {"data": [{"traceID": TRACE_ID, "spans": list(spans), "processes": processes}]}


def parsed(*spans: dict[str, Any], attempts: int = 1) -> Trace:
    trace = parse_trace(TRACE_ID, body(*spans), attempts=attempts)
    assert trace is not None
    return trace


def test_a_trace_with_all_its_parts_is_whole() -> None:
    trace = parsed(ATTEMPT, SERVED, CALL, ROOT)
    assert trace.whole
    (root,) = trace.roots
    assert (root.service, root.kind, root.duration_s) == ("spillway-orchestrator", "server", 0.01)
    (call,) = trace.children(root)
    assert [child.name for child in trace.children(trace.children(call)[0])] == ["chat small"]


@pytest.mark.parametrize(
    "spans",
    [
        (ROOT, CALL, ATTEMPT),  # the executor's server span is missing: two trees, and a call without its other end
        (ROOT, CALL, SERVED),  # the attempt is missing
        (CALL, SERVED, ATTEMPT, span("09", "08", "x", "server", "p1")),  # two roots
        (ROOT, CALL),
        (SERVED, ATTEMPT),  # so far only the executor has exported: one tree, but not the whole one
    ],
)
def test_a_trace_that_lacks_a_part_is_not_whole(spans: tuple[dict[str, Any], ...]) -> None:
    assert not parsed(*spans).whole


def test_a_call_that_failed_needs_no_other_end() -> None:
    failed = span("05", "01", "/spillway.v1.CacheService/Lookup", "client", "p1", 500, error=True)
    assert parsed(ROOT, failed, attempts=0).whole


def test_an_absent_trace_and_a_foreign_form_are_told_apart() -> None:
    assert parse_trace(TRACE_ID, {"data": []}, attempts=0) is None
    assert parse_trace(TRACE_ID, {"data": None}, attempts=0) is None
    foreign: list[Any] = [[], {}, {"data": [{}]}, {"data": "x"}, None]
    for value in foreign:
        with pytest.raises(ValueError, match="Jaeger"):
            parse_trace(TRACE_ID, value, attempts=0)


def answering(*answers: httpx.Response) -> tuple[httpx.Client, list[str]]:
    left, asked = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return left.pop(0) if len(left) > 1 else left[0]

    return httpx.Client(transport=httpx.MockTransport(handle)), asked


def test_the_trace_is_asked_for_until_it_is_whole() -> None:
    absent = httpx.Response(404, json={"data": None, "errors": [{"code": 404, "msg": "trace not found"}]})
    client, asked = answering(
        absent,
        httpx.Response(500),
        httpx.Response(200, json=body(ROOT)),
        httpx.Response(200, json=body(ROOT, CALL, SERVED, ATTEMPT)),
    )
    trace = fetch_trace("http://jaeger/base/", TRACE_ID, attempts=1, client=client)
    assert trace is not None
    assert trace.whole
    assert asked == [f"http://jaeger/base/api/traces/{TRACE_ID}"] * 4


def test_after_its_time_what_has_arrived_is_given() -> None:
    client, _ = answering(httpx.Response(200, json=body(ROOT, CALL)))
    trace = fetch_trace("http://jaeger", TRACE_ID, attempts=1, client=client, wait_s=0)
    assert trace is not None
    assert not trace.whole


def test_no_trace_store_is_no_trace_and_no_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.Client(transport=httpx.MockTransport(refuse))
    assert fetch_trace("http://jaeger", TRACE_ID, attempts=1, client=client) is None


def test_the_tree_names_each_span_its_service_and_what_it_found() -> None:
    lines = trace_view(parsed(ROOT, CALL, SERVED, ATTEMPT), 100).plain.splitlines()
    assert lines[0] == f"trace {TRACE_ID} · 4 spans · 10 ms"
    assert lines[1].startswith("OrchestratorService/Complete ")
    assert lines[2].startswith("└─ ExecutorService/Execute →")
    assert lines[3].startswith("   └─ ExecutorService/Execute ")
    assert "executor" in lines[3]
    assert lines[4].startswith("      └─ chat small ")
    found = "simple · rejected · 12+3 tokens · $0.00000240 · self_confidence fail (confidence 1 of 5)"
    assert lines[5].strip() == found
    assert lines[4].rstrip().endswith("━")


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_the_tree_is_never_wider_than_the_terminal(columns: int) -> None:
    long = span("06", "04", "chat " + "x" * 300, "client", "p2", gen_ai__request__model="y" * 300)
    console = Console(width=columns, record=True, file=None)
    with console.capture() as capture:
        console.print(trace_view(parsed(ROOT, CALL, SERVED, ATTEMPT, long), columns))
    assert all(len(line) <= columns for line in capture.get().splitlines())


def test_spans_that_form_a_loop_are_left_out() -> None:
    first, second = span("0a", "0b", "looped", "internal", "p1"), span("0b", "0a", "looped", "internal", "p1")
    text = trace_view(parsed(ROOT, first, second, attempts=0), 100).plain
    assert "OrchestratorService/Complete" in text
    assert "looped" not in text
