"""The decision log: what a line holds, and what becomes of lines that cannot be written."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format

from services.orchestrator import decision_log as module
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.record import DecisionRecord, end_user_hash, json_line, prompt_sha256
from services.runtime.errors import Unavailable
from spillway import wire
from spillway.v1 import ledger_pb2
from tests.support.processes import wait_until
from tests.unit.orchestrator.fakes import Bench
from tests.unit.orchestrator.ladder import request_of, settings_of

PROMPT = "The quokka\u2028question\n"


async def a_record(*, head_chars: int = 0, fail: bool = False) -> DecisionRecord:
    bench = Bench(settings_of(orchestrator={"prompt_head_chars": head_chars}))
    request = request_of(PROMPT, tenant="acme", end_user="jane@example.org", endpoint="chat", tags=("a",))
    run = bench.pipeline.begin(request, remaining_s=30, trace_id="ab" * 16)
    if fail:
        bench.executor.gives = Unavailable("NO_MODEL_AVAILABLE", "no model could answer")
        with pytest.raises(Unavailable):
            await bench.pipeline.complete(run)
    else:
        await bench.pipeline.complete(run)
    return run.record()


def lines_of(path: Path) -> list[ledger_pb2.DecisionRecord]:
    return [json_format.Parse(line, ledger_pb2.DecisionRecord()) for line in path.read_bytes().splitlines()]


async def test_a_line_is_the_records_protobuf_json_on_one_line() -> None:
    record = await a_record()
    line = json_line(record)
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    pb = json_format.Parse(line, ledger_pb2.DecisionRecord())
    assert wire.routing_decision_from_proto(pb.routing) == record.routing
    assert tuple(wire.attempt_from_proto(each) for each in pb.attempts) == record.attempts
    assert pb.cost.cost_nanousd == 4_350
    assert [hop.hop for hop in pb.hops] == [
        "users",
        "cache.exact",
        "classifier",
        "cache.semantic",
        "policy",
        "executor",
    ]
    assert (pb.tier, pb.target, pb.accepted, pb.escalations) == ("medium", "medium-1", True, 1)
    assert (pb.config_version, pb.trace_id, pb.status_code) == ("c0ffee", "ab" * 16, 0)
    raw = json.loads(line)
    assert raw["config_version"] == "c0ffee"
    assert raw["received_at"].endswith("Z")
    assert raw["latency"] == "0.504s"


async def test_a_record_holds_neither_prompt_nor_person() -> None:
    line = json_line(await a_record()).decode()
    assert "quokka" not in line
    assert "jane" not in line
    assert "Paris" not in line
    assert prompt_sha256(PROMPT) in line
    assert end_user_hash("acme", "jane@example.org") in line


async def test_the_head_of_the_prompt_is_kept_only_as_far_as_configured() -> None:
    record = await a_record(head_chars=12)
    assert record.prompt_head == "The quokka\u2028q"
    assert len(json_line(record).decode().splitlines()) == 1


async def test_a_failed_request_is_recorded_with_its_reason() -> None:
    record = await a_record(fail=True)
    assert (record.status_code, record.error_reason) == (14, "NO_MODEL_AVAILABLE")
    assert (record.tier, record.accepted, record.cost.cost_nanousd) == ("", False, 0)
    assert record.routing.plan is not None


def test_the_same_person_has_another_hash_with_another_tenant() -> None:
    assert end_user_hash("a", "bc") != end_user_hash("ab", "c")
    assert end_user_hash("1", "1:x") != end_user_hash("11:", "1:x")
    assert end_user_hash("a", "") == ""


async def test_what_was_offered_is_in_the_file_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "decisions.jsonl"
    log = DecisionLog(path, queued_max=2_000)
    record = await a_record()
    for n in range(1_000):
        assert log.offer(replace(record, request_id=str(n)))
    assert log.close(10)
    assert [pb.request_id for pb in lines_of(path)] == [str(n) for n in range(1_000)]
    assert (log.written, log.dropped) == (1_000, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_full_queue_drops_and_counts_and_never_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, entered = threading.Event(), threading.Event()

    def held(record: DecisionRecord) -> bytes:
        entered.set()
        gate.wait()
        return json_line(record)

    monkeypatch.setattr(module, "json_line", held)
    told: list[int] = []
    log = DecisionLog(tmp_path / "d.jsonl", queued_max=2, on_drop=told.append)
    record = await a_record()
    log.offer(record)
    entered.wait()
    assert [log.offer(record) for _ in range(4)] == [True, True, False, False]
    assert log.dropped == sum(told) == 2
    gate.set()
    assert log.close(10)
    assert log.written == 3
    assert not log.offer(record)


async def test_records_that_cannot_be_written_are_dropped_until_they_can(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.mkdir()
    log = DecisionLog(path, queued_max=10)
    record = await a_record()
    log.offer(record)
    wait_until(lambda: log.dropped, what="it is dropped")
    path.rmdir()
    log.offer(record)
    assert log.close(10)
    assert (log.written, log.dropped) == (1, 1)
    assert len(lines_of(path)) == 1


async def test_a_line_that_another_process_left_torn_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"request_id": "torn')
    log = DecisionLog(path, queued_max=10)
    log.offer(await a_record())
    assert log.close(10)
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"request_id": "torn'
    json_format.Parse(whole, ledger_pb2.DecisionRecord())


async def test_a_disk_that_fills_up_in_the_middle_of_a_batch_tears_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, record = tmp_path / "d.jsonl", await a_record()
    line = len(json_line(replace(record, request_id="1")))
    room = [line, line + 10]  # of the second batch, one line and a piece of the next
    write, gate, entered = os.write, threading.Event(), threading.Event()

    def tight(fd: int, data: bytes) -> int:
        return write(fd, data[: room.pop(0)] if room else data)

    def held(each: DecisionRecord) -> bytes:
        entered.set()
        gate.wait()
        return json_line(each)

    monkeypatch.setattr(os, "write", tight)
    monkeypatch.setattr(module, "json_line", held)
    log = DecisionLog(path, queued_max=10)
    log.offer(replace(record, request_id="0"))
    entered.wait()
    for n in "123":
        log.offer(replace(record, request_id=n))
    gate.set()
    wait_until(lambda: log.dropped >= 2, what="both are dropped")
    log.offer(replace(record, request_id="4"))
    assert log.close(10)
    zero, one, torn, four = path.read_bytes().splitlines()
    assert [json.loads(each)["request_id"] for each in (zero, one, four)] == ["0", "1", "4"]
    assert len(torn) == 10
    assert (log.written, log.dropped) == (3, 2)


async def test_a_record_with_a_value_out_of_range_is_lost_alone(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "d.jsonl", queued_max=10)
    record = await a_record()
    log.offer(replace(record, escalations=1 << 40))
    log.offer(record)
    assert log.close(10)
    assert (log.written, log.dropped) == (1, 1)


async def test_the_pipeline_records_every_request_that_it_finishes(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    log = DecisionLog(path, queued_max=10)
    bench = Bench(settings_of(orchestrator={"prompt_head_chars": 4}), decision_log=log)
    run = bench.pipeline.begin(request_of("secret words", request_id="r1"), remaining_s=30)
    await bench.pipeline.complete(run)
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert log.close(10)
    (pb,) = lines_of(path)
    assert (pb.request_id, pb.prompt_head, pb.config_version) == ("r1", "secr", "c0ffee")
