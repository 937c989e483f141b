"""Rules of the trace store and of what OTLP says to it."""

import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from services.sandbox.otlp import keep_spans
from services.sandbox.traces import SPANS_PER_TRACE_MAX, TRACES_MAX, Process, Span, TraceStore


def span(trace: int, number: int = 1, *, name: str = "s", service: str = "a", start_us: int | None = None) -> Span:
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        name=name,
        references=(),
        start_us=trace if start_us is None else start_us,
        duration_us=1,
        tags=(),
        logs=(),
        process=Process(service, ()),
    )


def export(*spans: OtlpSpan) -> ExportTraceServiceRequest:
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="svc"))])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
    )


def test_the_store_keeps_the_newest_traces() -> None:
    store = TraceStore()
    for trace in range(1, TRACES_MAX + 2):
        assert store.add(span(trace))
    assert store.trace(f"{1:032x}") is None
    assert store.trace(f"{2:032x}") is not None
    assert len(store.recent("", TRACES_MAX * 2)) == TRACES_MAX


def test_a_full_trace_drops_spans_and_says_how_many() -> None:
    store = TraceStore()
    kept = [store.add(span(1, number)) for number in range(1, SPANS_PER_TRACE_MAX + 4)]
    assert kept.count(False) == 3
    assert store.add(span(1, 1, name="again"))
    found = store.trace(f"{1:032x}")
    assert found is not None
    assert len(found["spans"]) == SPANS_PER_TRACE_MAX
    assert found["warnings"] == ["3 spans dropped: the trace is full"]


def test_a_span_that_comes_twice_is_there_once() -> None:
    store = TraceStore()
    store.add(span(1, name="first"))
    store.add(span(1, name="second"))
    found = store.trace(f"{1:032x}")
    assert found is not None
    assert [item["operationName"] for item in found["spans"]] == ["second"]


def test_the_newest_trace_is_the_one_whose_first_span_began_last() -> None:
    store = TraceStore()
    store.add(span(1, 1, start_us=300))
    store.add(span(2, 1, start_us=200))
    store.add(span(1, 2, start_us=100))
    assert [int(found["traceID"], 16) for found in store.recent("", 10)] == [2, 1]


def test_a_trace_belongs_to_every_service_in_it() -> None:
    store = TraceStore()
    store.add(span(1, 1, service="a"))
    store.add(span(1, 2, service="b"))
    store.add(span(2, 1, service="c"))
    assert [len(store.recent(service, 10)) for service in ("a", "b", "c", "d", "")] == [1, 1, 1, 0, 2]
    assert store.services() == ["a", "b", "c"]
    found = store.trace(f"{1:032x}")
    assert found is not None
    assert {key: process["serviceName"] for key, process in found["processes"].items()} == {"p1": "a", "p2": "b"}


def test_spans_without_valid_ids_are_rejected_and_harm_no_others() -> None:
    store = TraceStore()
    good = OtlpSpan(trace_id=b"t" * 16, span_id=b"s" * 8, name="good")
    bad = [
        OtlpSpan(trace_id=b"t", span_id=b"s" * 8),
        OtlpSpan(trace_id=b"t" * 16, span_id=b""),
        OtlpSpan(trace_id=bytes(16), span_id=b"s" * 8),
        OtlpSpan(trace_id=b"t" * 16, span_id=bytes(8)),
    ]
    assert keep_spans(export(*bad, good), store) == 4
    assert [found["spans"][0]["operationName"] for found in store.recent("svc", 10)] == ["good"]


def test_every_kind_of_attribute_becomes_a_tag_that_json_can_carry() -> None:
    inner = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(int_value=1))]))
    values = {
        "text": AnyValue(string_value="x"),
        "bytes": AnyValue(bytes_value=b"\x00\xff"),
        "array": AnyValue(array_value=ArrayValue(values=[AnyValue(bool_value=True), AnyValue(), inner])),
        "nan": AnyValue(double_value=float("nan")),
        "nothing": AnyValue(),
    }
    attributes = [KeyValue(key=key, value=value) for key, value in values.items()]
    store = TraceStore()
    keep_spans(export(OtlpSpan(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=attributes)), store)
    ((found,),) = (trace["spans"] for trace in store.recent("", 1))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {tag["key"]: (tag["type"], tag["value"]) for tag in found["tags"]} == {
        "text": ("string", "x"),
        "bytes": ("binary", "AP8="),
        "array": ("string", '[true, null, {"k": 1}]'),
        "nan": ("string", "nan"),
        "nothing": ("string", ""),
    }


def test_a_span_that_ends_before_it_begins_has_no_negative_duration() -> None:
    store = TraceStore()
    backwards = OtlpSpan(
        trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=5_000_000, end_time_unix_nano=4_000_000
    )
    keep_spans(export(backwards), store)
    ((found,),) = (trace["spans"] for trace in store.recent("", 1))
    assert (found["startTime"], found["duration"]) == (5_000, 0)
