"""A process whose configuration file changes while it serves: what it takes over, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.runtime.config import load
from spillway.cli.app import app
from spillway.cli.health import ServiceHealth, service_health
from tests.support.executor_bench import config
from tests.support.following import put
from tests.support.processes import Process, wait_until


@dataclass
class Running:
    """An executor, and its file."""

    process: Process
    address: str
    path: Path
    lines_before: int = 0

    @property
    def health(self) -> ServiceHealth:
        return asyncio.run(service_health("executor", self.address))

    def write(self, **sections: Any) -> str:
        """Changes the file; its version, or nothing when it is bad."""
        raw = yaml.safe_load(self.path.read_text())
        put(self.path, yaml.safe_dump({**raw, **sections}))
        return "" if "nonsense" in sections else load(self.path).version

    def tell(self) -> None:
        self.process.signal(signal.SIGHUP)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Of this test."""
        lines = [json.loads(line) for line in self.process.log().splitlines()[self.lines_before :]]
        return [line for line in lines if line["event"] == name]


@contextmanager
def executor(folder: Path) -> Iterator[Running]:
    path = config(folder, "http://127.0.0.1:1")
    process = Process("services.executor", ["--config", str(path), "--listen", "127.0.0.1:0"], {}, folder / "log")
    try:
        yield Running(process, str(process.ready()["listen"]), path)
    finally:
        process.stop()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with executor(tmp_path_factory.mktemp("executor")) as found:
        yield found


@pytest.fixture
def running(one: Running) -> Iterator[Running]:
    """With the file that it was started with, taken over."""
    first = one.path.read_text()
    one.lines_before = len(one.process.log().splitlines())
    yield one
    one.path.write_text(first)
    one.tell()
    version = load(one.path).version
    wait_until(lambda: one.health.config_version == version and not one.health.config_refused, what="all as before")


def test_a_change_is_found_without_being_told(running: Running) -> None:
    first = running.health
    assert (first.config_version, first.serving) == (load(running.path).version, True)
    version = running.write(flagship="c1")
    wait_until(lambda: running.health.config_version == version, what="the change is taken over")
    assert [line["version"] for line in running.events("config_reloaded")] == [version]


def test_a_bad_file_shows_in_health_and_status_and_the_process_serves_on(running: Running) -> None:
    before = running.health.config_version
    running.write(nonsense="secret", flagship="nobody")
    running.tell()
    wait_until(lambda: running.health.config_refused, what="the file is refused")
    seen = running.health
    assert (seen.serving, seen.config_version) == (True, before)
    assert "nonsense" in seen.config_refused
    assert "flagship" in seen.config_refused
    assert "secret" not in seen.config_refused
    (line,) = running.events("config_refused")
    assert len(line["problems"]) == 2


def test_a_hangup_reads_named_files_again(running: Running, tmp_path: Path) -> None:
    key = tmp_path / "key"
    provider = {"base_url": "http://127.0.0.1:1/v1", "api_key_file": str(key)}
    before = running.health.config_version
    version = running.write(providers={"sandbox": provider})
    running.tell()
    wait_until(lambda: running.health.config_refused, what="the missing key is noticed")
    assert running.health.config_version == before
    key.write_text("k-1")
    running.tell()
    wait_until(lambda: running.health.config_version == version, what="the key is there")
    assert not running.health.config_refused
    assert "k-1" not in running.process.log()


def test_the_level_of_the_log_changes_with_the_file(running: Running) -> None:
    version = running.write(log={"level": "warning"})
    running.tell()
    wait_until(lambda: running.health.config_version == version, what="the change is taken over")
    version = running.write(log={"level": "warning"}, flagship="c1")
    running.tell()
    wait_until(lambda: running.health.config_version == version, what="the next change is taken over")
    assert len(running.events("config_reloaded")) <= 1


def test_status_shows_every_process_and_fails_while_a_file_is_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = {"listen": running.address, "target": running.address}
    gone = {"listen": "127.0.0.1:1", "target": "127.0.0.1:1"}
    services = {**dict.fromkeys(("orchestrator", "classifier", "cache", "ledger"), gone), "executor": listen}
    version = running.write(services=services, limits={"grace_s": 3})
    running.tell()
    wait_until(lambda: running.health.config_version == version, what="the change is taken over")
    monkeypatch.setenv("SPILLWAY_CONFIG", str(running.path))
    named = ["--config", str(running.path)]
    shown = CliRunner().invoke(app, ["status", *named, "--json"])
    seen = {one["service"]: one for one in json.loads(shown.stdout)["services"]}
    assert shown.exit_code == 1
    assert seen["executor"]["config_version"] == version
    assert "limits.grace_s" in seen["executor"]["needs_restart"]
    assert seen["cache"]["error"] == "unavailable"
    table = CliRunner().invoke(app, ["status", *named]).stdout
    assert "needs a restart for" in table
    assert version in table


def test_status_without_any_answer_says_what_to_do(tmp_path: Path) -> None:
    path = config(tmp_path, "http://127.0.0.1:1")
    gone = {"listen": "127.0.0.1:1", "target": "127.0.0.1:1"}
    raw = yaml.safe_load(path.read_text())
    raw["services"] = dict.fromkeys(("orchestrator", "classifier", "cache", "executor", "ledger"), gone)
    path.write_text(yaml.safe_dump(raw))
    shown = CliRunner().invoke(app, ["status", "--config", str(path)])
    assert shown.exit_code == 1
    assert "no service answers" in shown.stderr
