"""The `spillway` command as a user runs it: the real suite, in an empty directory, on free ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from services.runtime import dev_certs
from spillway.cli.state import SuiteState, read_state
from spillway.client import Client
from spillway.errors import UnavailableError
from tests.support.processes import wait_until

SPILLWAY = [sys.executable, "-m", "spillway.cli"]
MINI, LLAMA, SONNET = "gpt-4o-mini-2024-07-18", "Meta-Llama-3.1-70B-Instruct", "claude-3-5-sonnet-20241022"
# The suite here must not find a provider or a collector that the machine happens to have.
REMOVED = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "SPILLWAY_CONFIG", "SPILLWAY_TARGET")
BEHIND_TLS = """
tls:
  cert_file: certs/{service}/tls.crt
  key_file: certs/{service}/tls.key
  ca_file: certs/{service}/ca.crt
  callers: {orchestrator: [client]}
"""


def environment() -> dict[str, str]:
    removed = {name for name in os.environ if name.endswith("_LISTEN") or name.startswith("SPILLWAY_TLS_")}
    return {key: value for key, value in os.environ.items() if key not in {*REMOVED, *removed}}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@dataclass
class Up:
    """A running `spillway up`."""

    directory: Path
    popen: subprocess.Popen[str]

    @property
    def state(self) -> SuiteState:
        found = read_state(self.directory)
        assert found is not None
        return found

    def pids(self) -> dict[str, int]:
        return {service.name: service.pid for service in self.state.services if service.pid is not None}

    def run(self, *arguments: str, code: int = 0) -> str:
        """Standard output of another command in the same directory."""
        done = subprocess.run(
            [*SPILLWAY, *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr


def patient(directory: Path, packaged: str) -> str:
    """A packaged configuration whose optional hops have time enough on a machine that does much else."""
    text = (resources.files("spillway.configs") / packaged).read_text()
    path = directory / packaged
    path.write_text(f"{text}\norchestrator: {{cache_timeout_s: 5, classifier_timeout_s: 10}}\n")
    return str(path)


def start(directory: Path, *arguments: str, **variables: str) -> Up:
    with (directory / "up.txt").open("w") as output:
        popen = subprocess.Popen(
            [*SPILLWAY, "up", "--ports", "free", *arguments],
            cwd=directory,
            env=environment() | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return Up(directory, popen)


def serving(up: Up) -> bool:
    text = (up.directory / "up.txt").read_text()
    assert up.popen.poll() is None, text
    return "\nserving on " in text


def all_started(up: Up) -> bool:
    assert up.popen.poll() is None, (up.directory / "up.txt").read_text()
    state = read_state(up.directory)
    return state is not None and all(service.pid is not None for service in state.services)


def row(number: int, task: str, **answers: tuple[str, bool]) -> dict[str, Any]:
    names = {"mini": MINI, "llama": LLAMA, "sonnet": SONNET}
    recorded = {names[name]: {"text": text, "correct": right} for name, (text, right) in answers.items()}
    return {"id": f"r{number}", "task": task, "prompt": f"Sum number {number}?", "gold": "", "answers": recorded}


WRONG, RIGHT = False, True
ROWS = [
    # The two agree, and are right; disagree, and the flagship is right; agree on a mistake; all is lost.
    row(1, "a", mini=("The answer is 4.", RIGHT), llama=("So the answer is 4.", RIGHT), sonnet=("4", RIGHT)),
    row(2, "a", mini=("The answer is 5.", WRONG), llama=("The answer is 6.", WRONG), sonnet=("7", RIGHT)),
    row(3, "b", mini=("The answer is 9.", WRONG), llama=("The answer is 9.", WRONG), sonnet=("8", RIGHT)),
    row(4, "b", mini=("The answer is 3.", RIGHT), llama=("The answer is 2.", WRONG), sonnet=("1", WRONG)),
]
# The provider does not know this one: an error in both passes.
UNKNOWN = row(5, "b", mini=("x", RIGHT), llama=("x", RIGHT), sonnet=("x", RIGHT))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("up")
    recorded = write_rows(directory / "recorded.jsonl", ROWS)
    config = patient(directory, "replay.yaml")
    with Path(config).open("a") as file:
        file.write(BEHIND_TLS)
    dev_certs.make(directory / "certs")
    running = start(directory, "--config", config, "--recorded", str(recorded), "--executors", "2")
    try:
        wait_until(lambda: serving(running), what="the suite serves", within_s=90)
        yield running
        pids = running.pids()
        assert len(pids) == 7
        running.popen.send_signal(signal.SIGINT)
        assert running.popen.wait(40) == 0, (directory / "up.txt").read_text()
        assert not [name for name, pid in pids.items() if lives(pid)]
        assert read_state(directory) is None
    finally:
        running.popen.kill()
        running.popen.wait()


def test_a_suite_behind_tls_and_its_commands_need_nothing_beside_the_file(up: Up) -> None:
    with Client(up.state.target) as client, pytest.raises(UnavailableError):
        client.explain("Sum number 1?", timeout_s=20)
    up.run("explain", "Sum number 1?")
    assert all(one["serving"] for one in json.loads(up.run("status", "--json"))["services"])
    assert len(json.loads(up.run("breakers", "--once", "--json"))["executors"]) == 2
    assert [one["error"] for one in json.loads(up.run("cache", "stats", "--json"))["caches"]] == [""]
    assert up.run("cache", "invalidate", "--tenant", "nobody", "--yes") == "0 entries removed\n"


def test_the_demo_shows_a_repeat_the_same_words_and_an_escalation(tmp_path: Path) -> None:
    up = start(tmp_path, "--config", patient(tmp_path, "default.yaml"), "--sandbox", "--demo", "--exit")
    assert up.popen.wait(100) == 0, (tmp_path / "up.txt").read_text()
    text = (tmp_path / "up.txt").read_text()
    assert "the built-in sandbox answers; its answers are scripted" in text
    assert "exact hit" in text
    assert "semantic hit" in text
    totals = re.search(r"8 answered, (\d) from the cache, (\d) escalated · (\S+) instead of (\S+)", text)
    assert totals, text
    assert int(totals[1]) >= 2
    assert int(totals[2]) >= 1
    assert re.search(r"trace [0-9a-f]{32} · \d+ spans", text)
    assert "chat gpt-4.1" in text
    assert "spillway ask" in text
    assert "without its embedding model" not in text
    assert "\x1b" not in text
    log = (tmp_path / ".spillway" / "logs" / "orchestrator.log").read_text().splitlines()
    audited = [json.loads(line) for line in log if '"event": "audited"' in line]
    assert not [audit for audit in audited if audit["outcome"] == "wrong"]
    assert read_state(tmp_path) is None
    started = {int(pid) for pid in re.findall(r"starting +pid (\d+)", text)}
    assert len(started) == 6
    assert not [pid for pid in started if lives(pid)]


def test_ask_shows_the_answer_the_path_the_cost_and_the_trace(up: Up) -> None:
    text = up.run("ask", "--cache", "bypass", "Sum number 2?")
    assert text.startswith("7\n")
    assert "complex · claude-3-5-sonnet" in text
    assert "✗ agreement" in text
    assert "bypass" in text
    for name in (
        "OrchestratorService/Complete",
        "ClassifierService/Classify",
        "ExecutorService/Execute",
        f"chat {MINI}",
        f"chat {LLAMA}",
        f"chat {SONNET}",
    ):
        assert name in text


def test_ask_streams_and_gives_json(up: Up) -> None:
    assert up.run("ask", "--stream", "--cache", "bypass", "Sum number 1?").startswith("The answer is 4.\n")
    value = json.loads(up.run("ask", "--json", "--pin", "claude-3-5-sonnet", "Sum number 1?"))
    assert value["target"] == "claude-3-5-sonnet"
    assert value["message"]["parts"][0]["text"] == "4"


def test_ask_without_a_trace_store_shows_each_hop_and_says_why(up: Up) -> None:
    text = up.run("ask", "--cache", "bypass", "--trace-url", "http://127.0.0.1:1", "Sum number 1?")
    assert "executor" in text
    assert "the trace has not arrived at http://127.0.0.1:1" in text
    assert "chat " not in text


def test_explain_shows_the_plan_and_calls_no_model(up: Up) -> None:
    text = up.run("explain", "Sum number 3?")
    assert "agreement with llama-3.1-70b" in text
    assert "signals, strongest first" in text


def test_errors_are_sentences(up: Up) -> None:
    assert "NO_ELIGIBLE_TARGET" in up.run("ask", "--pin", "nobody", "x", code=1)
    assert "spillway up" in up.run("ask", "--target", "127.0.0.1:1", "x", code=1)
    assert "already runs" in up.run("up", "--ports", "free", "--exit", code=1)
    assert "no-such-file" in up.run("replay", "no-such-file", code=1)


def test_a_replay_reports_the_figures_worked_out_by_hand(up: Up) -> None:
    rows = write_rows(up.directory / "replayed.jsonl", [*ROWS, UNKNOWN])
    text = up.run("replay", str(rows), "--concurrency", "2", "--json", "out.json")
    assert "not as recorded" in text
    found = json.loads((up.directory / "out.json").read_text())
    assert found["flagship_target"] == "claude-3-5-sonnet"
    a, b, mix = found["figures"]
    assert (a["task"], b["task"], mix["task"]) == ("a", "b", "mix")
    assert [one["accuracy"]["value"] for one in (a, b, mix)] == pytest.approx([2 / 2, 0 / 3, 2 / 5])
    assert [one["flagship_accuracy"]["value"] for one in (a, b, mix)] == pytest.approx([2 / 2, 1 / 3, 3 / 5])
    assert mix["accuracy_difference"]["value"] == pytest.approx(-1 / 5)
    assert mix["tier_mix"] == {"simple": 2, "complex": 2}
    assert mix["escalation_rate"] == pytest.approx(2 / 5)
    assert (mix["mismatches"], mix["flagship_errors"], sum(mix["errors"].values())) == (0, 1, 1)
    assert mix["cost_nanousd"] == sum(one["cost_nanousd"] for one in found["routed"]) > 0
    assert mix["flagship_cost_nanousd"] == sum(one["cost_nanousd"] for one in found["flagship"]) > 0
    assert mix["savings"] == pytest.approx(1 - mix["cost_nanousd"] / mix["flagship_cost_nanousd"])
    assert {one["model"] for one in found["flagship"][:4]} == {SONNET}
    # One call at list prices: 3.00 and 15.00 dollars per million tokens are 3,000 and 15,000 nano-dollars per token.
    assert all(one["cost_nanousd"] % 3_000 == 0 for one in found["flagship"])


def test_a_killed_service_comes_back_and_is_used_again(up: Up) -> None:
    before = up.pids()
    os.kill(before["classifier"], signal.SIGKILL)
    wait_until(lambda: up.pids().get("classifier", before["classifier"]) != before["classifier"], what="a new process")

    def judged_again() -> bool:
        value: Mapping[str, Any] = json.loads(up.run("ask", "--json", "--cache", "bypass", "Sum number 1?"))
        return "degraded" not in value["routing"]

    wait_until(judged_again, what="an answer with the classifier")


@pytest.mark.slow
def test_a_service_that_hangs_is_started_again(up: Up) -> None:
    before = up.pids()
    os.kill(before["cache"], signal.SIGSTOP)
    wait_until(lambda: up.pids().get("cache", before["cache"]) != before["cache"], what="a new process", within_s=60)
    assert not lives(before["cache"])
    kept = {"orchestrator", "executor", "executor-2", "sandbox"}
    assert {name: pid for name, pid in up.pids().items() if name in kept} == {name: before[name] for name in kept}


def test_a_missing_embedding_model_is_said(tmp_path: Path) -> None:
    up = start(tmp_path, "--exit", HOME="/proc/x")
    assert up.popen.wait(90) == 0, (tmp_path / "up.txt").read_text()
    assert "\nwithout its embedding model: the classifier judges by heuristics" in (tmp_path / "up.txt").read_text()


def test_a_directory_that_cannot_be_written_in_is_a_sentence() -> None:
    text = Up(Path("/proc"), None).run("up", "--ports", "free", code=1)  # type: ignore[arg-type]
    assert text.startswith("cannot write in /proc (")


def test_killing_up_itself_leaves_no_orphan(tmp_path: Path) -> None:
    up = start(tmp_path)
    try:
        wait_until(lambda: all_started(up), what="every process is started", within_s=60)
        pids = up.pids()
        assert all(lives(pid) for pid in pids.values())
    finally:
        up.popen.kill()
        up.popen.wait()
    wait_until(lambda: not [name for name, pid in pids.items() if lives(pid)], what="nothing left", within_s=20)
    assert read_state(tmp_path) is None


def test_when_nobody_reads_any_more_the_suite_ends_in_order(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SPILLWAY, "up", "--ports", "free"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stdout is not None
        assert popen.stderr is not None
        popen.stdout.readline()
        popen.stdout.close()
        assert popen.stderr.read() == ""
        assert popen.wait(60) == 0
    assert not (tmp_path / ".spillway" / "up.json").exists()


def test_version_and_configuration_commands_need_no_suite(tmp_path: Path) -> None:
    up = Up(tmp_path, None)  # type: ignore[arg-type]
    assert re.fullmatch(r"spillway \d+\.\d+\.\d+\S*\n", up.run("version"))
    assert json.loads(up.run("config", "schema"))["properties"]["tiers"]
    assert ": good, version " in up.run("config", "check")
    (tmp_path / "bad.yaml").write_text("version: 2\n")
    up.run("config", "check", "bad.yaml", code=2)
    assert json.loads(up.run("config", "show"))["flagship"] == "flagship-1"
    up.run("model", "check")
