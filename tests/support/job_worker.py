"""A small orchestrator of jobs alone, to be killed: `python -m tests.support.job_worker JSON`.

Its models write a line to a file for each call, and one for each answer, as a provider's bill would have them. What it
decides goes to a ledger in a file, in batches, as in the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opentelemetry.metrics import NoOpMeterProvider

from services.ledger.database import open_database
from services.ledger.rows import decision_rows
from services.ledger.store import LedgerStore
from services.orchestrator.job_records import JobRecords
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.orchestrator.jobs.webhook import parse_secrets
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import WebhookSender
from services.orchestrator.ledger_hop import FakeLedger, Receipt
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.record import DecisionRecord, record_to_proto
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.runtime.clock import SystemClock
from services.runtime.errors import Unavailable
from spillway.routing import Completion, CompletionRequest
from spillway.settings import Jobs as JobsSettings
from tests.support.jobs_parts import WELL_S, completion, redis_client
from tests.support.ledger_records import record

TRIES_MAX = 50


class FileLedger(FakeLedger):
    """A real store of decisions."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._store = LedgerStore(open_database(url, connections_max=2))

    async def record_decisions(self, records: Sequence[DecisionRecord], *, timeout_s: float) -> Receipt:
        rows = [decision_rows(record_to_proto(each)) for each in records]
        await asyncio.to_thread(self._store.record_decisions, rows)
        return Receipt.KEPT


def decision(request: CompletionRequest, completion: Completion, /, *, job_id: str, key_id: str) -> DecisionRecord:
    return replace(record(request.request_id), job_id=job_id, tenant=request.tenant)


class Provider:
    """Takes a while; now and then it fails. What it answered is offered to the ledger."""

    def __init__(self, bill: Path, call_s: float, reporter: LedgerReporter) -> None:
        self._reporter = reporter
        self._bill = bill
        self._call_s = call_s
        self._rng = random.Random()

    async def __call__(self, request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float) -> Completion:
        self._write("called", job_id)
        await asyncio.sleep(self._call_s * (0.5 + self._rng.random()))
        if self._rng.random() < 0.1:
            raise Unavailable
        self._write("answered", job_id)
        answer = completion(f"answer to {request.chat.messages[-1].text}", job_id)
        self._reporter.offer(decision(request, answer, job_id=job_id, key_id=key_id))
        return answer

    def _write(self, what: str, job_id: str) -> None:
        line = f"{what} {job_id} {os.getpid()}\n".encode()
        descriptor = os.open(self._bill, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line)
        os.close(descriptor)


async def main(options: dict[str, str | float]) -> None:
    clock = SystemClock()
    client = redis_client(str(options["redis"]))
    lease_s = float(options["lease_s"])
    replays = Replays(
        RedisReplayStore(client, timeout_s=WELL_S, clock=clock), window_s=600, clock=clock, lease_s=lease_s
    )
    reporter = LedgerReporter(FileLedger(str(options["ledger"])), clock, queued_max=1_000)
    guard = WebhookGuard(["127.0.0.1"])
    jobs = Jobs(
        JobsSettings(workers=3, tries_max=TRIES_MAX),
        store=RedisJobStore(client, timeout_s=WELL_S, clock=clock),
        replays=replays,
        answer=Provider(Path(str(options["bill"])), float(options["call_s"]), reporter),
        clock=clock,
        metrics=JobMetrics(NoOpMeterProvider().get_meter("test")),
        guard=guard,
        sender=WebhookSender(guard, parse_secrets(str(options["secret"])), clock=clock),
        decisions=JobRecords(reporter, decision),
        lease_s=lease_s,
        notice_lease_s=lease_s,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    jobs.start()
    print(json.dumps({"ready": True}), flush=True)
    await stop.wait()
    await jobs.close()
    await reporter.close(WELL_S)
    await replays.close()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
