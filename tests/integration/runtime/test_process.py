"""A service as its own process: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support import toy
from tests.support.otlp import Receiver, Span
from tests.support.processes import Process

LIMITS = "limits: {drain_s: 0, grace_s: 5}\n"


def arguments(folder: Path, more: str = "") -> list[str]:
    toy.settings(folder, LIMITS + more)
    return ["--config", str(folder / "spillway.yaml"), "--listen", "127.0.0.1:0"]


@dataclass(frozen=True)
class Running:
    process: Process
    address: str
    stub: executor_pb2_grpc.ExecutorServiceStub


@contextmanager
def running(folder: Path, more: str = "", env: dict[str, str] | None = None) -> Iterator[Running]:
    process = Process("tests.support.toy", arguments(folder, more), env or {}, folder / "log")
    try:
        address = process.ready()["listen"]
        with grpc.insecure_channel(address) as channel:
            yield Running(process, address, executor_pb2_grpc.ExecutorServiceStub(channel))
    finally:
        process.stop()


def collector(endpoint: str) -> str:
    return f"telemetry: {{otlp_endpoint: '{endpoint}', export_interval_s: 0.05}}\n"


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.toy", *args], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_says_where_it_serves_and_ends_with_0_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    process = Process("tests.support.toy", arguments(tmp_path), {}, tmp_path / "log")
    try:
        line = process.ready()
        assert (line["event"], line["service"]) == ("serving", "toy")
        assert line["listen"].startswith("127.0.0.1:")
        process.signal(number)
    finally:
        assert process.stop() == 0
    lines = [json.loads(one) for one in process.log().splitlines()]
    assert [one["event"] for one in lines] == ["serving", "stopping", "stopped"]
    assert {one["service"] for one in lines} == {"toy"}


def test_a_bad_configuration_ends_with_2_and_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "spillway.yaml"
    path.write_text("providers: {}\nflagship: none\n")
    done = run("--config", str(path), "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 1: providers" in done.stderr
    assert "line 2: flagship" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_ends_with_1_and_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(*arguments(tmp_path)[:2], "--listen", address)
    assert (done.returncode, done.stdout) == (1, "")
    event = json.loads(done.stderr.splitlines()[-1])
    assert (event["event"], event["reason"]) == ("not_serving", f"cannot listen on {address}")


class Traced:
    """A process, a collector, and a trace that a caller has begun."""

    def __init__(self, service: Running, receiver: Receiver) -> None:
        self.service = service
        self.receiver = receiver
        self.trace_id, self.span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]

    def metadata(self, flags: str = "01") -> tuple[tuple[str, str], ...]:
        return (("traceparent", f"00-{self.trace_id}-{self.span_id}-{flags}"),)

    def root(self, spans: int) -> Span:
        return self.receiver.tree(self.trace_id, spans_min=spans, parent_id=self.span_id)

    def nested(self, name: str) -> pb.ExecuteRequest:
        return toy.command("!nested", self.service.address, name)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Receiver]]:
    with (
        Receiver() as receiver,
        running(tmp_path_factory.mktemp("toy"), collector(receiver.endpoint)) as service,
    ):
        yield service, receiver


@pytest.fixture
def traced(observed: tuple[Running, Receiver]) -> Traced:
    return Traced(*observed)


def test_every_hop_is_a_client_and_a_server_span_of_the_callers_trace(traced: Traced) -> None:
    traced.service.stub.Execute(traced.nested("!ok"), metadata=traced.metadata())
    root = traced.root(3)
    (client,) = root.children
    (server,) = client.children
    assert [(s.service, s.kind, s.name) for s in (root, client, server)] == [
        ("spillway-toy", "server", f"{toy.NAME}/Execute"),
        ("spillway-toy", "client", f"{toy.NAME}/StreamExecute"),
        ("spillway-toy", "server", f"{toy.NAME}/StreamExecute"),
    ]
    for span in root.walk():
        assert (span.attributes["rpc.system"], span.attributes["rpc.service"]) == ("grpc", toy.NAME)
        assert span.attributes["rpc.grpc.status_code"] == 0
        assert not span.error


def test_a_failed_call_is_marked_on_both_sides_with_its_reason(traced: Traced) -> None:
    with pytest.raises(grpc.RpcError):
        traced.service.stub.Execute(traced.nested("!unavailable"), metadata=traced.metadata())
    root = traced.root(3)
    for span in root.walk():
        assert span.error
        assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.UNAVAILABLE.value[0]
    assert root.attributes["spillway.error.reason"] == "NO_MODEL_AVAILABLE"


def test_a_callers_fault_is_no_error_of_the_server(traced: Traced) -> None:
    with pytest.raises(grpc.RpcError):
        traced.service.stub.Execute(pb.ExecuteRequest(), metadata=traced.metadata())
    root = traced.root(1)
    assert not root.error
    assert root.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_caller_who_leaves_leaves_whole_spans(traced: Traced) -> None:
    request = pb.StreamExecuteRequest(request=traced.nested("!wait"))
    call = traced.service.stub.StreamExecute(request, metadata=traced.metadata())
    assert next(call).delta.text == "one"
    call.cancel()
    root = traced.root(1)
    assert {s.attributes["rpc.grpc.status_code"] for s in root.walk()} == {grpc.StatusCode.CANCELLED.value[0]}


def test_a_trace_that_the_caller_does_not_keep_is_not_exported(traced: Traced) -> None:
    traced.service.stub.Execute(toy.command("!ok"), metadata=traced.metadata(flags="00"))
    kept = Traced(traced.service, traced.receiver)
    kept.service.stub.Execute(toy.command("!ok"), metadata=kept.metadata())
    kept.root(1)
    assert traced.trace_id not in traced.receiver.traces()


def test_health_checks_leave_no_trace(traced: Traced) -> None:
    before = set(traced.receiver.traces())
    with grpc.insecure_channel(traced.service.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stub.Check(health_pb2.HealthCheckRequest())
    traced.service.stub.Execute(toy.command("!ok"), metadata=traced.metadata())
    traced.root(1)
    assert set(traced.receiver.traces()) - before == {traced.trace_id}


def test_a_defect_is_logged_under_the_trace_id_without_its_text(traced: Traced) -> None:
    with pytest.raises(grpc.RpcError):
        traced.service.stub.Execute(toy.command("!defect"), metadata=traced.metadata())
    log = traced.service.process.log()
    (line,) = [one for one in map(json.loads, log.splitlines()) if one.get("trace_id") == traced.trace_id]
    assert (line["event"], line["exception"], line["reason"]) == ("call_failed", "RuntimeError", "INTERNAL")
    assert any("toy.py" in place for place in line["where"])
    assert toy.SECRET_TEXT not in log


def test_the_environment_names_the_collector_and_the_end_sends_what_is_queued(tmp_path: Path) -> None:
    with Receiver() as receiver:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with running(tmp_path, "telemetry: {export_interval_s: 3600}\n", endpoint) as service:
            service.stub.Execute(toy.command("!ok"))
            assert receiver.traces() == []
            assert service.process.stop() == 0
        assert len(receiver.traces()) == 1


def test_a_collector_that_never_answers_costs_nothing_visible(tmp_path: Path) -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        with running(tmp_path, collector(f"http://127.0.0.1:{hole.getsockname()[1]}")) as service:
            for _ in range(50):
                service.stub.Execute(toy.command("!ok"), timeout=5)
            # The SDK's own shutdown would wait 30 s and more for each exporter.
            assert service.process.stop(within_s=15) == 0
            lines = [json.loads(line) for line in service.process.log().splitlines()]
    assert len([line for line in lines if line["level"] in {"warning", "error"}]) <= 1


def test_without_a_collector_the_sdk_is_not_even_loaded() -> None:
    code = (
        "import sys; from services.runtime import main, telemetry; from spillway.settings import Telemetry;"
        "on = telemetry.setup('toy', Telemetry()).on;"
        "print(on, any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    env = {name: value for name, value in os.environ.items() if name != "OTEL_EXPORTER_OTLP_ENDPOINT"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["False", "False"]
