"""`spillway ask` against a fake orchestrator on a real socket: what it reads, what reaches the terminal, its errors."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from spillway.failure import DETAILS_KEY
from spillway.routing import AnswerDelta, CacheKind, CacheOutcome
from spillway.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from spillway.wire import answer_delta_to_proto, completion_to_proto
from tests.support.fake_orchestrators import orchestrator_at
from tests.support.jobs_parts import completion

# Clears the screen, renames the window, and the same begun with the eight-bit CSI; all of it must stay out.
HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07c\x9b2Jd\x7fe\tf\r\ng"
SHOWN = "a[2Jb]0;ownedc2Jde"
ANSWER = completion(HOSTILE, model="mo\x1b[31mdel", cache=CacheOutcome(CacheKind.MISS, "not\x1b]0;owned\x07hing"))


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Answers ANSWER, a stream of it letter by letter; or fails with `failure`."""

    def __init__(self) -> None:
        self.failure: status_pb2.Status | None = None
        self.prompts: list[str] = []

    def Complete(  # noqa: N802 - named by the service
        self, request: orchestrator_pb2.CompleteRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.CompleteResponse:
        self.prompts.append(request.chat.messages[-1].parts[0].text)
        if self.failure is not None:
            pairs: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, self.failure.SerializeToString()),)
            context.set_trailing_metadata((*pairs, ("grpc-retry-pushback-ms", "-1")))
            context.abort(grpc.StatusCode.UNAVAILABLE, "no model could answer")
        return orchestrator_pb2.CompleteResponse(completion=completion_to_proto(ANSWER))

    def StreamComplete(  # noqa: N802 - named by the service
        self, request: orchestrator_pb2.StreamCompleteRequest, context: grpc.ServicerContext
    ) -> Iterator[orchestrator_pb2.StreamCompleteResponse]:
        for piece in HOSTILE:
            yield orchestrator_pb2.StreamCompleteResponse(delta=answer_delta_to_proto(AnswerDelta(piece)))
        yield orchestrator_pb2.StreamCompleteResponse(completion=completion_to_proto(ANSWER))

    def _absent(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    Explain = SubmitJob = GetJob = CancelJob = WatchJob = SendFeedback = _absent


@pytest.fixture
def orchestrator() -> Orchestrator:
    return Orchestrator()


@pytest.fixture
def target(orchestrator: Orchestrator) -> Iterator[str]:
    with orchestrator_at(orchestrator) as address:
        yield address


def spillway(
    directory: Path, *arguments: str | bytes, stdin: bytes = b"", terminal: bool = False
) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and standard error of the command; with `terminal` the former is one."""
    command: list[str | bytes] = [sys.executable, "-m", "spillway.cli", *arguments]
    if not terminal:
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=directory, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reader:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
        with os.fdopen(theirs, "wb", buffering=0) as writer:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=directory,
                timeout=60,
                check=False,
            )
        written = b""
        while piece := _read(reader.fileno()):
            written += piece
    return done.returncode, written, done.stderr


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # a terminal that nobody writes to any more
        return b""


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_an_answer_cannot_command_the_terminal(tmp_path: Path, target: str, how: tuple[str, ...]) -> None:
    code, out, err = spillway(tmp_path, "ask", "--target", target, *how, "x", terminal=True)
    assert code == 0, err
    text = out.decode()
    lines = text.replace("\r\n", "\n").split("\n")
    assert lines[0].startswith(SHOWN)
    assert lines[1] == "g"
    assert "mo[31mdel" in text
    assert "not]0;ownedhing" in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert "\x1b[31m" not in text
    assert not {"\x07", "\x7f", "\x9b"} & set(text)


def test_json_cannot_command_the_terminal_and_loses_nothing(tmp_path: Path, target: str) -> None:
    code, out, err = spillway(tmp_path, "ask", "--target", target, "--json", "x", terminal=True)
    assert code == 0, err
    assert not {"\x1b", "\x07", "\x7f", "\x9b"} & set(out.decode())
    assert json.loads(out)["message"]["parts"][0]["text"] == HOSTILE


def test_an_answer_that_is_piped_is_whole(tmp_path: Path, target: str) -> None:
    _, out, _ = spillway(tmp_path, "ask", "--target", target, "x")
    assert b"\x1b[2J" in out


def test_standard_input_that_is_not_utf8_is_a_sentence(tmp_path: Path, target: str, orchestrator: Orchestrator) -> None:
    code, out, err = spillway(tmp_path, "ask", "--target", target, "-", stdin=b"caf\xe9")
    assert (code, out, err) == (1, b"", b"standard input is not UTF-8 (at byte 4)\n")
    code, _, err = spillway(tmp_path, "ask", "--target", target, b"caf\xe9")
    assert code == 1
    assert b"not valid Unicode" in err
    assert b"Traceback" not in err
    assert orchestrator.prompts == []


def test_standard_input_is_utf8_whatever_the_locale_says(
    tmp_path: Path, target: str, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    spillway(tmp_path, "ask", "--target", target, "--json", "-", stdin="café".encode())
    assert orchestrator.prompts == ["café"]


def refusal() -> status_pb2.Status:
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="no model could answer")
    metadata = {"attempts": "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN"}
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(domain="spillway.dev", reason="NO_MODEL_AVAILABLE", metadata=metadata)
    )
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2_500)
    status.details.add().Pack(retry)
    return status


def test_an_error_says_who_was_tried_and_why_each_failed(
    tmp_path: Path, target: str, orchestrator: Orchestrator
) -> None:
    orchestrator.failure = refusal()
    code, out, err = spillway(tmp_path, "ask", "--target", target, "x")
    assert (code, out) == (1, b"")
    assert b"Tried: small-1 PROVIDER_AUTH, mid-1 BREAKER_OPEN." in err


def test_an_error_is_json_when_the_answer_would_be(tmp_path: Path, target: str, orchestrator: Orchestrator) -> None:
    orchestrator.failure = refusal()
    code, out, _ = spillway(tmp_path, "ask", "--target", target, "--json", "x")
    assert code == 1
    assert json.loads(out) == {
        "error": {
            "code": "UNAVAILABLE",
            "reason": "NO_MODEL_AVAILABLE",
            "message": "no model could answer",
            "violations": [],
            "retry_after_s": 2.5,
            "attempts": "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN",
            "quota": "",
        }
    }
    code, out, _ = spillway(tmp_path, "explain", "--target", target, "--json", "x")
    assert (code, json.loads(out)["error"]["code"]) == (1, "UNIMPLEMENTED")
    code, out, _ = spillway(tmp_path, "ask", "--target", target, "--json", "-", stdin=b"\xff")
    assert (code, json.loads(out)["error"]["message"]) == (1, "standard input is not UTF-8 (at byte 1)")
