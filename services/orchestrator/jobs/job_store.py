"""Where jobs are kept: the seam. In memory for one process, in Redis for all.

A job's life:

    submit ─► QUEUED ─► take ─► RUNNING ─► end ─► SUCCEEDED | FAILED        (each job ends exactly once)
                 ▲                 ├► retry_later, give_back, or a lease that lapsed ─► QUEUED, or FAILED at tries_max
                 └─────────────────┘
              QUEUED, RUNNING ─► cancel ─► CANCELLED;  past its deadline ─► FAILED

Promises, of every form: a submission that was answered is kept as surely as anything in that store; a step of a worker
counts only while the job is the worker's, and happens as a whole; a worker that is silent for its lease loses the job
to the next; what has ended stays as it ended, for its time to live; the notice of an ended job is due at the same
moment as it ends. Jobs are found only by the tenant that submitted them. The store's own clock is the only one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from spillway.routing import Completion, Job, JobState, JobSubmission, WebhookDelivery

__all__ = [
    "CANCELLED",
    "DEAD_MAX",
    "DELIVERIES_MAX",
    "LATE",
    "LOST",
    "REVOKED",
    "Ending",
    "JobStore",
    "JobStoreError",
    "NewJob",
    "Notice",
    "SubmissionConflictError",
    "TakenJob",
    "TooManyJobsError",
]

DEAD_MAX: Final = 10_000
"""Dead letters that are listed; the oldest go first."""

DELIVERIES_MAX: Final = 20
"""Deliveries that a job remembers, as its proto says."""


class JobStoreError(Exception):
    """The store did not do it in time; nobody knows whether it did it at all."""


class SubmissionConflictError(Exception):
    """The request id was used for another submission."""


class TooManyJobsError(Exception):
    """As many jobs as there may be, of all or of this tenant, have not ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: SUCCEEDED with the completion, or FAILED or CANCELLED with the reason and a public sentence."""

    state: JobState
    completion: Completion | None = None
    reason: str = ""
    message: str = ""


CANCELLED: Final = Ending(JobState.CANCELLED)
LATE: Final = Ending(JobState.FAILED, reason="DEADLINE_EXCEEDED", message="the time ran out before an answer was there")
REVOKED: Final = Ending(JobState.FAILED, reason="PERMISSION_DENIED", message="the API key was revoked")
LOST: Final = Ending(JobState.FAILED, reason="INTERNAL", message="its workers were lost, one after the other")


@dataclass(frozen=True, slots=True)
class NewJob:
    """To be queued. `digest` is of the submission without its request id; `result_ttl_s` counts from the end.

    `trace_parent`: the span that submitted it, as a W3C traceparent; empty without one.
    """

    job_id: str
    tenant: str
    key_id: str
    submission: JobSubmission
    digest: bytes
    timeout_s: float
    result_ttl_s: float
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class TakenJob:
    """One to work on. `tries` counts this one; `remaining_s` is up to its deadline."""

    job_id: str
    tenant: str
    key_id: str
    submission: JobSubmission
    tries: int
    remaining_s: float
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """An ended job whose webhook is to be told."""

    job: Job
    url: str
    tenant: str = ""
    trace_parent: str = ""


class JobStore(Protocol):
    """Each method raises JobStoreError. `owner` is a word that no other take uses."""

    async def submit(self, new: NewJob, *, open_max: int, tenant_max: int | None = None) -> Job:
        """The queued job, or the one that this request id made before.

        At most `open_max` have not ended, and of one tenant at most `tenant_max`.
        Raises SubmissionConflictError, TooManyJobsError.
        """
        ...

    async def get(self, job_id: str, tenant: str) -> Job | None:
        """None when the tenant has no such job."""
        ...

    async def cancel(self, job_id: str, tenant: str) -> Job | None:
        """The job afterwards; one that has ended stays as it ended."""
        ...

    async def take(self, owner: str, count: int, *, lease_s: float, tries_max: int) -> list[TakenJob]:
        """Up to `count` jobs to work on. Ends those whose time is over, or whose workers were lost too often."""
        ...

    async def renew(self, owners: Mapping[str, str]) -> set[str]:
        """Of jobs and their owners, those jobs that still are their owner's; they have their lease anew."""
        ...

    async def end(self, job_id: str, owner: str, ending: Ending) -> bool:
        """Whether it ended so."""
        ...

    async def retry_later(self, job_id: str, owner: str, delay_s: float) -> bool:
        """Puts it back, for after `delay_s`."""
        ...

    async def give_back(self, job_id: str, owner: str) -> bool:
        """Puts it back at once, as if it had not been taken."""
        ...

    async def due_notices(self, count: int, *, lease_s: float) -> list[Notice]:
        """Notices to deliver now; nobody else gets them for `lease_s`."""
        ...

    async def delivered(self, job_id: str, delivery: WebhookDelivery | None, *, again_in_s: float | None) -> None:
        """Notes a try to deliver, if there was one, and when the next one is due; None for never."""
        ...

    async def open_jobs(self) -> int:
        """How many have not ended."""
        ...

    async def dead_letters(self, count: int) -> Sequence[Job]:
        """Jobs of all tenants that failed, the latest first. For the operator."""
        ...
