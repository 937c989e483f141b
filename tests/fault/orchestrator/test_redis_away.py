"""A Redis that freezes, dies and comes back, under jobs and idempotency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.runtime.clock import SystemClock
from services.runtime.errors import NotFound, Unavailable
from spillway.routing import Completion, CompletionRequest, Job, JobState
from spillway.settings import Jobs as JobsSettings
from tests.support.jobs_parts import WELL_S, completion, redis_client, submission
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

PATIENCE_S = 0.5
"""Of a call to Redis: short beside the tests' patience, long beside a busy machine's hiccups."""


class Gate:
    """The work; it ends when it is let."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float) -> Completion:
        self.calls += 1
        self.called.set()
        await self.may_end.wait()
        return completion("42", job_id)


@asynccontextmanager
async def orchestrator(url: str, work: Gate, *, workers: int = 2) -> AsyncIterator[Jobs]:
    clock, client = SystemClock(), redis_client(url)
    replays = Replays(RedisReplayStore(client, timeout_s=PATIENCE_S, clock=clock), window_s=600, clock=clock)
    jobs = Jobs(
        JobsSettings(workers=workers),
        store=RedisJobStore(client, timeout_s=PATIENCE_S, clock=clock),
        replays=replays,
        answer=work,
        clock=clock,
        metrics=JobMetrics(NoOpMeterProvider().get_meter("test")),
        guard=WebhookGuard(),
        sender=None,
    )
    jobs.start()
    yield jobs
    await jobs.close()
    await replays.close()
    await client.aclose()


async def ended(jobs: Jobs, job: Job) -> Job:
    async def look() -> Any:
        try:
            now = await jobs.get(job.job_id, "acme")
        except Unavailable:
            return None
        return now if now.state.has_ended else None

    found: Job = await until(look, what="the job ends")
    return found


async def submitted(jobs: Jobs, request_id: str = "") -> Job:
    """As a caller who submits again until it is answered."""

    async def submit() -> Any:
        try:
            return await jobs.submit(submission(request_id=request_id), "acme")
        except Unavailable:
            return None

    job: Job = await until(submit, what="the job is taken")
    return job


async def test_a_job_under_way_survives_a_redis_that_freezes(redis_server: RedisServer) -> None:
    work = Gate()
    async with orchestrator(redis_server.url, work) as jobs:
        job = await jobs.submit(submission(), "acme")
        await asyncio.wait_for(work.called.wait(), WELL_S)
        redis_server.freeze()
        with pytest.raises(Unavailable):
            await jobs.get(job.job_id, "acme")
        work.may_end.set()
        with pytest.raises(Unavailable):
            await jobs.submit(submission(), "acme")
        redis_server.thaw()
        assert (await ended(jobs, job)).state is JobState.SUCCEEDED
        assert work.calls == 1


async def test_a_redis_that_comes_back_empty_has_forgotten_its_jobs_and_takes_new_ones(
    redis_server: RedisServer,
) -> None:
    work = Gate()
    async with orchestrator(redis_server.url, work) as jobs:
        lost = await jobs.submit(submission(), "acme")
        await asyncio.wait_for(work.called.wait(), WELL_S)
        redis_server.kill()
        redis_server.start()
        work.may_end.set()
        job = await submitted(jobs)
        assert (await ended(jobs, job)).state is JobState.SUCCEEDED
        with pytest.raises(NotFound):
            await jobs.get(lost.job_id, "acme")


async def test_with_a_log_that_is_synced_a_submitted_job_outlives_its_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    work = Gate()
    work.may_end.set()
    try:
        async with orchestrator(server.url, work, workers=0) as front:
            job = await front.submit(submission(request_id="r"), "acme")
            server.kill()
            server.start()
            assert (await submitted(front, "r")).job_id == job.job_id
        async with orchestrator(server.url, work) as jobs:
            assert (await ended(jobs, job)).state is JobState.SUCCEEDED
    finally:
        server.stop()
