"""kill -9 of processes that work on jobs, at random and under load: nothing is lost, nothing ends twice,
and every job that ended is in the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from opentelemetry.metrics import NoOpMeterProvider
from standardwebhooks import Webhook

from services.ledger.database import migrate, open_database
from services.ledger.schema import decisions
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.redis_scripts import PREFIX
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.orchestrator.jobs.webhook import parse_secrets
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import WebhookSender
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.replays.replay_store import MemoryReplayStore
from services.runtime.clock import SystemClock
from spillway.routing import Completion, CompletionRequest, Job, JobState
from spillway.settings import Jobs as JobsSettings
from tests.support.jobs_parts import WELL_S, redis_client, submission
from tests.support.processes import Process
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.support.webhook_receiver import receiver

KILLS = int(os.environ.get("SPILLWAY_JOB_KILLS", "3"))
JOBS_PER_KILL = 20
PROCESSES = 3
LEASE_S = 1.5
CALL_S = 0.2
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def nothing(request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float) -> Completion:
    raise AssertionError("this process works on none")


@asynccontextmanager
async def front(url: str) -> AsyncIterator[Jobs]:
    """An orchestrator that takes jobs and works on none."""
    clock, client = SystemClock(), redis_client(url)
    guard = WebhookGuard(["127.0.0.1"])
    jobs = Jobs(
        JobsSettings(workers=0),
        store=RedisJobStore(client, timeout_s=WELL_S, clock=clock),
        replays=Replays(MemoryReplayStore(clock), window_s=60, clock=clock),
        answer=nothing,
        clock=clock,
        metrics=JobMetrics(NoOpMeterProvider().get_meter("test")),
        guard=guard,
        sender=WebhookSender(guard, parse_secrets(SECRET), clock=clock),
    )
    yield jobs
    await jobs.close()
    await client.aclose()


class Fleet:
    """Worker processes; who is killed is followed by a new one."""

    def __init__(self, directory: Path, options: dict[str, object]) -> None:
        self._directory = directory
        self._options = json.dumps(options)
        self.processes: list[Process] = []
        self.killed: set[int] = set()

    async def start(self, count: int) -> None:
        made = [
            Process("tests.support.job_worker", [self._options], {}, self._directory / "workers.log")
            for _ in range(count)
        ]
        self.processes += made
        for process in made:
            await asyncio.to_thread(process.ready)

    async def kill(self, rng: random.Random) -> None:
        victim = self.processes.pop(rng.randrange(len(self.processes)))
        self.killed.add(victim.pid)
        await asyncio.to_thread(victim.kill)

    async def stop(self) -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self.processes)))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_job_ends_exactly_once_and_every_webhook_is_told(redis_server: RedisServer, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {KILLS} kills")
    rng = random.Random(seed)
    bill = tmp_path / "bill"
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = open_database(ledger, connections_max=2)
    migrate(engine)
    options = {
        "redis": redis_server.url,
        "ledger": ledger,
        "bill": str(bill),
        "lease_s": LEASE_S,
        "call_s": CALL_S,
        "secret": SECRET,
    }
    fleet = Fleet(tmp_path, options)
    async with receiver(tmp_path) as hook, front(redis_server.url) as jobs:
        hook.answers = ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
        url = f"http://127.0.0.1:{hook.port}/"
        try:
            await fleet.start(PROCESSES)
            submitted: dict[str, str] = {}
            for _ in range(KILLS):
                for _ in range(JOBS_PER_KILL):
                    text = f"prompt {len(submitted)}"
                    job = await jobs.submit(submission(text, request_id=text, webhook_url=url), "acme")
                    submitted[job.job_id] = text
                await asyncio.sleep(rng.uniform(0.0, 2 * CALL_S))
                await fleet.kill(rng)
                await fleet.start(1)
            await until(
                lambda: {got.headers["webhook-id"] for got in hook.received} == {f"msg_{name}" for name in submitted},
                what="every webhook is told",
                within_s=120,
            )
            ended = {job_id: await jobs.get(job_id, "acme") for job_id in submitted}

            async def all_noted() -> bool:
                with redis_server.client() as client:
                    return not client.exists(f"{PREFIX}notices")

            await until(all_noted, what="every delivery is noted", within_s=60)
        finally:
            codes = await fleet.stop()
    assert codes == [0] * PROCESSES, "a process that is asked to end ends well"
    check_jobs(ended, submitted)
    check_notices(ended, [(got.headers, got.body) for got in hook.received])
    check_bill(bill, fleet.killed, set(submitted))
    with engine.connect() as session:
        told = [row.job_id for row in session.execute(sa.select(decisions.c.job_id))]
    engine.dispose()
    assert sorted(told) == sorted(submitted), "every job is in the ledger once"
    with redis_server.client() as client:
        left = {name: client.type(f"{PREFIX}{name}") for name in ("open", "later", "dead", "notices")}
        assert set(left.values()) == {b"none"}
        assert client.xlen(f"{PREFIX}queue") == 0
        assert client.xpending(f"{PREFIX}queue", "workers")["pending"] == 0


def check_jobs(ended: dict[str, Job], submitted: dict[str, str]) -> None:
    for job_id, text in submitted.items():
        job = ended[job_id]
        assert job.state is JobState.SUCCEEDED, job
        assert job.completion is not None
        assert job.completion.text == f"answer to {text}"


def check_notices(ended: dict[str, Job], received: list[tuple[dict[str, str], bytes]]) -> None:
    """However often a notice was sent, it says the one end that the job had."""
    for headers, body in received:
        notice = Webhook(SECRET).verify(body, headers)
        job = ended[notice["data"]["job_id"]]
        assert notice["type"] == "job.succeeded"
        assert notice["data"]["tries"] == job.tries
    bodies = defaultdict(set)
    for headers, body in received:
        bodies[headers["webhook-id"]].add(body)
    assert all(len(same) == 1 for same in bodies.values())


def check_bill(bill: Path, killed: set[int], submitted: set[str]) -> None:
    """Each job was answered; twice only where the process that answered was killed before it could say so."""
    answers: dict[str, list[int]] = defaultdict(list)
    for line in bill.read_text().splitlines():
        what, job_id, process = line.split()
        if what == "answered":
            answers[job_id].append(int(process))
    assert answers.keys() == submitted
    more = {job_id: by for job_id, by in answers.items() if len(by) > 1}
    print("answered more than once:", Counter(map(len, answers.values())))
    for by in more.values():
        assert set(by[:-1]) <= killed
