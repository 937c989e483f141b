"""That every job which ends with an answer, or with an error of its models, is in the ledger.

Promises: a job's worker may die between the answer and the ledger. Who takes the job over finds the answer under its
request id, and offers its decision once more: the ledger keeps the first. A job ends when the ledger has what was
offered of it, or is away: that is waited for `SENT_S` at most, and not at all while the ledger is known to be away.
"""

from __future__ import annotations

from typing import Final, Protocol

from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.record import DecisionRecord
from spillway.routing import Completion, CompletionRequest

__all__ = ["SENT_S", "JobRecords", "RecordAgain"]

SENT_S: Final = 2.0


class RecordAgain(Protocol):
    """The decision record of an answer that was given before, by a process that may be gone."""

    def __call__(
        self, request: CompletionRequest, completion: Completion, /, *, job_id: str, key_id: str
    ) -> DecisionRecord: ...


class JobRecords:
    """For one event loop."""

    def __init__(self, reporter: LedgerReporter, record: RecordAgain) -> None:
        self._reporter = reporter
        self._record = record

    def replayed(self, request: CompletionRequest, completion: Completion, *, job_id: str, key_id: str) -> None:
        """Offers the decision behind an answer that another process gave. Returns at once."""
        self._reporter.offer(self._record(request, completion, job_id=job_id, key_id=key_id))

    async def sent(self) -> None:
        """Returns when what was offered so far has left, or cannot now."""
        await self._reporter.records.sent(SENT_S)
