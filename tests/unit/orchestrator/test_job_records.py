"""The decision behind a job's answer reaches the ledger, whoever gave the answer."""

from __future__ import annotations

from dataclasses import replace

from services.orchestrator.job_records import JobRecords
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.replays.replay_store import MemoryReplayStore
from services.orchestrator.requests import Requests
from tests.unit.orchestrator.fakes import Bench
from tests.unit.orchestrator.ladder import request_of


async def test_the_record_of_a_replayed_answer_is_that_of_the_answer() -> None:
    bench = Bench()
    replays = Replays(MemoryReplayStore(bench.clock), window_s=60, clock=bench.clock)
    requests = Requests(bench.pipeline, quotas=bench.quotas, replays=replays, clock=bench.clock)
    asked = replace(request_of("q", tenant="acme"), request_id="job_1")
    completion = await requests.answer(asked, job_id="job_1", key_id="k")
    bench.clock.advance(10)
    records = JobRecords(bench.reporter, requests.record_again)
    records.replayed(asked, completion, job_id="job_1", key_id="k")
    await records.sent()
    first, again = bench.ledger.records
    for name in ("request_id", "tenant", "job_id", "key_id", "attempts", "cost", "tier", "target", "routing", "cache"):
        assert getattr(again, name) == getattr(first, name), name
    assert (again.status_code, again.error_reason) == (0, "")
    assert again.received_at_unix_s == completion.completed_at_unix_s
    await replays.close()
