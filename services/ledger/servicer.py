"""LedgerService: protobuf in, protobuf out, errors by whose fault they are.

Promises: what is answered with OK is kept, whatever happens to the process afterwards; what is wrong with a request is
INVALID_ARGUMENT with the field's name, and then nothing of its batch is kept; more than can be written is
RESOURCE_EXHAUSTED at once; a database that is away is UNAVAILABLE. Reading a batch, like writing it, is done in the
ledger's threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import grpc
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.ledger.metrics import LedgerCounts
from services.ledger.rows import (
    check_batch_size,
    decision_rows,
    feedback_row,
    grade_row,
    record_from_json,
    to_us,
)
from services.ledger.store import FoundDecision, LedgerStore
from services.ledger.workers import Workers
from services.runtime.clock import Clock
from services.runtime.errors import Internal, NotFound, Unavailable
from spillway import wire
from spillway.routing import Feedback, FeedbackKind, Grade, GradeSource, TaskType
from spillway.v1 import ledger_pb2 as pb
from spillway.v1 import ledger_pb2_grpc
from spillway.validation import (
    NAME_CHARS_MAX,
    TENANT_CHARS_MAX,
    InvalidValue,
    Violation,
    check_feedback,
    check_grades,
)

__all__ = ["LedgerServicer"]

Context = grpc.aio.ServicerContext[object, object]
T = TypeVar("T")

RETRY_AFTER_S: Final = 1.0
WINDOW_S: Final = 30 * 86_400.0  # of ledger.proto
WINDOW_S_MAX: Final = 3_650 * 86_400.0
ID_CHARS_MAX: Final = 64


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """The ledger behind gRPC. `writers` and `readers` are the threads for either."""

    def __init__(
        self, store: LedgerStore, *, writers: Workers, readers: Workers, clock: Clock, counts: LedgerCounts
    ) -> None:
        self._store = store
        self._writers = writers
        self._readers = readers
        self._clock = clock
        self._counts = counts

    async def RecordDecisions(self, request: pb.RecordDecisionsRequest, context: Context) -> pb.RecordDecisionsResponse:
        check_batch_size(len(request.records), "records")

        def keep() -> int:
            rows = [decision_rows(record, f"records[{i}]") for i, record in enumerate(request.records)]
            return self._store.record_decisions(rows)

        new = await _in(self._writers, keep)
        self._counts.kept("decision", new)
        self._counts.repeated("decision", len(request.records) - new)
        return pb.RecordDecisionsResponse()

    async def RecordFeedback(self, request: pb.RecordFeedbackRequest, context: Context) -> pb.RecordFeedbackResponse:
        request.feedback.ClearField("retry")
        value = wire.feedback_from_proto(request.feedback, "feedback")
        try:
            check_feedback(value)
        except InvalidValue as error:
            inside = [Violation(f"feedback.{each.path}", each.message) for each in error.violations]
            raise InvalidValue(inside) from error
        _check_id(request.feedback_id, "feedback_id")
        received_at = _time(request, "received_at")
        row = feedback_row(value, request.feedback_id, received_at)
        record_json = await _in(self._writers, lambda: self._store.record_feedback(row))
        self._counts.kept("feedback", 1)
        if record_json is None:
            return pb.RecordFeedbackResponse()
        return pb.RecordFeedbackResponse(decision=record_from_json(record_json))

    async def RecordGrades(self, request: pb.RecordGradesRequest, context: Context) -> pb.RecordGradesResponse:
        check_batch_size(len(request.grades), "grades")
        values = [wire.grade_from_proto(grade, f"grades[{i}]") for i, grade in enumerate(request.grades)]
        check_grades(values)
        for i, grade in enumerate(request.grades):
            _time(grade, "graded_at", f"grades[{i}].")
        rows = [grade_row(value) for value in values]
        await _in(self._writers, lambda: self._store.record_grades(rows))
        self._counts.kept("grade", len(rows))
        return pb.RecordGradesResponse()

    async def GetDecision(self, request: pb.GetDecisionRequest, context: Context) -> pb.GetDecisionResponse:
        if len(request.tenant) > TENANT_CHARS_MAX:
            raise InvalidValue([Violation("tenant", f"must have at most {TENANT_CHARS_MAX} characters")])
        found = await _in(self._readers, lambda: self._store.decision(request.tenant, request.request_id))
        if found is None:
            raise NotFound("there is no such decision")
        return _decision(found)

    async def MeasureQuality(self, request: pb.MeasureQualityRequest, context: Context) -> pb.MeasureQualityResponse:
        window_s = wire.duration_from_proto(request.window, "window") if request.HasField("window") else WINDOW_S
        if not 0 < window_s <= WINDOW_S_MAX:
            raise InvalidValue([Violation("window", "must be above 0 and at most 3,650 days")])
        named = {"flagship_target": request.flagship_target, "judge_target": request.judge_target}
        too_long = [name for name, value in named.items() if len(value) > NAME_CHARS_MAX]
        if too_long:
            raise InvalidValue([Violation(name, f"must have at most {NAME_CHARS_MAX} characters") for name in too_long])
        since_us = to_us(self._clock.unix() - window_s)
        measured = await _in(self._readers, lambda: self._store.measure_quality(since_us, **named))
        return pb.MeasureQualityResponse(qualities=[wire.measured_quality_to_proto(each) for each in measured])


async def _in(workers: Workers, work: Callable[[], T]) -> T:
    try:
        return await workers.run(work)
    except (DBAPIError, PoolTimeoutError) as error:
        raise Unavailable(
            "SERVICE_UNAVAILABLE", "the ledger's database does not answer", RETRY_AFTER_S, detail=type(error).__name__
        ) from error
    except SQLAlchemyError as error:
        raise Internal(detail=type(error).__name__) from error


def _check_id(value: str, path: str) -> None:
    if not 1 <= len(value) <= ID_CHARS_MAX or not value.isascii() or not value.isprintable():
        raise InvalidValue([Violation(path, f"must have 1 to {ID_CHARS_MAX} printable ASCII characters")])


def _time(message: pb.RecordFeedbackRequest | pb.Grade, field: str, path: str = "") -> float:
    """Seconds since 1970. Raises InvalidValue."""
    at = getattr(message, field)
    if not message.HasField(field) or not 0 < at.seconds <= 253_402_300_799 or not 0 <= at.nanos < 1_000_000_000:  # type: ignore[arg-type]
        raise InvalidValue([Violation(f"{path}{field}", "must be set, from 1970 to 9999")])
    return wire.timestamp_from_proto(at)


def _decision(found: FoundDecision) -> pb.GetDecisionResponse:
    return pb.GetDecisionResponse(
        decision=record_from_json(found.record_json),
        feedback=[
            wire.feedback_to_proto(Feedback(row["request_id"], row["tenant"], FeedbackKind(row["kind"])))
            for row in found.feedback
        ],
        grades=[
            wire.grade_to_proto(
                Grade(
                    grade_id=row["grade_id"],
                    request_id=row["request_id"],
                    tenant=row["tenant"],
                    source=GradeSource(row["source"]),
                    task_type=TaskType(row["task_type"]),
                    tier=row["tier"],
                    target=row["target"],
                    arm=row["arm"],
                    flagship_target=row["flagship_target"],
                    judge_target=row["judge_target"],
                    score=row["score"],
                    flagship_score=row["flagship_score"],
                    orders_agree=row["orders_agree"],
                    cost_nanousd=row["cost_nanousd"],
                    graded_at_unix_s=row["graded_at_us"] / 1e6,
                    outcome=row["outcome"],
                )
            )
            for row in found.grades
        ],
    )
