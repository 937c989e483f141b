"""What every job store promises: one suite, for the one in memory and the one in a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.orchestrator.jobs.job_store import (
    LATE,
    LOST,
    Ending,
    JobStore,
    JobStoreError,
    NewJob,
    Notice,
    SubmissionConflictError,
    TakenJob,
    TooManyJobsError,
)
from services.orchestrator.jobs.memory_store import MemoryJobStore
from services.orchestrator.jobs.redis_scripts import PREFIX
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.runtime.clock import SystemClock
from spillway.routing import Job, JobState, WebhookDelivery
from tests.support.jobs_parts import WELL_S, completion, redis_client, submission
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

LONG_S = 600.0
SHORT_S = 0.05
DONE = Ending(JobState.SUCCEEDED, completion("done"))
FAILED = Ending(JobState.FAILED, reason="NO_MODEL_AVAILABLE", message="no model")


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[JobStore]:
    if request.param == "memory":
        yield MemoryJobStore(SystemClock())
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = redis_client(server.url)
    yield RedisJobStore(client, timeout_s=WELL_S, clock=SystemClock())
    await client.aclose()


def new(
    job_id: str = "j1",
    *,
    request_id: str = "",
    webhook_url: str = "",
    digest: bytes = b"d",
    timeout_s: float = LONG_S,
    ttl_s: float = LONG_S,
) -> NewJob:
    what = submission("q", request_id=request_id, webhook_url=webhook_url)
    return NewJob(job_id, "acme", "key-1", what, digest, timeout_s, ttl_s, f"trace-of-{job_id}")


async def submit(store: JobStore, job: NewJob | None = None) -> Job:
    return await store.submit(job or new(), open_max=100)


async def take(store: JobStore, owner: str = "w1", *, lease_s: float = LONG_S, tries_max: int = 5) -> list[TakenJob]:
    return await store.take(owner, 10, lease_s=lease_s, tries_max=tries_max)


async def found(store: JobStore, job_id: str = "j1") -> Job:
    job = await store.get(job_id, "acme")
    assert job is not None
    return job


async def test_a_job_goes_from_queued_to_running_to_succeeded(store: JobStore) -> None:
    queued = await submit(store)
    assert (queued.job_id, queued.state, queued.tries) == ("j1", JobState.QUEUED, 0)
    (taken,) = await take(store)
    assert (taken.job_id, taken.tenant, taken.key_id, taken.tries) == ("j1", "acme", "key-1", 1)
    assert taken.submission == new().submission
    assert taken.trace_parent == new().trace_parent
    assert 0 < taken.remaining_s <= LONG_S
    assert (await found(store)).state is JobState.RUNNING
    assert await store.end("j1", "w1", DONE)
    ended = await found(store)
    assert (ended.state, ended.completion, ended.tries) == (JobState.SUCCEEDED, completion("done"), 1)
    assert ended.expires_at_unix_s == pytest.approx(ended.changed_at_unix_s + LONG_S, abs=0.01)
    assert ended.submitted_at_unix_s <= ended.changed_at_unix_s


async def test_jobs_are_taken_once_each_and_in_their_order(store: JobStore) -> None:
    for i in range(5):
        await submit(store, new(f"j{i}"))
    first = await store.take("w1", 3, lease_s=LONG_S, tries_max=5)
    second = await store.take("w2", 3, lease_s=LONG_S, tries_max=5)
    assert [job.job_id for job in [*first, *second]] == ["j0", "j1", "j2", "j3", "j4"]
    assert await take(store, "w3") == []
    assert await store.take("w4", 0, lease_s=LONG_S, tries_max=5) == []


async def test_a_job_of_another_tenant_is_not_there(store: JobStore) -> None:
    await submit(store)
    assert await store.get("j1", "umbrella") is None
    assert await store.get("j1", "") is None
    assert await store.cancel("j1", "umbrella") is None
    assert (await found(store)).state is JobState.QUEUED
    assert await store.get("other", "acme") is None


async def test_a_submission_with_a_request_id_is_idempotent(store: JobStore) -> None:
    first = await submit(store, new("j1", request_id="r"))
    again = await submit(store, new("j2", request_id="r"))
    assert again == first
    with pytest.raises(SubmissionConflictError):
        await submit(store, new("j3", request_id="r", digest=b"other"))
    assert (await submit(store, new("j4", request_id=""))).job_id == "j4"
    other_tenant = replace(new("j5", request_id="r", digest=b"other"), tenant="umbrella")
    assert (await submit(store, other_tenant)).job_id == "j5"
    assert len(await take(store)) == 3


async def test_a_submission_repeated_after_the_end_gives_the_ended_job(store: JobStore) -> None:
    await submit(store, new("j1", request_id="r"))
    await take(store)
    await store.end("j1", "w1", DONE)
    assert (await submit(store, new("j2", request_id="r"))).state is JobState.SUCCEEDED


async def test_more_open_jobs_than_the_bound_are_refused_and_ended_ones_make_room(store: JobStore) -> None:
    await store.submit(new("j1"), open_max=2)
    await store.submit(new("j2"), open_max=2)
    assert await store.open_jobs() == 2
    await take(store)
    with pytest.raises(TooManyJobsError):
        await store.submit(new("j3"), open_max=2)
    await store.end("j1", "w1", DONE)
    await store.submit(new("j3"), open_max=2)


async def test_a_job_ends_once_and_only_for_its_owner(store: JobStore) -> None:
    await submit(store)
    await take(store)
    assert not await store.end("j1", "another", DONE)
    assert await store.end("j1", "w1", FAILED)
    assert not await store.end("j1", "w1", DONE)
    assert not await store.retry_later("j1", "w1", 0.0)
    assert not await store.give_back("j1", "w1")
    job = await found(store)
    assert (job.state, job.error_reason, job.error_message) == (JobState.FAILED, "NO_MODEL_AVAILABLE", "no model")
    assert not await store.end("no such job", "w1", DONE)


async def test_a_worker_that_is_silent_for_its_lease_loses_the_job(store: JobStore) -> None:
    await submit(store)
    await take(store, lease_s=SHORT_S)

    async def taken() -> list[TakenJob]:
        return await take(store, "w2", lease_s=SHORT_S)

    (job,) = await until(taken, what="the lease lapses")
    assert job.tries == 2
    assert not await store.end("j1", "w1", DONE)
    assert await store.renew({"j1": "w1"}) == set()


async def test_a_worker_that_renews_keeps_the_job(store: JobStore) -> None:
    await submit(store)
    await take(store, lease_s=1.0)
    first_lease_ends_s = time.monotonic() + 1.2

    async def outlived() -> bool:
        assert await store.renew({"j1": "w1", "unknown": "w1"}) == {"j1"}
        assert await take(store, "w2", lease_s=1.0) == []
        return time.monotonic() > first_lease_ends_s

    await until(outlived, what="the first lease would be over")


async def test_a_lost_job_is_found_among_many_that_are_well(store: JobStore) -> None:
    names = [f"j{i}" for i in range(40)]
    for name in names:
        await submit(store, new(name))
    assert len(await store.take("w1", 40, lease_s=1.0, tries_max=5)) == 40
    well = dict.fromkeys(names[:-1], "w1")

    async def taken() -> list[TakenJob]:
        assert await store.renew(well) == set(well)
        return await store.take("w2", 1, lease_s=1.0, tries_max=5)

    (job,) = await until(taken, what="the last one's lease lapses")
    assert job.job_id == names[-1]


async def test_a_job_whose_workers_were_lost_too_often_has_failed_and_is_a_dead_letter(store: JobStore) -> None:
    await submit(store)
    for _ in range(2):
        await until(lambda: take(store, lease_s=SHORT_S, tries_max=2), what="it is taken")

    async def ended() -> bool:
        await take(store, lease_s=SHORT_S, tries_max=2)
        return (await found(store)).state.has_ended

    await until(ended, what="the last lease lapses")
    job = await found(store)
    assert (job.state, job.error_reason, job.tries) == (JobState.FAILED, LOST.reason, 2)
    assert [dead.job_id for dead in await store.dead_letters(10)] == ["j1"]


async def test_a_retry_is_taken_only_when_it_is_due(store: JobStore) -> None:
    await submit(store)
    await take(store)
    assert await store.retry_later("j1", "w1", LONG_S)
    assert await take(store) == []
    job = await found(store)
    assert (job.state, job.tries) == (JobState.QUEUED, 1)

    await submit(store, new("j2"))
    await take(store)
    await store.retry_later("j2", "w1", SHORT_S)
    (taken,) = await until(lambda: take(store), what="it is due")
    assert (taken.job_id, taken.tries) == ("j2", 2)


async def test_a_job_that_is_given_back_is_taken_at_once_and_has_lost_no_try(store: JobStore) -> None:
    await submit(store)
    await take(store)
    assert await store.give_back("j1", "w1")
    assert (await found(store)).state is JobState.QUEUED
    (taken,) = await take(store, "w2")
    assert taken.tries == 1


async def test_a_cancelled_job_is_not_taken_and_stays_cancelled(store: JobStore) -> None:
    await submit(store)
    cancelled = await store.cancel("j1", "acme")
    assert cancelled is not None
    assert cancelled.state is JobState.CANCELLED
    assert await store.cancel("j1", "acme") == cancelled
    assert await take(store) == []


async def test_cancelling_takes_a_running_and_a_waiting_job_from_their_workers(store: JobStore) -> None:
    await submit(store, new("j1"))
    await submit(store, new("j2"))
    await take(store)
    await store.retry_later("j2", "w1", SHORT_S)
    for job_id in ("j1", "j2"):
        await store.cancel(job_id, "acme")
    assert await store.renew({"j1": "w1"}) == set()
    assert not await store.end("j1", "w1", DONE)
    await submit(store, new("j3"))
    (taken,) = await until(lambda: take(store, "w2"), what="the next one")
    assert taken.job_id == "j3"
    assert (await found(store)).state is JobState.CANCELLED
    assert await store.dead_letters(10) == []


async def test_a_job_that_has_ended_stays_ended_when_it_is_cancelled(store: JobStore) -> None:
    await submit(store)
    await take(store)
    await store.end("j1", "w1", DONE)
    assert (await store.cancel("j1", "acme")) == await found(store)
    assert (await found(store)).state is JobState.SUCCEEDED


async def test_past_its_deadline_a_job_fails_waiting_or_running(store: JobStore) -> None:
    await submit(store, new("j1", timeout_s=SHORT_S))
    await submit(store, new("j2", timeout_s=SHORT_S))
    await store.take("w1", 1, lease_s=LONG_S, tries_max=5)

    async def ended() -> bool:
        await store.take("w2", 0, lease_s=LONG_S, tries_max=5)
        return all([(await found(store, name)).state.has_ended for name in ("j1", "j2")])

    await until(ended, what="the deadline")
    assert {(await found(store, name)).error_reason for name in ("j1", "j2")} == {LATE.reason}
    assert not await store.end("j1", "w1", DONE)


async def test_a_job_is_forgotten_when_its_time_to_live_is_over(store: JobStore) -> None:
    await submit(store, new("j1", request_id="r", webhook_url="https://x.example/", ttl_s=SHORT_S))
    await take(store)
    await store.end("j1", "w1", FAILED)

    async def gone() -> bool:
        return await store.get("j1", "acme") is None

    await until(gone, what="the time to live")
    assert await store.dead_letters(10) == []
    assert await store.due_notices(10, lease_s=LONG_S) == []
    assert (await submit(store, new("j2", request_id="r", digest=b"other"))).job_id == "j2"


async def test_a_notice_is_due_when_its_job_has_ended_and_one_has_it_at_a_time(store: JobStore) -> None:
    await submit(store, new("j1", webhook_url="https://x.example/hook"))
    await submit(store, new("j2"))
    await take(store)
    assert await store.due_notices(10, lease_s=LONG_S) == []
    await store.end("j1", "w1", DONE)
    await store.end("j2", "w1", DONE)
    (notice,) = await store.due_notices(10, lease_s=LONG_S)
    assert (notice.job.job_id, notice.url) == ("j1", "https://x.example/hook")
    assert notice.trace_parent == new("j1").trace_parent
    assert notice.job.completion == completion("done")
    assert await store.due_notices(10, lease_s=LONG_S) == []


async def test_a_cancelled_job_has_a_notice_too(store: JobStore) -> None:
    await submit(store, new("j1", webhook_url="https://x.example/hook"))
    await store.cancel("j1", "acme")
    assert len(await store.due_notices(10, lease_s=LONG_S)) == 1


async def test_a_notice_whose_deliverer_died_is_due_again(store: JobStore) -> None:
    await submit(store, new("j1", webhook_url="https://x.example/hook"))
    await store.cancel("j1", "acme")
    assert await store.due_notices(10, lease_s=SHORT_S)
    await until(lambda: store.due_notices(10, lease_s=LONG_S), what="the deliverer's lease lapses")


async def test_deliveries_are_noted_and_repeated_until_there_is_no_next(store: JobStore) -> None:
    await submit(store, new("j1", webhook_url="https://x.example/hook"))
    await store.cancel("j1", "acme")
    await store.due_notices(10, lease_s=LONG_S)
    refused = WebhookDelivery(1_700_000_000.25, 500, "STATUS")
    await store.delivered("j1", refused, again_in_s=SHORT_S)
    (notice,) = await until(lambda: store.due_notices(10, lease_s=LONG_S), what="the next try")
    assert notice.job.deliveries == (refused,)
    arrived = WebhookDelivery(1_700_000_001.5, 200)
    await store.delivered("j1", arrived, again_in_s=None)
    assert (await found(store)).deliveries == (refused, arrived)
    await store.delivered("no such job", arrived, again_in_s=1.0)
    assert await store.due_notices(10, lease_s=SHORT_S) == []


async def test_a_tenant_with_its_share_leaves_room_for_others(store: JobStore) -> None:
    async def offer(job_id: str, tenant: str) -> None:
        await store.submit(replace(new(job_id), tenant=tenant), open_max=3, tenant_max=2)

    await offer("j1", "acme")
    await offer("j2", "acme")
    with pytest.raises(TooManyJobsError):
        await offer("j3", "acme")
    await offer("u1", "umbrella")
    with pytest.raises(TooManyJobsError):
        await offer("u2", "umbrella")
    await store.cancel("j1", "acme")
    await offer("j4", "acme")


async def test_a_notice_names_its_tenant_and_may_be_put_off_without_a_try(store: JobStore) -> None:
    await submit(store, new(webhook_url="https://a.example/"))
    await store.cancel("j1", "acme")
    (notice,) = await store.due_notices(10, lease_s=LONG_S)
    assert notice.tenant == "acme"
    await store.delivered("j1", None, again_in_s=SHORT_S)

    async def is_due() -> list[Notice]:
        return await store.due_notices(10, lease_s=LONG_S)

    ((again,)) = await until(is_due, what="it is due again")
    assert again.job.deliveries == ()


async def test_an_answer_that_cannot_be_read_stops_no_other_notice(redis_server: RedisServer) -> None:
    client = redis_client(redis_server.url)
    store = RedisJobStore(client, timeout_s=WELL_S, clock=SystemClock())
    for name in ("j1", "j2"):
        await submit(store, new(name, webhook_url="https://a.example/"))
        await take(store)
        assert await store.end(name, "w1", FAILED if name == "j1" else DONE)
    await client.hset(f"{PREFIX}job:j1", "completion", b"\xff of a newer version")
    assert [notice.job.job_id for notice in await store.due_notices(10, lease_s=LONG_S)] == ["j2"]
    assert await store.dead_letters(10) == []
    with pytest.raises(JobStoreError):
        await store.get("j1", "acme")
    await client.aclose()
