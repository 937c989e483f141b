"""Following the configuration file: what is taken over, what is refused, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from services.runtime.clock import FakeClock
from services.runtime.config import ConfigError, Loaded, SecretError, load, parse
from services.runtime.reload import POLL_S, RETRY_S, SEARCH_PAUSE_S, SETTLE_S, ConfigState, Reloader
from spillway.configuration.document import Problem
from tests.support.following import numbers, put, through
from tests.support.smallest import SMALLEST
from tests.support.waiting import until

BAD = "version: 1\nproviders: {}\ntiers: []\nnonsense: 3\n"


def text(**sections: Any) -> str:
    return yaml.safe_dump({**SMALLEST, **sections})


A, B, C = text(), text(flagship="a"), text(executor={"confidence_min": 0.5})


class Bench:
    """A reloader over a real file and a fake clock. `trouble` is raised instead of taking anything over."""

    def __init__(self, folder: Path, content: str = A, *, service: str = "executor", can: bool = True) -> None:
        self.path = folder / "spillway.yaml"
        self.path.write_text(content)
        self.clock = FakeClock()
        self.taken: list[Loaded] = []
        self.states: list[ConfigState] = []
        self.trouble: Exception | None = None
        self.started_with = load(self.path)
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.reloader = Reloader(
            service,
            self.started_with,
            reconfigure=self._reconfigure if can else None,
            clock=self.clock,
            meter=self._provider.get_meter("test"),
            on_change=self._changed,
        )

    async def _reconfigure(self, loaded: Loaded) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.taken.append(loaded)

    async def _changed(self, state: ConfigState) -> None:
        self.states.append(state)

    @property
    def versions(self) -> list[str]:
        return [loaded.version for loaded in self.taken]

    def version(self, content: str) -> str:
        return parse(content.encode(), self.path).version

    async def look(self, *, force: bool = False) -> None:
        """A look, with the time that it takes."""
        await self.through(asyncio.create_task(self.reloader.look(force=force)))

    async def through(self, task: asyncio.Task[None]) -> None:
        await through(task, self.clock, SETTLE_S)

    def metrics(self) -> dict[tuple[str, str], float]:
        return numbers(self._reader, "spillway.config.")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_changed_file_is_taken_over_once(bench: Bench) -> None:
    await bench.look()
    assert bench.taken == []
    bench.path.write_text(B)
    await bench.look()
    await bench.look()
    assert bench.versions == [bench.version(B)]
    assert bench.reloader.state.version == bench.version(B)


async def test_other_words_for_the_same_settings_change_nothing(bench: Bench) -> None:
    bench.path.write_text("# a remark\n" + A)
    await bench.look()
    assert bench.taken == []
    assert bench.metrics()["reloads", "unchanged"] == 1


def in_place(path: Path, content: str) -> None:
    path.write_text(content)


def as_configmap(path: Path, content: str) -> None:
    """As the kubelet does it: path -> ..data/name, ..data -> a folder of this version."""
    folder = path.parent / f"..{len(list(path.parent.iterdir()))}"
    folder.mkdir()
    (folder / path.name).write_text(content)
    link = path.parent / "..data_tmp"
    link.symlink_to(folder.name)
    link.replace(path.parent / "..data")
    if not path.is_symlink():
        path.unlink()
        path.symlink_to(Path("..data") / path.name)


@pytest.mark.parametrize("put", [in_place, put, as_configmap])
async def test_it_does_not_matter_how_the_file_is_put_there(bench: Bench, put: Callable[[Path, str], None]) -> None:
    for content in (B, C, B):
        put(bench.path, content)
        await bench.look()
    assert bench.versions == [bench.version(B), bench.version(C), bench.version(B)]


async def test_what_is_still_being_written_is_waited_for(bench: Bench) -> None:
    bench.path.write_text(C)  # whole by chance
    looking = asyncio.create_task(bench.reloader.look())
    await until(lambda: bench.clock.sleepers)
    bench.path.write_text(B)
    await bench.through(looking)
    assert bench.taken == []
    await bench.look()
    assert bench.versions == [bench.version(B)]


async def test_a_bad_file_is_refused_with_every_problem_and_the_old_one_stays(bench: Bench) -> None:
    bench.path.write_text(BAD)
    with capture_logs() as logged:
        await bench.look()
    state = bench.reloader.state
    assert (bench.taken, state.version) == ([], bench.version(A))
    assert {problem.path for problem in state.refused} == {"providers", "tiers", "nonsense"}
    (line,) = logged
    assert (line["event"], line["log_level"], line["version"]) == ("config_refused", "error", bench.version(A))
    assert line["problems"] == [str(problem) for problem in state.refused]
    assert bench.states[-1].refused
    assert bench.metrics()["refused", ""] == 1
    assert bench.metrics()["reloads", "refused"] == 1


@pytest.mark.parametrize("good", [A, B])
async def test_a_good_file_after_a_bad_one_is_good_again(bench: Bench, good: str) -> None:
    bench.path.write_text(BAD)
    await bench.look()
    bench.path.write_text(good)
    await bench.look()
    assert bench.reloader.state.refused == ()
    assert bench.reloader.state.version == bench.version(good)
    assert bench.metrics()["refused", ""] == 0


async def test_a_file_that_is_gone_is_refused_until_it_is_back(bench: Bench) -> None:
    bench.path.unlink()
    await bench.look()
    assert "cannot be read" in str(bench.reloader.state.refused[0])
    bench.path.write_text(A)
    await bench.look()
    assert (bench.reloader.state.refused, bench.taken) == ((), [])


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (ConfigError(Path("x"), [Problem(7, "executor.gate_weights", "is none")]), "executor.gate_weights"),
        (SecretError("the file /k cannot be read"), "the file /k cannot be read"),
        (RuntimeError("a prompt"), "cannot be applied: RuntimeError"),
    ],
)
async def test_what_cannot_be_applied_is_refused_said_once_and_tried_again(
    bench: Bench, trouble: Exception, said: str
) -> None:
    bench.trouble = trouble
    bench.path.write_text(B)
    with capture_logs() as logged:
        await bench.look()
        assert bench.reloader.state.version == bench.version(A)
        assert said in str(bench.reloader.state.refused[0])
        bench.clock.advance(RETRY_S)
        await bench.look()
    assert [line["event"] for line in logged].count("config_refused") == 1
    assert "a prompt" not in json.dumps(logged)
    bench.trouble = None
    await bench.look()
    assert bench.taken == []  # not yet
    bench.clock.advance(RETRY_S)
    await bench.look()
    assert (bench.versions, bench.reloader.state.refused) == ([bench.version(B)], ())


async def test_a_hangup_takes_the_file_over_at_once_and_again(bench: Bench) -> None:
    bench.path.write_text(B)
    for _ in range(2):
        bench.reloader.hang_up()
        (task,) = (task for task in asyncio.all_tasks() if task is not asyncio.current_task())
        await task
    assert bench.versions == [bench.version(B)] * 2
    assert bench.clock.monotonic() == 0.0


async def test_a_version_that_somebody_works_by_is_taken_over_without_waiting(bench: Bench) -> None:
    bench.path.write_text(B)
    await asyncio.gather(*(bench.reloader.look_for(bench.version(B)) for _ in range(20)))
    assert bench.versions == [bench.version(B)]
    assert bench.clock.monotonic() == 0.0


async def test_a_version_that_is_not_in_the_file_is_looked_for_once_in_a_while(bench: Bench) -> None:
    await bench.reloader.look_for("feedfeedfeed")
    bench.path.write_text(B)
    await bench.reloader.look_for(bench.version(B))
    assert bench.taken == []
    bench.clock.advance(SEARCH_PAUSE_S)
    await bench.reloader.look_for(bench.version(B))
    assert bench.versions == [bench.version(B)]


async def test_looking_for_a_version_takes_over_no_other(bench: Bench) -> None:
    bench.path.write_text(C)
    await bench.reloader.look_for(bench.version(B))
    assert bench.taken == []


async def test_what_needs_a_restart_is_kept_named_and_counted(bench: Bench) -> None:
    bench.path.write_text(text(limits={"grace_s": 1.0}, flagship="a"))
    with capture_logs() as logged:
        await bench.look()
    (loaded,) = bench.taken
    assert (loaded.settings.flagship, loaded.settings.limits.grace_s) == ("a", 20.0)
    assert list(bench.reloader.state.kept) == ["limits.grace_s"]
    (warning,) = (line for line in logged if line["event"] == "config_needs_restart")
    assert warning["paths"] == ["limits.grace_s"]
    in_force = bench.version(text(flagship="a"))  # the file as it would be without what is kept
    assert loaded.version == bench.version(text(limits={"grace_s": 1.0}, flagship="a"))
    assert loaded.in_force == bench.reloader.state.in_force == warning["in_force"] == in_force
    assert bench.metrics()["needs_restart", ""] == 1
    bench.path.write_text(A)
    await bench.look()
    assert bench.reloader.state.kept == ()
    assert bench.reloader.state.in_force == ""


async def test_a_process_that_takes_nothing_over_says_that_all_needs_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, can=False)
    bench.path.write_text(B)
    await bench.look()
    assert (bench.reloader.state.version, bench.reloader.state.kept) == (bench.version(A), ("flagship",))
    bench.path.write_text(A)
    await bench.look()
    assert bench.reloader.state.kept == ()


async def test_metrics_say_which_version_is_in_force_and_for_how_long(bench: Bench) -> None:
    assert bench.metrics()["info", bench.version(A)] == 1
    bench.path.write_text(B)
    await bench.look()
    bench.clock.advance(30.0)
    seen = bench.metrics()
    assert (seen["info", bench.version(B)], seen["age", ""], seen["reloads", "applied"]) == (1, 30.0, 1)
    assert ("info", bench.version(A)) not in seen


async def test_it_looks_every_second_until_it_is_closed(bench: Bench) -> None:
    bench.reloader.start()
    bench.path.write_text(B)
    while not bench.taken:
        if bench.clock.sleepers:
            bench.clock.advance(POLL_S)
        await asyncio.sleep(0)
    await bench.reloader.close()
    bench.path.write_text(C)
    bench.clock.advance(10 * POLL_S)
    await asyncio.sleep(0)
    assert bench.versions == [bench.version(B)]


async def test_a_pipe_is_never_read_again(bench: Bench) -> None:
    bench.path.unlink()
    os.mkfifo(bench.path)
    await bench.look()
    await bench.look(force=True)
    assert bench.states == []
