"""`spillway breakers`: where the executors are, what is asked of them, and what a person reads."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spillway.cli.addresses import NoServiceError, addresses_of, find_addresses
from spillway.cli.breakers import breakers_json, breakers_table, show_breakers
from spillway.cli.executors import ExecutorHealth, TargetHealth
from spillway.cli.state import ServiceState, StateFile, SuiteState
from spillway.v1 import executor_pb2, executor_pb2_grpc
from tests.support import fake_services
from tests.support.smallest import smallest_file

COLUMNS = 100
WELL = TargetHealth("small-1", "simple", "gpt-4.1-nano", "closed", 0.0, False, 40, 2, 1, 3, 0.82)
BROKEN = TargetHealth(
    "flagship-1", "complex", "a-model-with-a-very-long-name-2024", "open", 12.4, True, 0, 0, 0, 0, None
)
PROBED = TargetHealth("mid-1", "medium", "gpt-4.1-mini", "half_open", 0.0, False, 5, 5, 0, 1, 12.0)
SEEN = (
    ExecutorHealth("127.0.0.1:50054", (WELL, PROBED, BROKEN)),
    ExecutorHealth("127.0.0.1:50154", error="unavailable"),
)


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("127.0.0.1:50054", ("127.0.0.1:50054",)),
        ("127.0.0.1:1,127.0.0.1:2", ("127.0.0.1:1", "127.0.0.1:2")),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", ("127.0.0.1:1", "127.0.0.1:2")),
        ("ipv6:[::1]:1", ("[::1]:1",)),
        ("[::1]:1", ("[::1]:1",)),
        ("unix:/run/executor.sock", ("unix:/run/executor.sock",)),
        ("dns:///127.0.0.1:7", ("127.0.0.1:7",)),
        ("dns:///no-such-host.invalid:7", ("no-such-host.invalid:7",)),
        ("nonsense", ("nonsense",)),
    ],
)
def test_every_form_of_a_target_is_understood(target: str, addresses: tuple[str, ...]) -> None:
    assert addresses_of(target) == addresses


def test_a_name_is_asked_at_each_of_its_addresses() -> None:
    assert "127.0.0.1:7" in addresses_of("dns:///localhost:7")
    assert len(set(addresses_of("localhost:7"))) == len(addresses_of("localhost:7"))


def test_what_is_said_wins_over_the_suite_and_the_suite_over_the_configuration(tmp_path: Path) -> None:
    services = tuple(
        ServiceState(name, 1, f"127.0.0.1:{n}") for n, name in enumerate(("executor", "cache", "executor-2"))
    )
    executor = {"listen": "127.0.0.1:9", "target": "ipv4:127.0.0.1:9,127.0.0.1:10"}
    config = smallest_file(tmp_path, services={"executor": executor}).rename(tmp_path / "other.yaml")
    with StateFile(tmp_path) as file:
        file.write(SuiteState(7, "127.0.0.1:7", "", "x.yaml", services))
        assert find_addresses("executor", "", None, {}, tmp_path) == ("127.0.0.1:0", "127.0.0.1:2")
        assert find_addresses("executor", "127.0.0.1:5", None, {}, tmp_path) == ("127.0.0.1:5",)
        assert find_addresses("executor", "", config, {}, tmp_path) == ("127.0.0.1:9", "127.0.0.1:10")
    assert find_addresses("executor", "", None, {"SPILLWAY_CONFIG": str(config)}, tmp_path) == (
        "127.0.0.1:9",
        "127.0.0.1:10",
    )
    config.write_text("tiers: 7\n")
    with pytest.raises(NoServiceError, match="providers"):
        find_addresses("executor", "", config, {}, tmp_path)


def test_the_table_says_it_all_in_a_hundred_columns() -> None:
    console = Console(file=io.StringIO(), width=COLUMNS, highlight=False)
    console.print(breakers_table(SEEN))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= COLUMNS
    assert len(lines) == 6
    assert lines[0].split() == ["127.0.0.1:50054"]
    assert lines[2].split() == ["simple", "small-1", "gpt-4.1-nano", "closed", "40", "2", "1", "3", "820", "ms"]
    assert lines[3].split() == ["medium", "mid-1", "gpt-4.1-mini", "half-open", "5", "5", "0", "1", "12", "s"]
    assert "open 12 s (peer)" in lines[4]
    assert lines[5].split() == ["127.0.0.1:50154", "no", "answer:", "unavailable"]


def test_the_json_is_all_that_is_known() -> None:
    first, second = json.loads(breakers_json(SEEN))["executors"]
    assert first["targets"][2]["open_for_s"] == 12.4
    assert first["targets"][2]["latency_average_s"] is None
    assert second == {"address": "127.0.0.1:50154", "targets": [], "error": "unavailable"}


class FakeExecutor(executor_pb2_grpc.ExecutorServiceServicer):
    """Lists one target."""

    async def Execute(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def StreamExecute(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def __init__(self, status: executor_pb2.TargetStatus) -> None:
        self.status = status
        self.asked = asyncio.Event()

    async def ListTargets(self, request: Any, context: Any) -> executor_pb2.ListTargetsResponse:  # noqa: N802
        self.asked.set()
        return executor_pb2.ListTargetsResponse(targets=[self.status])


def serving(fake: FakeExecutor) -> AbstractAsyncContextManager[str]:
    return fake_services.serving(fake, executor_pb2_grpc.add_ExecutorServiceServicer_to_server)


def status(**fields: Any) -> executor_pb2.TargetStatus:
    return executor_pb2.TargetStatus(target="t", tier="simple", model="m", **fields)


async def test_every_executor_is_asked_and_one_that_is_gone_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    opened = status(breaker=executor_pb2.TargetStatus.BREAKER_STATE_OPEN, opened_by_peer=True)
    opened.open_for.FromMilliseconds(2_500)
    closed = status(breaker=executor_pb2.TargetStatus.BREAKER_STATE_CLOSED, window_calls=9, window_slow=4)
    closed.latency_average.FromMilliseconds(70)
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(serving(FakeExecutor(one))) for one in (opened, closed)]
        await show_breakers([*addresses, "127.0.0.1:1"], interval_s=1.0, once=True, as_json=True)
    first, second, third = json.loads(capsys.readouterr().out)["executors"]
    assert (first["targets"][0]["state"], first["targets"][0]["open_for_s"]) == ("open", 2.5)
    assert first["targets"][0]["opened_by_peer"]
    assert (second["targets"][0]["window_slow"], second["targets"][0]["latency_average_s"]) == (4, 0.07)
    assert (third["targets"], third["error"]) == ([], "unavailable")


async def test_without_any_answer_it_says_what_to_do() -> None:
    with pytest.raises(NoServiceError, match=r"127\.0\.0\.1:1 \(unavailable\)(.|\n)*--target"):
        await show_breakers(["127.0.0.1:1"], interval_s=1.0, once=False, as_json=False)


async def test_a_state_of_a_later_version_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    odd = status()
    odd.breaker = 77  # type: ignore[assignment]
    async with serving(FakeExecutor(odd)) as address:
        await show_breakers([address], interval_s=1.0, once=False, as_json=False)
    assert "unknown" in capsys.readouterr().out


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children take SIGINT, also where these tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
async def test_on_a_terminal_it_keeps_looking_until_it_is_ended() -> None:
    fake = FakeExecutor(status(breaker=executor_pb2.TargetStatus.BREAKER_STATE_CLOSED))
    async with serving(fake) as address:
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "spillway.cli", "breakers", "--target", address, "--interval", "0.1"]
        environment = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
        process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)  # noqa: ASYNC220
        os.close(child)
        try:
            async with asyncio.timeout(60):
                await fake.asked.wait()
                fake.status = status(breaker=executor_pb2.TargetStatus.BREAKER_STATE_HALF_OPEN)
                shown = b""
                while b"half-open" not in shown:
                    shown += await asyncio.to_thread(os.read, parent, 4_096)
            assert b"closed" in shown
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 20) in {0, 130}
        finally:
            process.kill()
            process.wait()
            os.close(parent)
