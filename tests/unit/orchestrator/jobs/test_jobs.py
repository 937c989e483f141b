"""Jobs from submission to their end, in one process: taken, worked on once, stopped, watched, handed back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.replays.idempotency import Owner, request_digest
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded, Unavailable
from spillway.routing import Completion, Job, JobState, JobSubmission
from tests.support.jobs_parts import WELL_S, completion, submission
from tests.unit.orchestrator.jobs.world import URL, World


async def test_a_job_is_answered_under_its_own_id_for_its_tenant_and_key(world: World) -> None:
    async with world.running() as jobs:
        job = await jobs.submit(submission(request_id="mine"), "acme", "key-7")
        done = await world.ended(jobs, job)
    assert (done.state, done.tries) == (JobState.SUCCEEDED, 1)
    assert done.completion == completion("42", job.job_id)
    ((request, job_id, key_id),) = world.models.calls
    assert (request.request_id, request.tenant, job_id, key_id) == (job.job_id, "acme", job.job_id, "key-7")


async def test_a_submission_says_nothing_of_its_tenant(world: World) -> None:
    """The tenant is whoever called, whatever the request names."""
    jobs = world.process()
    sly = replace(submission(), request=replace(submission().request, tenant="umbrella"))
    job = await jobs.submit(sly, "acme")
    with pytest.raises(NotFound):
        await jobs.get(job.job_id, "umbrella")
    with pytest.raises(NotFound):
        await jobs.cancel(job.job_id, "umbrella")
    with pytest.raises(NotFound):
        await anext(aiter(jobs.watch(job.job_id, "umbrella")))
    async with world.running() as running:
        await world.ended(running, job)
    assert [request.tenant for request, *_ in world.models.calls] == ["acme"]


async def test_no_more_jobs_are_under_way_than_there_are_workers(world: World) -> None:
    gate = asyncio.Event()
    world.models.script = [gate] * 5
    async with world.running() as jobs:
        submitted = [await jobs.submit(submission(), "acme") for _ in range(5)]
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(0.05)
        assert len(world.models.calls) == 2
        gate.set()
        for job in submitted:
            await world.ended(jobs, job)
    assert len(world.models.calls) == 5


async def test_cancelling_a_running_job_stops_its_call(world: World) -> None:
    world.models.script = [asyncio.Event()]
    async with world.running() as jobs:
        job = await jobs.submit(submission(), "acme")
        await asyncio.wait_for(world.models.called.wait(), WELL_S)
        assert (await jobs.cancel(job.job_id, "acme")).state is JobState.CANCELLED

        async def stopped() -> bool:
            return world.models.cancelled == 1

        await world.until(stopped)
        assert (await jobs.get(job.job_id, "acme")).state is JobState.CANCELLED


async def test_a_job_past_its_deadline_is_stopped_and_has_failed(world: World) -> None:
    world.models.script = [asyncio.Event()]
    async with world.running(timeout_s=30.0) as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))

        async def stopped() -> bool:
            return world.models.cancelled == 1

        await world.until(stopped)
    assert (done.state, done.error_reason) == (JobState.FAILED, "DEADLINE_EXCEEDED")


async def test_a_process_that_closes_hands_its_jobs_back_at_once(world: World) -> None:
    world.models.script = [asyncio.Event()]
    first = world.process()
    first.start()
    job = await first.submit(submission(), "acme")
    await asyncio.wait_for(world.models.called.wait(), WELL_S)
    await first.close()
    assert world.models.cancelled == 1
    assert (await first.get(job.job_id, "acme")).state is JobState.QUEUED
    at_s = world.clock.monotonic()
    async with world.running() as second:
        done = await world.ended(second, job)
    assert (done.state, done.tries) == (JobState.SUCCEEDED, 1)
    assert world.clock.monotonic() - at_s < 5.0, "nobody waited for a lease"


async def test_a_job_whose_result_was_lost_on_its_way_is_not_answered_twice(world: World) -> None:
    """The worker died after the answer was there, and before the job had ended."""
    first = world.process()
    job = await first.submit(submission(), "acme")
    (taken,) = await world.store.take("dead", 1, lease_s=15.0, tries_max=3)

    async def answer() -> Completion:
        return await world.models(
            replace(taken.submission.request, request_id=job.job_id), job_id=job.job_id, key_id="", deadline_s=0
        )

    digest = request_digest(taken.submission.request)
    await world.replays.run("acme", job.job_id, digest, answer)
    async with world.running() as second:
        done = await world.ended(second, job)
    assert (done.state, done.tries) == (JobState.SUCCEEDED, 2)
    assert len(world.models.calls) == 1


async def test_a_process_without_workers_takes_submissions_and_works_on_none(world: World) -> None:
    async with world.running(workers=0) as jobs:
        job = await jobs.submit(submission(), "acme")
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(1.0)
        assert (await jobs.get(job.job_id, "acme")).state is JobState.QUEUED


async def test_the_same_request_id_is_the_same_job_and_another_body_a_conflict(world: World) -> None:
    jobs = world.process()
    first = await jobs.submit(submission(request_id="r"), "acme")
    assert await jobs.submit(submission(request_id="r"), "acme") == first
    for other in (
        submission("another", request_id="r"),
        submission(request_id="r", webhook_url=URL),
        JobSubmission(submission(request_id="r").request, timeout_s=5.0),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            await jobs.submit(other, "acme")
        assert caught.value.reason == "IDEMPOTENCY_CONFLICT"
    assert await jobs.submit(submission(request_id="r"), "umbrella") != first


async def test_more_jobs_than_the_bound_are_refused(world: World) -> None:
    jobs = world.process(queued_max=1)
    await jobs.submit(submission(), "acme")
    with pytest.raises(Overloaded):
        await jobs.submit(submission(), "umbrella")


async def test_watching_tells_every_state_until_the_end(world: World) -> None:
    gate = asyncio.Event()
    world.models.script = [gate]
    async with world.running() as jobs:
        job = await jobs.submit(submission(), "acme")
        seen: list[JobState] = []

        async def watch() -> None:
            async for now in jobs.watch(job.job_id, "acme"):
                seen.append(now.state)  # noqa: PERF401 - each as it comes

        watching = asyncio.create_task(watch())
        await asyncio.wait_for(world.models.called.wait(), WELL_S)

        async def sees_it_run() -> bool:
            return seen[-1:] == [JobState.RUNNING]

        await world.until(sees_it_run)
        gate.set()

        async def is_over() -> bool:
            return watching.done()

        await world.until(is_over)
    assert seen in (
        [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED],
        [JobState.RUNNING, JobState.SUCCEEDED],
    )


async def test_a_process_that_begins_to_stop_takes_no_more_jobs_and_sends_watchers_away(world: World) -> None:
    gate = asyncio.Event()
    world.models.script = [gate]
    async with world.running() as jobs:
        running = await jobs.submit(submission(), "acme")
        await asyncio.wait_for(world.models.called.wait(), WELL_S)

        async def watch() -> list[Job]:
            return [now async for now in jobs.watch(running.job_id, "acme")]

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        jobs.drain()
        later = await jobs.submit(submission("later"), "acme")
        with pytest.raises(Unavailable):
            await asyncio.wait_for(watching, WELL_S)
        gate.set()
        await world.ended(jobs, running)
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(0.5)
        assert (await jobs.get(later.job_id, "acme")).state is JobState.QUEUED


async def test_a_store_that_is_away_is_unavailable_to_callers_and_ends_no_job(world: World) -> None:
    world.store.ends_away = 4
    async with world.running() as jobs:
        job = await jobs.submit(submission(), "acme")
        assert (await world.ended(jobs, job)).state is JobState.SUCCEEDED
        assert len(world.models.calls) == 1
        world.store.gets_away = 1
        with pytest.raises(Unavailable):
            await jobs.get(job.job_id, "acme")


async def test_a_replayed_answer_has_its_decision_told_once_more(world: World) -> None:
    jobs = world.process()
    job = await jobs.submit(submission(), "acme", "key-7")
    (taken,) = await world.store.take("a worker that dies", 1, lease_s=1.0, tries_max=3)
    asked = replace(taken.submission.request, request_id=job.job_id)
    owner = await world.replays.begin("acme", job.job_id, request_digest(asked))
    assert isinstance(owner, Owner)
    await owner.finish(completion("42", job.job_id))
    async with world.running() as running:
        done = await world.ended(running, job)
    assert done.state is JobState.SUCCEEDED
    assert world.models.calls == []
    assert world.told.replayed_of == [(job.job_id, "key-7", "acme")]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_job_ends_when_its_decision_has_left(world: World, fails: bool) -> None:
    world.told.may_leave.clear()
    world.models.script = [FailedPrecondition("NO_ELIGIBLE_TARGET", "none")] if fails else []
    async with world.running() as jobs:
        job = await jobs.submit(submission(), "acme")

        async def has_asked() -> bool:
            return world.told.asked > 0

        await world.until(has_asked)
        assert (await jobs.get(job.job_id, "acme")).state is JobState.RUNNING
        world.told.may_leave.set()
        assert (await world.ended(jobs, job)).state is (JobState.FAILED if fails else JobState.SUCCEEDED)
    assert world.told.replayed_of == []


async def test_a_job_whose_key_was_revoked_while_it_waited_is_not_begun(world: World) -> None:
    queue = world.process()
    job, other = await queue.submit(submission(), "acme", "key-7"), await queue.submit(submission(), "acme", "key-8")
    world.revoked = {"key-7"}
    async with world.running() as jobs:
        done = await world.ended(jobs, job)
        assert (await world.ended(jobs, other)).state is JobState.SUCCEEDED
    assert (done.state, done.error_reason) == (JobState.FAILED, "PERMISSION_DENIED")
    assert [key_id for _, _, key_id in world.models.calls] == ["key-8"]
