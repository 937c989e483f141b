"""Long work: submit, look at, watch, cancel; and the workers and the courier that this process adds to it.

Promises: what `submit` returns is as durable as the store; a job is there for its tenant alone, and NOT_FOUND for
everybody else. A store that is away is UNAVAILABLE for callers, and a submission with a request id may be repeated
until it is answered.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from services.orchestrator.jobs.courier import LEASE_S as NOTICE_LEASE_S
from services.orchestrator.jobs.courier import Courier, NoticeSender
from services.orchestrator.jobs.job_store import (
    JobStore,
    JobStoreError,
    NewJob,
    SubmissionConflictError,
    TooManyJobsError,
)
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.webhook_guard import ForbiddenUrlError, WebhookGuard
from services.orchestrator.jobs.workers import LEASE_S, AnswerJob, Bell, Decisions, Workers
from services.orchestrator.replays.idempotency import Replays
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidRequest, NotFound, Overloaded, Unavailable
from spillway.routing import Job, JobSubmission
from spillway.settings import Jobs as JobsSettings
from spillway.wire import job_submission_to_proto

__all__ = ["Jobs", "submission_digest"]

WATCH_MIN_S: Final = 0.05
WATCH_MAX_S: Final = 1.0
WATCH_GROWTH: Final = 1.6
WATCH_PATIENCE_S: Final = 15.0
"""How long watching bears a store that is away."""

FULL_RETRY_S: Final = 5.0
TENANT_SHARE: Final = 2
"""One tenant may hold a half of `jobs.queued_max`: who floods the queue leaves room for the others."""
_DOMAIN: Final = b"spillway.SubmitJobRequest/1\0"

_Result = TypeVar("_Result")


def submission_digest(submission: JobSubmission) -> bytes:
    """SHA-256 over everything that is submitted, without its request id."""
    message = job_submission_to_proto(replace(submission, request=replace(submission.request, request_id="")))
    return hashlib.sha256(_DOMAIN + message.SerializeToString(deterministic=True)).digest()


class Jobs:
    """The use case. `sender` None: there is no webhook secret, so no submission may name one. `may_run` is asked with
    the id of a job's key, empty without keys, before it is begun. For one event loop.
    """

    def __init__(
        self,
        settings: JobsSettings,
        *,
        store: JobStore,
        replays: Replays,
        answer: AnswerJob,
        clock: Clock,
        metrics: JobMetrics,
        guard: WebhookGuard,
        sender: NoticeSender | None,
        decisions: Decisions | None = None,
        may_run: Callable[[str], bool] = lambda key_id: True,
        lease_s: float = LEASE_S,
        notice_lease_s: float = NOTICE_LEASE_S,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._guard = guard
        self._takes_webhooks = sender is not None
        self._bell = Bell()
        self._is_draining = False
        self._workers = Workers(
            store,
            replays,
            answer,
            workers=settings.workers,
            tries_max=settings.tries_max,
            clock=clock,
            bell=self._bell,
            decisions=decisions,
            may_run=may_run,
            lease_s=lease_s,
            rng=rng,
            on_try=metrics.tried,
            on_end=metrics.ended,
            on_open=metrics.open,
        )
        self._courier = (
            Courier(
                store,
                sender,
                clock=clock,
                bell=self._bell,
                lease_s=notice_lease_s,
                rng=rng,
                on_delivery=metrics.delivered,
            )
            if sender is not None
            else None
        )

    def start(self) -> None:
        """Begins to work on jobs and to deliver notices, unless this process is to have no workers."""
        self._workers.start()
        if self._courier is not None and self._settings.workers:
            self._courier.start()

    def drain(self) -> None:
        """To be called when the process begins to stop: takes no more jobs, and sends watchers to another process."""
        self._is_draining = True
        self._workers.drain()
        self._bell.ring()

    async def close(self) -> None:
        """Hands back what is under way. To be called before the replays and the store's Redis are closed."""
        await self._workers.close()
        if self._courier is not None:
            await self._courier.close()

    async def submit(self, submission: JobSubmission, tenant: str, key_id: str = "") -> Job:
        """The queued job, or the one that this request id made before. The submission has been validated.

        Raises InvalidRequest for a webhook that may not be, FailedPrecondition (IDEMPOTENCY_CONFLICT), Overloaded,
        Unavailable.
        """
        if submission.webhook_url:
            self._check_webhook(submission.webhook_url)
        submission = replace(submission, request=replace(submission.request, tenant=tenant))
        new = NewJob(
            job_id=f"job_{secrets.token_hex(16)}",
            tenant=tenant,
            key_id=key_id,
            submission=submission,
            digest=submission_digest(submission),
            timeout_s=submission.timeout_s or self._settings.timeout_s,
            result_ttl_s=self._settings.result_ttl_s,
            trace_parent=telemetry.current_parent(),
        )
        try:
            open_max = self._settings.queued_max
            tenant_max = max(1, open_max // TENANT_SHARE)
            job = await _available(self._store.submit(new, open_max=open_max, tenant_max=tenant_max))
        except SubmissionConflictError:
            raise FailedPrecondition("IDEMPOTENCY_CONFLICT", "the request id was used for another job") from None
        except TooManyJobsError:
            raise Overloaded(FULL_RETRY_S, detail="jobs.queued_max") from None
        telemetry.set_attributes({"spillway.job_id": job.job_id})
        if job.job_id == new.job_id:
            self._metrics.submitted()
            self._bell.ring()
        return job

    async def get(self, job_id: str, tenant: str) -> Job:
        """Raises NotFound, Unavailable."""
        return _found(await _available(self._store.get(job_id, tenant)))

    async def cancel(self, job_id: str, tenant: str) -> Job:
        """The job afterwards. What works on it is stopped. Raises NotFound, Unavailable."""
        job = _found(await _available(self._store.cancel(job_id, tenant)))
        self._bell.ring()
        return job

    async def watch(self, job_id: str, tenant: str) -> AsyncGenerator[Job, None]:
        """The job now, and after every change until it has ended.

        Raises NotFound; Unavailable when the store is away for long, and when the process begins to stop.
        """
        job = await self.get(job_id, tenant)
        yield job
        pause_s = WATCH_MIN_S
        seen_at_s = self._clock.monotonic()
        while not job.state.has_ended:
            await self._bell.wait(self._clock, pause_s)
            if self._is_draining:
                raise Unavailable(public="this server is stopping: watch again", retry_after_s=0.0)
            pause_s = min(pause_s * WATCH_GROWTH, WATCH_MAX_S)
            try:
                now = await self.get(job_id, tenant)
            except Unavailable:
                if self._clock.monotonic() - seen_at_s > WATCH_PATIENCE_S:
                    raise
                continue
            seen_at_s = self._clock.monotonic()
            if now != job:
                job, pause_s = now, WATCH_MIN_S
                yield job

    async def dead_letters(self, count: int) -> Sequence[Job]:
        """Jobs of all tenants that failed, the latest first. For the operator. Raises Unavailable."""
        return await _available(self._store.dead_letters(count))

    def _check_webhook(self, url: str) -> None:
        if not self._takes_webhooks:
            raise InvalidRequest([("webhook_url", "webhooks are switched off: there is no jobs.webhook_secret_env")])
        try:
            self._guard.check(url)
        except ForbiddenUrlError as error:
            raise InvalidRequest([("webhook_url", str(error))]) from None


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound("no such job")
    return job


async def _available(step: Awaitable[_Result]) -> _Result:
    try:
        return await step
    except JobStoreError as error:
        raise Unavailable(detail=f"job store: {error}") from error
