"""The memory's file: written whole, survives restarts, a broken one is set aside."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest
import structlog

from services.classifier.memory import ClusterMemory
from services.classifier.memory_keeper import SAVE_INTERVAL_S, MemoryKeeper
from services.runtime.clock import FakeClock
from spillway.routing import OutcomeSource, TierOutcome
from tests.support.waiting import until

WAIT_S = 10.0


def memory() -> ClusterMemory:
    made = ClusterMemory(("simple", "complex"), half_life_s=1e6, evidence_min=1, prior_weight=1)
    made.follow("head-1", 4)
    return made


def learn(of: ClusterMemory, clock: FakeClock) -> None:
    of.record([TierOutcome("head-1/2", "simple", True, OutcomeSource.GATES)], clock.unix())


async def test_what_was_learnt_is_found_after_a_restart(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "deep" / "memory.json"
    first = memory()
    keeper = MemoryKeeper(first, file, clock)
    await keeper.load()
    keeper.start()
    learn(first, clock)
    await keeper.close()
    second = memory()
    await MemoryKeeper(second, file, clock).load()
    assert second.clusters == 1
    assert [path.name for path in file.parent.iterdir()] == ["memory.json"]


async def test_it_is_saved_now_and_then_and_only_if_something_was_learnt(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "memory.json"
    learnt = memory()
    keeper = MemoryKeeper(learnt, file, clock)
    await keeper.load()
    keeper.start()
    await until(lambda: clock.sleepers == 1)
    clock.advance(SAVE_INTERVAL_S)
    await until(lambda: clock.sleepers == 1)
    assert not file.exists()
    learn(learnt, clock)
    clock.advance(SAVE_INTERVAL_S)
    await until(file.exists)
    await keeper.close()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"format": "other"}', b"null"])
async def test_a_corrupt_file_is_logged_set_aside_and_begun_anew(tmp_path: Path, data: bytes) -> None:
    clock, file = FakeClock(), tmp_path / "memory.json"
    file.write_bytes(data)
    learnt = memory()
    keeper = MemoryKeeper(learnt, file, clock)
    with structlog.testing.capture_logs() as logs:
        await keeper.load()
    assert [entry["event"] for entry in logs] == ["cluster_memory_corrupt"]
    assert (tmp_path / "memory.json.corrupt").read_bytes() == data
    learn(learnt, clock)
    await keeper.close()
    assert json.loads(file.read_bytes())["format"]


async def test_a_file_that_cannot_be_written_is_logged_and_tried_again(tmp_path: Path) -> None:
    clock, folder = FakeClock(), tmp_path / "folder"
    folder.write_text("a file where a folder should be")
    learnt = memory()
    keeper = MemoryKeeper(learnt, folder / "memory.json", clock)
    learn(learnt, clock)
    with structlog.testing.capture_logs() as logs:
        await keeper.save()
        assert [entry["event"] for entry in logs] == ["cluster_memory_not_saved"]
        folder.unlink()
        await keeper.close()
    assert (folder / "memory.json").exists()


async def test_no_two_writes_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, learnt = FakeClock(), memory()
    keeper = MemoryKeeper(learnt, tmp_path / "memory.json", clock)
    began, release = threading.Event(), threading.Event()
    running: list[int] = []
    write = keeper._write

    def slowly(document: dict[str, object]) -> None:
        running.append(1)
        assert len(running) == 1
        began.set()
        release.wait(WAIT_S)
        write(document)
        running.clear()

    monkeypatch.setattr(keeper, "_write", slowly)
    keeper.start()
    learn(learnt, clock)
    await until(lambda: clock.sleepers == 1)
    clock.advance(SAVE_INTERVAL_S)
    await until(began.is_set)
    learn(learnt, clock)
    closing = asyncio.create_task(keeper.close())
    for _ in range(20):
        await asyncio.sleep(0.001)
    release.set()
    await closing


async def test_closing_while_it_is_written_leaves_the_latest_state(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "memory.json"
    learnt = memory()
    keeper = MemoryKeeper(learnt, file, clock)
    keeper.start()
    learn(learnt, clock)
    await until(lambda: clock.sleepers == 1)
    clock.advance(SAVE_INTERVAL_S)
    await until(lambda: keeper._writing is not None)
    learn(learnt, clock)
    await keeper.close()
    cell = json.loads(file.read_bytes())["heads"][-1]["cells"]["2"]
    assert cell["failed_and_sufficed"]["simple"]["gates"] == [0.0, pytest.approx(2.0, rel=1e-4)]


async def test_the_last_save_comes_even_if_saving_had_ended_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, file = FakeClock(), tmp_path / "memory.json"
    learnt = memory()
    keeper = MemoryKeeper(learnt, file, clock)
    await keeper.load()
    keeper.start()
    await until(lambda: clock.sleepers == 1)
    learn(learnt, clock)
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    with monkeypatch.context() as broken:
        broken.setattr(ClusterMemory, "dump", lambda *_: 1 / 0)
        clock.advance(SAVE_INTERVAL_S)
        await until(lambda: all(task.done() for task in tasks))
    await keeper.close()
    assert json.loads(file.read_text())["heads"][0]["cells"]


async def test_a_pipe_in_its_place_holds_up_nobody(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    os.mkfifo(file)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(WAIT_S):
            await MemoryKeeper(memory(), file, FakeClock()).load()
    assert [entry["event"] for entry in logs] == ["cluster_memory_unreadable"]
