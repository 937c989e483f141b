"""A piece of long work and its states. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spillway.routing.completion import Completion, CompletionRequest

__all__ = ["Job", "JobState", "JobSubmission", "WebhookDelivery"]


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether it stays as it is."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """What is to be done, whom to tell (an https URL, or empty), and how long it may take, waiting included."""

    request: CompletionRequest
    webhook_url: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One try to tell a webhook. `status` is the HTTP status, 0 for none; `error` is empty when delivered."""

    at_unix_s: float
    status: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. `completion` exactly when SUCCEEDED; the error exactly when FAILED."""

    job_id: str
    state: JobState
    completion: Completion | None = None
    error_reason: str = ""
    error_message: str = ""
    tries: int = 0
    submitted_at_unix_s: float = 0.0
    changed_at_unix_s: float = 0.0
    expires_at_unix_s: float | None = None
    deliveries: tuple[WebhookDelivery, ...] = ()
