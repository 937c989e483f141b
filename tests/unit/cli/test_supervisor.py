"""The supervisor over toy processes: restarts, the order of the end, and no orphans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spillway.cli.log_file import LogFile
from spillway.cli.probes import answers_http
from spillway.cli.supervisor import Liveness, ProcessSpec, ProcessState, StartError, Supervisor
from tests.support.waiting import until

SERVER = """
import json, signal, sys, time
log = sys.argv[1]
def end(*_):
    with open(log, "a") as file:
        file.write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(json.dumps({"event": "serving", "listen": "127.0.0.1:1"}), flush=True)
print(json.dumps({"event": "warmed"}), file=sys.stderr, flush=True)
while True:
    time.sleep(60)
"""
STUBBORN = """
import json, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps({"event": "serving"}), flush=True)
while True:
    time.sleep(60)
"""
ANSWERING = """
import http.server, json
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(json.dumps({"event": "serving", "listen": f"http://127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
"""
PARENT = """
import asyncio, sys
from pathlib import Path
from spillway.cli.supervisor import ProcessSpec, Supervisor

async def main():
    command = (sys.executable, "-c", sys.argv[1], sys.argv[2], "toy")
    supervisor = Supervisor([ProcessSpec("toy", command, {})], log_dir=Path(sys.argv[2]).parent)
    supervisor.start()
    await supervisor.wait_serving(20)
    print(supervisor.statuses()[0].pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def toy(name: str, ends: Path, rank: int = 0) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", SERVER, str(ends), name), {}, stop_rank=rank)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_processes_are_serving_once_they_say_so(tmp_path: Path) -> None:
    supervisor = Supervisor([toy("one", tmp_path / "ends")], log_dir=tmp_path)
    supervisor.start()
    try:
        await supervisor.wait_serving(20)
        await until(lambda: supervisor.statuses()[0].last_event == "warmed")
        (status,) = supervisor.statuses()
        assert status.state is ProcessState.SERVING
        assert status.address == "127.0.0.1:1"
        assert status.pid is not None
        assert lives(status.pid)
        assert '"warmed"' in (tmp_path / "one.log").read_text()
    finally:
        await supervisor.stop(5)
    assert supervisor.statuses()[0].state is ProcessState.STOPPED
    assert not lives(status.pid)


async def test_a_killed_process_comes_back(tmp_path: Path) -> None:
    supervisor = Supervisor([toy("one", tmp_path / "ends")], log_dir=tmp_path)
    supervisor.start()
    try:
        await supervisor.wait_serving(20)
        first = supervisor.statuses()[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.statuses()[0].restarts == 1)
        await supervisor.wait_serving(20)
        assert supervisor.statuses()[0].pid not in {None, first}
    finally:
        await supervisor.stop(5)


async def test_a_process_that_hangs_is_killed_and_comes_back(tmp_path: Path) -> None:
    liveness = Liveness(answers_http, interval_s=0.3)
    spec = ProcessSpec("one", (sys.executable, "-c", ANSWERING), {}, liveness=liveness)
    supervisor = Supervisor([spec], log_dir=tmp_path)
    supervisor.start()
    try:
        await supervisor.wait_serving(20)
        first = supervisor.statuses()[0].pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: supervisor.statuses()[0].restarts == 1)
        await supervisor.wait_serving(20)
        second = supervisor.statuses()[0].pid
        assert second not in {None, first}
        assert not lives(first)
        assert "has not answered 3 times in a row: killed" in (tmp_path / "one.log").read_text()
    finally:
        await supervisor.stop(5)


class Answers:
    """Gives the given answers, the last one for ever, and counts the questions."""

    def __init__(self, *answers: bool) -> None:
        self._answers = answers
        self.asked = 0

    async def __call__(self, address: str, timeout_s: float) -> bool:
        self.asked += 1
        return self._answers[min(self.asked, len(self._answers)) - 1]


async def test_two_misses_in_a_row_are_forgiven(tmp_path: Path) -> None:
    answers = Answers(False, False, True, False, False, True, False, True)
    spec = replace(toy("one", tmp_path / "ends"), liveness=Liveness(answers, interval_s=0.001))
    supervisor = Supervisor([spec], log_dir=tmp_path)
    supervisor.start()
    try:
        await until(lambda: answers.asked > 20)
        assert supervisor.statuses()[0].state is ProcessState.SERVING
        assert supervisor.statuses()[0].restarts == 0
    finally:
        await supervisor.stop(5)


async def test_a_process_that_is_being_stopped_may_be_silent(tmp_path: Path) -> None:
    asked, stopping = asyncio.Event(), asyncio.Event()

    async def silent(_address: str, _timeout_s: float) -> bool:
        asked.set()
        await stopping.wait()
        return False

    ends = tmp_path / "ends"
    # The front takes its time to end; only then is the other one told to, and says so when it was not killed.
    mule = ProcessSpec("front", (sys.executable, "-c", STUBBORN), {})
    spec = replace(toy("one", ends, 1), liveness=Liveness(silent, interval_s=0.001, misses_max=1))
    supervisor = Supervisor([mule, spec], log_dir=tmp_path)
    supervisor.start()
    await supervisor.wait_serving(20)
    await asyncio.wait_for(asked.wait(), 20)
    ending = asyncio.create_task(supervisor.stop(0.5))
    await until(lambda: supervisor.statuses()[0].state is ProcessState.STOPPING)
    stopping.set()
    await ending
    assert ends.read_text().split() == ["one"]


async def test_processes_end_by_rank(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    # Ranks that a set would not hand out in their order.
    specs = [toy("provider", ends, 16), toy("front", ends, 8), toy("worker", ends, 9)]
    supervisor = Supervisor(specs, log_dir=tmp_path)
    supervisor.start()
    await supervisor.wait_serving(20)
    await supervisor.stop(5)
    assert ends.read_text().split() == ["front", "worker", "provider"]


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([ProcessSpec("mule", (sys.executable, "-c", STUBBORN), {})], log_dir=tmp_path)
    supervisor.start()
    await supervisor.wait_serving(20)
    pid = supervisor.statuses()[0].pid
    assert pid is not None
    await supervisor.stop(0.05)
    assert not lives(pid)


async def test_a_wrong_configuration_is_not_tried_again(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; print('line 3: no such tier', file=sys.stderr); sys.exit(2)")
    supervisor = Supervisor([ProcessSpec("one", command, {})], log_dir=tmp_path)
    supervisor.start()
    with pytest.raises(StartError, match=r"one ended with code 2(.|\n)*line 3: no such tier"):
        await supervisor.wait_serving(20)
    assert supervisor.statuses()[0].restarts == 0
    await supervisor.stop(5)


async def test_a_process_that_never_serves_is_given_up(tmp_path: Path) -> None:
    supervisor = Supervisor([ProcessSpec("one", (sys.executable, "-c", "raise SystemExit(7)"), {})], log_dir=tmp_path)
    supervisor.start()
    with pytest.raises(StartError, match="one ended with code 7"):
        await supervisor.wait_serving(20)
    assert supervisor.statuses()[0].restarts == 2
    await supervisor.stop(5)


async def test_a_program_that_is_not_there_fails_at_once(tmp_path: Path) -> None:
    supervisor = Supervisor([ProcessSpec("one", (str(tmp_path / "nothing"),), {})], log_dir=tmp_path)
    supervisor.start()
    with pytest.raises(StartError, match="cannot start"):
        await supervisor.wait_serving(20)
    await supervisor.stop(5)


async def test_stopping_while_starting_leaves_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor([toy("one", tmp_path / "ends")], log_dir=tmp_path)
    supervisor.start()
    await supervisor.stop(5)
    assert supervisor.statuses()[0].state is ProcessState.STOPPED
    assert supervisor.statuses()[0].pid is None


async def test_a_supervisor_killed_with_sigkill_leaves_no_orphan(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PARENT, SERVER, str(tmp_path / "ends")]
    parent = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    try:
        assert lives(child)
        parent.kill()
        await parent.wait()
        await until(lambda: not lives(child))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_full_log_moves_aside_and_stays_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", bytes_max=100)
    for number in range(50):
        log.write(f"line {number:04}\n".encode())
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert log.tail()[-1] == "line 0049"
