"""Works on jobs: takes them, keeps their leases, runs them, ends them or puts them back.

Promises: at most `workers` jobs at a time; a job that was cancelled, ran out of time or was lost to another process is
stopped within `CHECK_S` and an exchange with the store, at once when it happened in this process; `close` hands back
what is under way, to be taken by another process at once. A job whose key has been revoked is not begun. The work runs
under the job's own id as request id, so a job that is tried twice is answered, and billed, once (`idempotency`), and
ends when its decision has been told (`Decisions`). A store that is away stops the taking of new jobs, and nothing else
until the leases lapse.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from services.orchestrator.jobs.job_store import LATE, REVOKED, Ending, JobStore, JobStoreError, TakenJob
from services.orchestrator.jobs.retries import is_retryable, retry_delay_s
from services.orchestrator.replays.idempotency import Replays, request_digest
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Internal, SpillwayError
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import end_tasks
from spillway.routing import Completion, CompletionRequest, JobState

__all__ = ["LEASE_S", "AnswerJob", "Bell", "Decisions", "Workers"]

LEASE_S: Final = 15.0
"""A worker that is silent for so long is dead: what a job waits for at most when its worker was killed, and a poll."""

POLL_S: Final = 0.25
"""Between two looks for jobs that others submitted, or whose time has come."""

CHECK_S: Final = 0.5
"""Between two looks whether the jobs under way are still ours, each of which renews their leases."""

COUNT_S: Final = 5.0
"""Between two looks how many jobs there are."""

GONE_S: Final = 1.0
"""Before asking a store that failed again."""

END_WAIT_S: Final = 60.0
"""How long to try to end a job while the store is away; after it another worker replays the answer."""

_log = get_logger(__name__)


class AnswerJob(Protocol):
    """The work: answers the request; its id is the job's. `deadline_s` is monotonic. Raises SpillwayError."""

    async def __call__(
        self, request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float
    ) -> Completion: ...


class Decisions(Protocol):
    """What becomes of the decisions behind jobs; neither method raises anything of its own."""

    def replayed(self, request: CompletionRequest, completion: Completion, *, job_id: str, key_id: str) -> None:
        """The answer is another process's, which may have died before it could tell of its decision."""
        ...

    async def sent(self) -> None:
        """Returns soon: when what was decided has been told, or cannot be told now."""
        ...


class Bell:
    """Wakes everybody who waits for a change in this process. For one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, clock: Clock, timeout_s: float) -> None:
        """Returns at the next ring, or after `timeout_s`."""
        ring = asyncio.ensure_future(self._event.wait())
        patience = asyncio.ensure_future(clock.sleep(timeout_s))
        try:
            await asyncio.wait({ring, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ring.cancel()
            patience.cancel()


class Workers:
    """`bell` rings when something may be done, and is rung when something was. `start` once, `close` at the end."""

    def __init__(
        self,
        store: JobStore,
        replays: Replays,
        answer: AnswerJob,
        *,
        workers: int,
        tries_max: int,
        clock: Clock,
        bell: Bell,
        decisions: Decisions | None = None,
        may_run: Callable[[str], bool] = lambda key_id: True,
        lease_s: float = LEASE_S,
        rng: random.Random | None = None,
        on_try: Callable[[str], None] = lambda outcome: None,
        on_end: Callable[[JobState, str], None] = lambda state, reason: None,
        on_open: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._store = store
        self._replays = replays
        self._answer = answer
        self._workers = workers
        self._tries_max = tries_max
        self._clock = clock
        self._bell = bell
        self._decisions = decisions
        self._may_run = may_run
        self._lease_s = lease_s
        self._rng = rng or random.Random()
        self._on_try = on_try
        self._on_end = on_end
        self._on_open = on_open
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._takes = True

    def start(self) -> None:
        """Begins to take jobs, unless it is to work on none."""
        if self._workers:
            self._loops = [
                asyncio.create_task(self._take(), name="jobs-take"),
                asyncio.create_task(self._check(), name="jobs-check"),
                asyncio.create_task(self._count(), name="jobs-count"),
            ]

    def drain(self) -> None:
        """Takes no more jobs; those under way go on."""
        self._takes = False

    async def close(self) -> None:
        """Takes no more, stops what is under way, and hands it back."""
        await end_tasks(self._loops)
        under_way = dict(self._owners)
        await end_tasks(list(self._tasks.values()))
        for job_id, owner in under_way.items():
            with contextlib.suppress(JobStoreError):
                if await self._store.give_back(job_id, owner):
                    self._on_try("handed_back")

    async def _take(self) -> None:
        while True:
            # Also without a free worker: somebody has to see to those whose time is over.
            free = self._workers - len(self._tasks) if self._takes else 0
            owner = secrets.token_hex(8)
            try:
                taken = await self._store.take(owner, free, lease_s=self._lease_s, tries_max=self._tries_max)
            except JobStoreError as error:
                _log.warning("jobs_not_taken", error=str(error))
                await self._clock.sleep(GONE_S)
                continue
            for job in taken:
                self._owners[job.job_id] = owner
                task = asyncio.create_task(self._work(job, owner), name="job")
                self._tasks[job.job_id] = task
                task.add_done_callback(lambda ended, job_id=job.job_id: self._ended(job_id, ended))  # type: ignore[misc]
            if taken:
                self._bell.ring()
            await self._bell.wait(self._clock, POLL_S)

    async def _check(self) -> None:
        while True:
            await self._bell.wait(self._clock, min(CHECK_S, self._lease_s / 4))
            owners = dict(self._owners)
            if not owners:
                continue
            try:
                kept = await self._store.renew(owners)
            except JobStoreError:
                continue
            for job_id in owners.keys() - kept:
                if self._owners.get(job_id) == owners[job_id] and job_id in self._tasks:
                    self._tasks[job_id].cancel()

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(JobStoreError):
                self._on_open(await self._store.open_jobs())
            await self._clock.sleep(COUNT_S)

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(job_id) is task:
            del self._tasks[job_id], self._owners[job_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("job_worker_failed", **describe_exception(error))
        self._bell.ring()

    async def _work(self, job: TakenJob, owner: str) -> None:
        """In the trace of its submission, whichever process took that."""
        with telemetry.tracer().start_as_current_span(
            "job",
            context=telemetry.context_of(job.trace_parent),
            attributes={"spillway.job_id": job.job_id, "spillway.job.try": job.tries},
            record_exception=False,
            set_status_on_exception=False,
        ):
            await self._worked(job, owner)

    async def _worked(self, job: TakenJob, owner: str) -> None:
        if not self._may_run(job.key_id):
            await self._end(job, owner, REVOKED)
            return
        request = replace(job.submission.request, request_id=job.job_id)
        deadline_s = self._clock.monotonic() + job.remaining_s

        is_replayed = True

        async def answer() -> Completion:
            nonlocal is_replayed
            is_replayed = False
            return await self._answer(request, job_id=job.job_id, key_id=job.key_id, deadline_s=deadline_s)

        try:
            async with asyncio.timeout(job.remaining_s) as limit:
                completion = await self._replays.run(job.tenant, job.job_id, request_digest(request), answer)
        except SpillwayError as error:
            await self._failed(job, owner, error, deadline_s)
        except Exception as error:  # noqa: BLE001 - the outermost frame of a job, as the interceptor is of a call
            if limit.expired():
                await self._end(job, owner, LATE)
                return
            _log.error("job_failed", **describe_exception(error))
            await self._failed(job, owner, Internal(detail=type(error).__name__), deadline_s)
        else:
            if is_replayed and self._decisions is not None:
                self._decisions.replayed(request, completion, job_id=job.job_id, key_id=job.key_id)
            await self._end(job, owner, Ending(JobState.SUCCEEDED, completion))

    async def _failed(self, job: TakenJob, owner: str, error: SpillwayError, deadline_s: float) -> None:
        delay_s = retry_delay_s(job.tries, error.retry_after_s, self._rng)
        in_time = self._clock.monotonic() + delay_s < deadline_s
        if is_retryable(error) and job.tries < self._tries_max and in_time:
            self._on_try("retry")
            await self._insist(lambda: self._store.retry_later(job.job_id, owner, delay_s))
        else:
            await self._end(job, owner, Ending(JobState.FAILED, reason=error.reason, message=error.public))

    async def _end(self, job: TakenJob, owner: str, ending: Ending) -> None:
        if self._decisions is not None:
            await self._decisions.sent()
        if await self._insist(lambda: self._store.end(job.job_id, owner, ending)):
            self._on_try("ended")
            self._on_end(ending.state, ending.reason)

    async def _insist(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Takes the step, again and again while the store is away, for `END_WAIT_S`."""
        gives_up_at_s = self._clock.monotonic() + END_WAIT_S
        while True:
            try:
                return await step()
            except JobStoreError as error:
                _log.warning("job_step_not_taken", error=str(error))
                if self._clock.monotonic() >= gives_up_at_s:
                    return False
                await self._clock.sleep(GONE_S)
