"""The sandbox as a process: its ready line, its refusals to start, its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
STOP_TIMEOUT_S = 20
ROW = {"prompt": "Ping?", "answers": {"m": {"text": "Pong."}}}


def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.sandbox", "--port", "0", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(processes: ExitStack, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    process = processes.enter_context(start(*arguments))
    processes.callback(process.kill)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def ask(url: str, model: str, prompt: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20, trust_env=False)


def test_it_tells_where_it_listens_replays_the_files_given_and_plays_the_script(
    processes: ExitStack, tmp_path: Path
) -> None:
    rows, script = tmp_path / "rows.jsonl", tmp_path / "script.json"
    rows.write_text(json.dumps(ROW))
    script.write_text(json.dumps({"models": {"m": [{"status": 500}, {}]}}))
    _, ready = started(
        processes, "--recorded", str(rows), "--script", str(script), "--alias", "house=m", "--otlp-port", "0"
    )
    assert ready["event"] == "ready"
    assert ready["otlp_endpoint"].startswith("127.0.0.1:")
    assert ask(ready["url"], "m", "Ping?").status_code == 500
    assert ask(ready["url"], "house", "Ping?").json()["choices"][0]["message"]["content"] == "Pong."
    assert ask(ready["url"], "m", "What is 17 + 26?").status_code == 404
    assert httpx.get(f"{ready['url']}/api/services", trust_env=False).json()["data"] == []


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_streams_and_calls_open(
    processes: ExitStack, signal_number: signal.Signals
) -> None:
    process, ready = started(processes, "--otlp-port", "0")
    script = {"models": {"a": [{"text": "long " * 50, "chunk_delay_s": 3600}], "b": [{"drip": True}]}}
    with httpx.Client(base_url=ready["url"], timeout=20, trust_env=False) as http:
        http.put("/sandbox/script", json=script).raise_for_status()
        body = {"model": "a", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            pieces = response.iter_text()  # held: the client hangs up when its iterator goes
            assert next(pieces).startswith("data: ")
            process.send_signal(signal_number)
            stdout, stderr = process.communicate(timeout=STOP_TIMEOUT_S)
            with pytest.raises(httpx.TransportError):
                next(pieces)
    assert (process.returncode, stdout, stderr) == (0, "", "")


def test_without_traces_wanted_there_is_no_trace_store(processes: ExitStack) -> None:
    _, ready = started(processes)
    assert set(ready) == {"event", "url"}
    assert httpx.get(f"{ready['url']}/api/services", trust_env=False).status_code == 404


def test_a_trace_store_alone_answers_as_no_model_and_needs_nothing_of_one(processes: ExitStack) -> None:
    _, ready = started(processes, "--otlp-port", "0", "--traces-only", "--tokenizer", "missing.json")
    assert ready["otlp_endpoint"].startswith("127.0.0.1:")
    assert httpx.get(f"{ready['url']}/api/services", trust_env=False).json()["data"] == []
    assert httpx.get(f"{ready['url']}/healthz", trust_env=False).status_code == 200
    assert "/api/traces" in httpx.get(ready["url"], trust_env=False).text.split()
    assert ask(ready["url"], "gpt-4.1", "What is 17 + 26?").status_code == 404


def test_a_trace_store_that_nobody_could_send_to_is_refused() -> None:
    process = start("--traces-only")
    _, stderr = process.communicate(timeout=STOP_TIMEOUT_S)
    assert process.returncode == 2
    assert "--traces-only needs --otlp-port" in stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--recorded", "{tmp}/missing.jsonl"), "missing.jsonl"),
        (("--recorded", "{tmp}/bad.json"), "bad.json, line 1: not JSON"),
        (("--script", "{tmp}/bad.json"), "bad.json: not JSON"),
        (("--tokenizer", "{tmp}/bad.json"), "cannot load the tokenizer"),
        (("--host", "192.0.2.1"), "assign requested address"),
    ],
)
def test_what_it_cannot_start_with_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    process = start(*(argument.format(tmp=tmp_path) for argument in arguments))
    stdout, stderr = process.communicate(timeout=STOP_TIMEOUT_S)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith("sandbox: ")
    assert told in stderr
    assert stderr.count("\n") == 1
