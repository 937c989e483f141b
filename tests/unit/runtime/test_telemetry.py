"""Telemetry is bounded where the SDK is not, and nothing where it is off."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.runtime import telemetry
from services.runtime.clock import FakeClock
from services.runtime.telemetry import Telemetry, _OncePerInterval


def test_the_end_does_not_wait_for_an_exporter_that_hangs() -> None:
    hang, ended = threading.Event(), threading.Event()
    it = Telemetry(_shutdowns=(hang.wait, ended.set), _flushes=(hang.wait,))
    try:
        assert it.close(timeout_s=0.01) is False
        assert it.flush(timeout_s=0.01) is False
        assert ended.wait(10)  # the other exporter is not held up
    finally:
        hang.set()


def test_the_end_says_when_everything_was_sent() -> None:
    sent = list[str]()
    it = Telemetry(_shutdowns=(lambda: sent.append("spans"), lambda: sent.append("metrics")))
    assert it.on
    assert it.close() is True
    assert sorted(sent) == ["metrics", "spans"]


def test_telemetry_that_is_off_does_nothing() -> None:
    it = Telemetry()
    assert not it.on
    assert it.flush()
    assert it.close()
    assert telemetry.current_trace_id() == ""
    telemetry.set_attributes({"spillway.tier": "simple"})


def test_a_broken_exporter_is_heard_once_per_interval() -> None:
    clock = FakeClock()
    once = _OncePerInterval(60.0, clock.monotonic)
    record = logging.LogRecord("exporter", logging.ERROR, "", 0, "failed", (), None)
    heard = []
    for _ in range(4):
        heard.append(once.filter(record))
        clock.advance(25)
    assert heard == [True, False, False, True]


def test_attributes_without_a_value_are_left_out() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("one") as span:
        telemetry.set_attributes({"spillway.tier": "simple", "spillway.rule": None, "spillway.escalations": 0})
        assert telemetry.current_trace_id() == trace.format_trace_id(span.get_span_context().trace_id)
    (finished,) = exporter.get_finished_spans()
    assert dict(finished.attributes or {}) == {"spillway.tier": "simple", "spillway.escalations": 0}


@pytest.mark.parametrize(("exporter", "measures"), [("", True), ("none", False)])
def test_metrics_can_be_kept_from_a_receiver_of_traces_only(exporter: str, measures: bool) -> None:
    # Providers are set once per process, so this takes one of its own.
    program = (
        "import threading\n"
        "from services.runtime.telemetry import setup\n"
        "from spillway.settings import Telemetry\n"
        "setup('cache', Telemetry(otlp_endpoint='http://127.0.0.1:1'))\n"
        "print(any('Metric' in thread.name for thread in threading.enumerate()), flush=True)\n"
        "import os; os._exit(0)\n"
    )
    env = {**os.environ, "OTEL_METRICS_EXPORTER": exporter}
    run = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == str(measures)
