"""The ledger, as the orchestrator sees it: a narrow Protocol, its values, and a fake.

Promises of every implementation: a call has a time limit, given by the caller. The ledger can be done without: whatever
goes wrong comes back as a value, but for feedback, whose sender must know that it was not kept. Cancelling the caller
cancels the call. Everything may be sent again: what was kept stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from services.orchestrator.record import DecisionRecord
from services.runtime.errors import Unavailable
from spillway.routing import CacheKind, Feedback, Grade, MeasuredQuality, TaskType

__all__ = ["Decided", "FakeLedger", "LedgerHop", "QualityQuestion", "Receipt"]


class Receipt(StrEnum):
    """What became of a batch.

    `KEPT`: all of it, for good. `REFUSED`: none of it, and it will be no other if it is sent again, for something in it
    is wrong. `AWAY`: nobody knows; to be sent again.
    """

    KEPT = "kept"
    REFUSED = "refused"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Decided:
    """What the ledger knows of the decision that a feedback is about. `tier` and `target` are those that answered, for
    a hit those that had answered; empty for a request that failed. `answer_version`: of a hit by meaning, which answer
    it was; empty where that is not known."""

    prompt_sha256: str = ""
    cluster: str = ""
    task_type: TaskType | None = None
    tier: str = ""
    target: str = ""
    accepted: bool = False
    cache_kind: CacheKind | None = None
    cache_entry_key: str = ""
    answer_version: str = ""


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """Grades of the last `window_s`, beside `flagship_target`, by `judge_target` or against known answers.

    Empty: any.
    """

    window_s: float
    flagship_target: str = ""
    judge_target: str = ""


class LedgerHop(Protocol):
    """The ledger."""

    async def record_decisions(self, records: Sequence[DecisionRecord], *, timeout_s: float) -> Receipt:
        """Keep the records, 1 to 1,000."""
        ...

    async def record_grades(self, grades: Sequence[Grade], *, timeout_s: float) -> Receipt:
        """Keep the grades, 1 to 1,000."""
        ...

    async def record_feedback(
        self, feedback: Feedback, *, feedback_id: str, received_at_unix_s: float, timeout_s: float
    ) -> Decided | None:
        """Keep the feedback, without its retry; what it is about, None while that is not known.

        Raises SpillwayError when it was not kept.
        """
        ...

    async def measure_quality(self, asked: QualityQuestion, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        """How good targets were; None when the ledger does not say."""
        ...


@dataclass
class FakeLedger:
    """Keeps everything in lists. `says` is what batches are told; feedback is refused while it is AWAY."""

    says: Receipt = Receipt.KEPT
    knows: Decided | None = None
    qualities: tuple[MeasuredQuality, ...] | None = ()
    records: list[DecisionRecord] = field(default_factory=list)
    grades: list[Grade] = field(default_factory=list)
    feedback: list[tuple[str, Feedback]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    async def record_decisions(self, records: Sequence[DecisionRecord], *, timeout_s: float) -> Receipt:
        self.batches.append(len(records))
        if self.says is Receipt.KEPT:
            self.records.extend(records)
        return self.says

    async def record_grades(self, grades: Sequence[Grade], *, timeout_s: float) -> Receipt:
        if self.says is Receipt.KEPT:
            self.grades.extend(grades)
        return self.says

    async def record_feedback(
        self, feedback: Feedback, *, feedback_id: str, received_at_unix_s: float, timeout_s: float
    ) -> Decided | None:
        if self.says is not Receipt.KEPT:
            raise Unavailable
        self.feedback.append((feedback_id, feedback))
        return self.knows

    async def measure_quality(self, asked: QualityQuestion, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        return self.qualities
