"""`spillway job` against a fake orchestrator on a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spillway.cli.app import app
from spillway.routing import Job, JobState, WebhookDelivery
from tests.support.fake_orchestrators import orchestrator_at
from tests.support.jobs_parts import completion
from tests.support.redis_server import RedisServer
from tests.unit.cli.fake_jobs import FakeJobs

RUNNING = Job("job_1", JobState.RUNNING, tries=1)
DONE = Job("job_1", JobState.SUCCEEDED, completion("forty-two"), tries=1, deliveries=(WebhookDelivery(1.0, 200),))
FAILED = Job("job_1", JobState.FAILED, error_reason="NO_MODEL_AVAILABLE", error_message="no model \x1b[31m", tries=5)


@pytest.fixture
def fake() -> Iterator[FakeJobs]:
    servicer = FakeJobs()
    with orchestrator_at(servicer) as servicer.target:
        yield servicer


def run(fake: FakeJobs, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["job", *arguments, "--target", fake.target])
    return result.exit_code, result.output


def test_submit_prints_the_id_and_sends_what_was_said(fake: FakeJobs) -> None:
    fake.states = [Job("job_1", JobState.QUEUED)]
    options = ["--webhook", "https://x.example/", "--job-timeout", "60", "--strategy", "waterfall", "--tenant", "acme"]
    assert run(fake, "submit", "long work", *options) == (0, "job_1\n")
    (asked,) = fake.asked
    assert asked.request.tenant == "acme"
    assert (asked.webhook_url, asked.timeout.seconds) == ("https://x.example/", 60)
    assert asked.request.options.strategy


def test_submit_and_wait_prints_the_answer(fake: FakeJobs) -> None:
    fake.states = [RUNNING, DONE]
    code, output = run(fake, "submit", "long work", "--wait")
    assert code == 0
    assert "forty-two" in output
    assert "succeeded" in output
    assert "delivered, HTTP 200" in output


def test_watching_a_job_that_fails_fails(fake: FakeJobs) -> None:
    fake.states = [RUNNING, FAILED]
    code, output = run(fake, "watch", "job_1")
    assert code == 1
    assert "NO_MODEL_AVAILABLE" in output


def test_json_is_one_line_a_state(fake: FakeJobs) -> None:
    fake.states = [RUNNING, DONE]
    code, output = run(fake, "watch", "job_1", "--json")
    assert code == 0
    assert [json.loads(line)["state"] for line in output.splitlines()] == ["JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]


@pytest.mark.parametrize("command", ["get", "cancel"])
def test_a_job_is_shown(fake: FakeJobs, command: str) -> None:
    fake.states = [DONE]
    code, output = run(fake, command, "job_1", "--tenant", "acme")
    assert code == 0
    assert "forty-two" in output
    assert (fake.asked[0].job_id, fake.asked[0].tenant) == ("job_1", "acme")


def test_a_job_that_is_not_there_is_a_sentence_and_exit_code_1(fake: FakeJobs) -> None:
    code, output = run(fake, "get", "job_1")
    assert code == 1
    assert "no such job" in output
    assert "Traceback" not in output


def test_dead_letters_are_read_from_redis_as_json_lines(
    redis_server: RedisServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with redis_server.client() as client:
        prefix = "spillway:{jobs}:1:"
        fields = {"state": "failed", "tenant": "acme", "tries": 3, "submitted": 1, "changed": 2, "reason": "INTERNAL"}
        client.hset(f"{prefix}job:job_1", mapping=fields)
        client.zadd(f"{prefix}dead", {"job_1": 2, "forgotten": 3})
    config = tmp_path / "spillway.yaml"
    packaged = Path("spillway/configs/default.yaml").read_text()
    config.write_text(f"{packaged}\norchestrator:\n  redis_url: {redis_server.url}\n")
    result = CliRunner().invoke(app, ["job", "dead", "--config", str(config)])
    captured = capfd.readouterr()
    assert result.exit_code == 0, captured.err
    (line,) = captured.out.splitlines()
    assert json.loads(line) | {"submitted_at": "", "changed_at": ""} == {
        "job_id": "job_1",
        "state": "JOB_STATE_FAILED",
        "error_reason": "INTERNAL",
        "tries": 3,
        "submitted_at": "",
        "changed_at": "",
    }
