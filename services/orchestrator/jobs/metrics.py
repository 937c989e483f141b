"""What is counted of jobs, webhooks and repeated requests. Labels come from bounded sets."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from services.orchestrator.replays.claims import ReplayEvent
from services.runtime.errors import REASONS
from spillway.routing import JobState

__all__ = ["JobMetrics"]


class JobMetrics:
    """The instruments, made once. Thread-safe."""

    def __init__(self, meter: Meter) -> None:
        self._submitted = meter.create_counter("spillway.jobs.submitted", unit="{job}", description="Jobs queued.")
        self._ended = meter.create_counter(
            "spillway.jobs.ended", unit="{job}", description="Jobs that this process ended, by state and reason."
        )
        self._open = meter.create_gauge(
            "spillway.jobs.open", unit="{job}", description="Jobs that have not ended, of all processes."
        )
        self._tries = meter.create_counter(
            "spillway.jobs.tries", unit="{try}", description="Tries, by what became of them: ended, retry, handed_back."
        )
        self._deliveries = meter.create_counter(
            "spillway.webhooks", unit="{delivery}", description="Tries to tell a webhook, by outcome."
        )
        self._replays = meter.create_counter(
            "spillway.idempotency",
            unit="{request}",
            description="Requests that named their id, by what it was found to be.",
        )
        self._submitted.add(0)
        for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
            self._ended.add(0, {"state": state.value, "reason": ""})
        for outcome in ("ended", "retry", "handed_back"):
            self._tries.add(0, {"outcome": outcome})
        for event in ReplayEvent:
            self._replays.add(0, {"outcome": event.value})

    def submitted(self) -> None:
        """Counts a submission."""
        self._submitted.add(1)

    def open(self, count: int) -> None:
        """Notes how many have not ended."""
        self._open.set(count)

    def ended(self, state: JobState, reason: str) -> None:
        """Counts a job."""
        reason = reason if not reason or reason in REASONS else "OTHER"
        self._ended.add(1, {"state": state.value, "reason": reason})

    def tried(self, outcome: str) -> None:
        """Counts a try."""
        self._tries.add(1, {"outcome": outcome})

    def delivered(self, outcome: str) -> None:
        """Counts a try to tell a webhook; the outcomes are the words of `webhook_sender`."""
        self._deliveries.add(1, {"outcome": outcome})

    def replay(self, event: ReplayEvent) -> None:
        """Counts what a request id was found to be."""
        self._replays.add(1, {"outcome": event.value})
