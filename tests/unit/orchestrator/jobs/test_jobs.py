"""Jobs from submission to notice, in one process: what is worked on, tried again, stopped and handed back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.orchestrator.jobs.job_store import Ending, JobStoreError, Notice
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.memory_store import MemoryJobStore
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.retries import DELIVERY_DELAYS_S, delivery_delay_s, is_retryable, retry_delay_s
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import Sent
from services.orchestrator.replays.idempotency import Owner, Replays, request_digest
from services.orchestrator.replays.replay_store import MemoryReplayStore
from services.runtime.clock import FakeClock
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    SpillwayError,
    Unavailable,
)
from spillway.routing import Completion, CompletionRequest, Job, JobState, JobSubmission, WebhookDelivery
from spillway.settings import Jobs as JobsSettings
from tests.support.jobs_parts import WELL_S, completion, submission

SEED = 20_261_122
URL = "https://hooks.example.com/"


class Models:
    """The work: what each call does is scripted; after the script it answers."""

    def __init__(self) -> None:
        self.script: list[BaseException | asyncio.Event] = []
        self.calls: list[tuple[CompletionRequest, str, str]] = []
        self.cancelled = 0
        self.called = asyncio.Event()

    async def __call__(self, request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float) -> Completion:
        self.calls.append((request, job_id, key_id))
        self.called.set()
        step = self.script.pop(0) if self.script else None
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        elif step is not None:
            raise step
        return completion("42", request.request_id)


class Hooks:
    """Webhooks: what they say is scripted, in the end they take it."""

    def __init__(self) -> None:
        self.script: list[Sent] = []
        self.sent: list[Notice] = []
        self.closed = False

    async def send(self, notice: Notice) -> Sent:
        self.sent.append(notice)
        return self.script.pop(0) if self.script else Sent(WebhookDelivery(1.0, 200))

    def close(self) -> None:
        self.closed = True


class Told:
    """Decisions that are told of."""

    def __init__(self) -> None:
        self.replayed_of: list[tuple[str, str, str]] = []
        self.may_leave = asyncio.Event()
        self.asked = 0

    def replayed(self, request: CompletionRequest, completion: Completion, *, job_id: str, key_id: str) -> None:
        assert completion.request_id == request.request_id
        self.replayed_of.append((job_id, key_id, request.tenant))

    async def sent(self) -> None:
        self.asked += 1
        await self.may_leave.wait()


class FlakyStore(MemoryJobStore):
    """Is away for the next so many steps."""

    ends_away = 0
    gets_away = 0

    async def end(self, job_id: str, owner: str, ending: Ending) -> bool:
        if self.ends_away:
            self.ends_away -= 1
            raise JobStoreError("away")
        return await super().end(job_id, owner, ending)

    async def get(self, job_id: str, tenant: str) -> Job | None:
        if self.gets_away:
            self.gets_away -= 1
            raise JobStoreError("away")
        return await super().get(job_id, tenant)


class World:
    """Some processes with one store, and time that moves when it is told to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = FlakyStore(self.clock)
        self.replays = Replays(MemoryReplayStore(self.clock), window_s=3_600, clock=self.clock)
        self.models = Models()
        self.hooks = Hooks()
        self.revoked: set[str] = set()
        self.told = Told()
        self.told.may_leave.set()

    def process(self, *, webhooks: bool = True, **options: float) -> Jobs:
        settings = JobsSettings.model_validate({"workers": 2, "tries_max": 3, **options})
        return Jobs(
            settings,
            store=self.store,
            replays=self.replays,
            answer=self.models,
            clock=self.clock,
            metrics=JobMetrics(NoOpMeterProvider().get_meter("test")),
            guard=WebhookGuard(),
            sender=self.hooks if webhooks else None,
            decisions=self.told,
            may_run=lambda key_id: key_id not in self.revoked,
            rng=random.Random(SEED),
        )

    @asynccontextmanager
    async def running(self, **options: int | float) -> AsyncIterator[Jobs]:
        jobs = self.process(webhooks=True, **options)
        jobs.start()
        yield jobs
        await jobs.close()
        await self.replays.close()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, step_s: float = 0.1) -> None:
        """Moves time on until it holds."""
        for _ in range(20_000):
            if await condition():
                return
            for _ in range(5):
                await asyncio.sleep(0)
            self.clock.advance(step_s)
        raise AssertionError("it never holds")

    async def ended(self, jobs: Jobs, job: Job) -> Job:
        async def has_ended() -> bool:
            return (await jobs.get(job.job_id, "acme")).state.has_ended

        await self.until(has_ended)
        return await jobs.get(job.job_id, "acme")


@pytest.fixture
def world() -> World:
    return World()


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


async def test_a_failure_that_may_pass_is_tried_again(world: World) -> None:
    world.models.script = [Unavailable("NO_MODEL_AVAILABLE"), Internal()]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries) == (JobState.SUCCEEDED, 3)


async def test_after_the_last_try_the_job_has_failed_and_is_a_dead_letter(world: World) -> None:
    world.models.script = [Unavailable("NO_MODEL_AVAILABLE", "no model") for _ in range(3)]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
        assert await jobs.dead_letters(10) == [done]
    assert (done.state, done.tries) == (JobState.FAILED, 3)
    assert (done.error_reason, done.error_message) == ("NO_MODEL_AVAILABLE", "no model")


async def test_a_failure_that_stays_is_not_tried_again(world: World) -> None:
    world.models.script = [FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan leaves no target")]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries, done.error_reason) == (JobState.FAILED, 1, "NO_ELIGIBLE_TARGET")


async def test_a_defect_fails_the_job_and_shows_nothing_of_itself(world: World) -> None:
    world.models.script = [RuntimeError("secret prompt") for _ in range(3)]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.error_reason, done.error_message) == ("INTERNAL", "internal error")


async def test_a_retry_that_would_come_too_late_is_not_waited_for(world: World) -> None:
    world.models.script = [Overloaded(retry_after_s=600.0)]
    async with world.running(timeout_s=60.0) as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries, done.error_reason) == (JobState.FAILED, 1, "OVERLOADED")


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


async def test_a_webhook_is_told_once_of_the_end(world: World) -> None:
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")
        await world.ended(jobs, job)

        async def told() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(told)
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(60.0)
        ((notice),) = world.hooks.sent
        assert (notice.url, notice.job.state) == (URL, JobState.SUCCEEDED)
        assert (await jobs.get(job.job_id, "acme")).deliveries == (WebhookDelivery(1.0, 200),)
    assert world.hooks.closed


async def test_a_webhook_that_fails_is_told_again_until_its_tries_are_used_up(world: World) -> None:
    refused = Sent(WebhookDelivery(1.0, 500, "STATUS"))
    world.hooks.script = [refused] * 20
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")
        tries = len(DELIVERY_DELAYS_S) + 1

        async def all_made() -> bool:
            return len((await jobs.get(job.job_id, "acme")).deliveries) == tries

        await world.until(all_made, step_s=20.0)
        world.clock.advance(10_000.0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(world.hooks.sent) == tries


async def test_a_webhook_that_may_never_be_told_is_not_told_again(world: World) -> None:
    world.hooks.script = [Sent(WebhookDelivery(1.0, 0, "ADDRESS_NOT_PUBLIC"), is_final=True)]
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")

        async def noted() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(noted)
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(600.0)
        assert len(world.hooks.sent) == 1


@pytest.mark.parametrize("url", ["http://hooks.example.com/", "https://10.0.0.1/", "https://user@hooks.example.com/"])
async def test_a_webhook_that_may_not_be_is_refused_at_submission(world: World, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.process().submit(submission(webhook_url=url), "acme")
    assert caught.value.violations[0][0] == "webhook_url"


async def test_without_a_secret_there_are_no_webhooks(world: World) -> None:
    with pytest.raises(InvalidRequest):
        await world.process(webhooks=False).submit(submission(webhook_url=URL), "acme")


async def test_a_store_that_is_away_is_unavailable_to_callers_and_ends_no_job(world: World) -> None:
    world.store.ends_away = 4
    async with world.running() as jobs:
        job = await jobs.submit(submission(), "acme")
        assert (await world.ended(jobs, job)).state is JobState.SUCCEEDED
        assert len(world.models.calls) == 1
        world.store.gets_away = 1
        with pytest.raises(Unavailable):
            await jobs.get(job.job_id, "acme")


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (Unavailable(), True),
        (Overloaded(), True),
        (DeadlineExceeded(), True),
        (Internal(), True),
        (InvalidRequest(), False),
        (FailedPrecondition("COST_CEILING", ""), False),
        (NotFound(), False),
        (SpillwayError(Overloaded().code, "MESSAGE_TOO_LARGE", ""), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: SpillwayError, retryable: bool) -> None:
    assert is_retryable(error) is retryable


def test_delays_grow_have_chance_in_them_and_heed_what_was_asked_for() -> None:
    rng = random.Random(SEED)
    for tries in range(1, 12):
        delays = [retry_delay_s(tries, None, rng) for _ in range(100)]
        assert 0.5 * min(60.0, 2.0 ** (tries - 1)) <= min(delays) < max(delays) <= min(60.0, 2.0 ** (tries - 1))
    assert retry_delay_s(1, 120.0, rng) == 120.0
    assert retry_delay_s(1, 1e9, rng) == 3_600.0
    waits = [delivery_delay_s(tries, None, rng) for tries in range(1, len(DELIVERY_DELAYS_S) + 2)]
    assert waits[-1] is None
    assert waits[:-1] == sorted(wait for wait in waits if wait is not None)


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


async def test_a_notice_that_could_not_be_tried_is_not_charged_for_it(world: World) -> None:
    world.hooks.script = [Sent(None, retry_after_s=1.0)] * (2 * len(DELIVERY_DELAYS_S))
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")

        async def is_told() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(is_told)
        told = await jobs.get(job.job_id, "acme")
    assert [each.status for each in told.deliveries] == [200]
    assert {notice.tenant for notice in world.hooks.sent} == {"acme"}


async def test_a_job_whose_key_was_revoked_while_it_waited_is_not_begun(world: World) -> None:
    queue = world.process()
    job, other = await queue.submit(submission(), "acme", "key-7"), await queue.submit(submission(), "acme", "key-8")
    world.revoked = {"key-7"}
    async with world.running() as jobs:
        done = await world.ended(jobs, job)
        assert (await world.ended(jobs, other)).state is JobState.SUCCEEDED
    assert (done.state, done.error_reason) == (JobState.FAILED, "PERMISSION_DENIED")
    assert [key_id for _, _, key_id in world.models.calls] == ["key-8"]
