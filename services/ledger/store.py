"""What the ledger writes and reads, one transaction each.

Promises: a batch is kept as a whole or not at all; what is already there stays as it is, so that everything may be sent
again; of a tenant's request id the first answer stays, every run that failed, and every answer that came in more than
`answers_apart_s` from those that are there, for then it is no repetition but a request of its own. Nothing is found
across tenants but the sums of `measure_quality`. Blocks, and raises SQLAlchemy's errors: for threads, of which any
number may share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, Insert, Select, Table, case, delete, distinct, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from services.ledger.database import is_sqlite, reading
from services.ledger.quality import GradeSums, ratio_lower
from services.ledger.rows import DecisionRows, Row
from services.ledger.schema import attempts, decisions, feedback, grades, hops, verdicts
from spillway.routing import CacheKind, FeedbackKind, MeasuredQuality, TaskType

__all__ = ["ABOUT_MAX", "ANSWERS_APART_S", "FoundDecision", "LedgerStore"]

ANSWERS_APART_S: Final = 3_600.0  # the default of orchestrator.idempotency_window_s
ABOUT_MAX: Final = 100  # of ledger.proto
LIKED: Final = (FeedbackKind.THUMBS_UP.value, FeedbackKind.ACCEPTED.value)
DISLIKED: Final = (FeedbackKind.THUMBS_DOWN.value, FeedbackKind.REGENERATED.value, FeedbackKind.COMPLAINT.value)


@dataclass(frozen=True, slots=True)
class FoundDecision:
    """A decision, as its `record_json`, and the rows about it, oldest first."""

    record_json: str
    feedback: tuple[Row, ...]
    grades: tuple[Row, ...]


class LedgerStore:
    """The ledger in a database whose tables are up to date. `answers_apart_s`: for how long orchestrators replay."""

    def __init__(self, engine: Engine, *, answers_apart_s: float = ANSWERS_APART_S) -> None:
        self._apart_us = round(answers_apart_s * 1e6)
        self._engine = engine
        self._reading = reading(engine)
        self._insert: Any = sqlite.insert if is_sqlite(engine) else postgresql.insert

    def record_decisions(self, batch: Sequence[DecisionRows]) -> int:
        """How many were new."""
        # In one order everywhere: two batches of the same records cannot wait for each other.
        first: dict[tuple[str, str, int], DecisionRows] = {}
        for rows in batch:
            first.setdefault(rows.key, rows)
        if not first:
            return 0
        statement = self._keep_first(decisions, "tenant", "request_id", "failed_at_us").returning(
            decisions.c.id, decisions.c.tenant, decisions.c.request_id, decisions.c.failed_at_us
        )
        with self._engine.begin() as connection:
            new = [*connection.execute(statement, [first[key].decision for key in sorted(first)]).all()]
            kept = {tuple(key) for _, *key in new}
            again = [rows for rows in batch if not _is_kept(rows, first, kept) and _may_be_reused(rows)]
            later = self._own_requests(connection, again)
            if later:
                first |= later
                new += connection.execute(statement, [later[key].decision for key in sorted(later)]).all()
            for table in (attempts, verdicts, hops):
                parts = [
                    {"decision_id": number} | part
                    for number, *key in new
                    for part in _parts(first[key[0], key[1], key[2]], table)
                ]
                if parts:
                    connection.execute(table.insert(), parts)
        return len(new)

    def record_feedback(self, row: Row) -> str | None:
        """Keeps it; the `record_json` of the decision that it is about, None while that is not known."""
        about = _record_of(row["tenant"], row["request_id"])
        with self._engine.begin() as connection:
            connection.execute(self._keep_first(feedback, "feedback_id"), [row])
            return connection.execute(about).scalar_one_or_none()

    def record_grades(self, batch: Sequence[Row]) -> None:
        """Keeps them."""
        ordered = sorted(batch, key=lambda row: str(row["grade_id"]))
        with self._engine.begin() as connection:
            connection.execute(self._keep_first(grades, "grade_id"), ordered)

    def decision(self, tenant: str, request_id: str) -> FoundDecision | None:
        """One of this tenant's decisions, with the oldest ABOUT_MAX of what is known about it."""
        query = _record_of(tenant, request_id)
        with self._reading.begin() as connection:
            record_json = connection.execute(query).scalar_one_or_none()
            if record_json is None:
                return None
            return FoundDecision(
                record_json,
                _about(connection, feedback, "received_at_us", tenant, request_id),
                _about(connection, grades, "graded_at_us", tenant, request_id),
            )

    def measure_quality(
        self, since_us: int, *, flagship_target: str = "", judge_target: str = ""
    ) -> tuple[MeasuredQuality, ...]:
        """Of each target and kind of work what grades and feedback since then say, by target and kind.

        Of grades those beside `flagship_target` alone, and by `judge_target` or against known answers; empty: any. What
        came to no grade does not count. A request counts once, whatever the number of thumbs; what is said of an answer
        that was found by meaning says nothing of the target that had written it for another question.
        """
        with self._reading.begin() as connection:
            sums = _grade_sums(connection, since_us, flagship_target, judge_target)
            opinions = _opinions(connection, since_us)
        nothing = GradeSums(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        found = []
        for target, task_type in sorted(sums.keys() | opinions.keys()):
            graded = sums.get((target, task_type), nothing)
            liked, disliked = opinions.get((target, task_type), (0, 0))
            found.append(
                MeasuredQuality(
                    target=target,
                    task_type=TaskType(task_type),
                    grades=graded.grades,
                    mean=graded.mean,
                    flagship_mean=graded.flagship_mean,
                    ratio_lower=ratio_lower(graded),
                    liked=liked,
                    disliked=disliked,
                )
            )
        return tuple(found)

    def delete_before(self, before_us: int, count_max: int) -> int:
        """Deletes at most `count_max` decisions that are older, with all about them; how many rows it found to delete.

        Once no such decision is left, feedback and grades that are older and whose decision never came. 0: all done.
        """
        with self._engine.begin() as connection:
            old = connection.execute(
                select(decisions.c.id, decisions.c.tenant, decisions.c.request_id)
                .where(decisions.c.received_at_us < before_us)
                .order_by(decisions.c.received_at_us)
                .limit(count_max)
                .with_for_update(skip_locked=True)
            ).all()
            if old:
                keys = [(tenant, request_id) for _, tenant, request_id in old]
                for table in (feedback, grades):
                    connection.execute(delete(table).where(tuple_(table.c.tenant, table.c.request_id).in_(keys)))
                connection.execute(delete(decisions).where(decisions.c.id.in_([number for number, *_ in old])))
                return len(old)
            deleted = 0
            for table, time in ((feedback, feedback.c.received_at_us), (grades, grades.c.graded_at_us)):
                chosen = select(table.c.id).where(time < before_us).limit(count_max).with_for_update(skip_locked=True)
                deleted += connection.execute(delete(table).where(table.c.id.in_(chosen))).rowcount
            return deleted

    def _own_requests(
        self, connection: Connection, again: Sequence[DecisionRows]
    ) -> dict[tuple[str, str, int], DecisionRows]:
        """Those of `again`, answers whose request id has one, that are no repetitions of it; with keys of their own."""
        if not again:
            return {}
        ids = sorted({rows.key[:2] for rows in again})
        query = select(decisions.c.tenant, decisions.c.request_id, decisions.c.received_at_us).where(
            tuple_(decisions.c.tenant, decisions.c.request_id).in_(ids), decisions.c.failed_at_us <= 0
        )
        known: dict[tuple[str, str], list[int]] = {}
        for tenant, request_id, at_us in connection.execute(query):
            known.setdefault((tenant, request_id), []).append(at_us)
        found = {}
        for rows in sorted(again, key=lambda rows: (rows.key, rows.decision["received_at_us"])):
            at_us, times = rows.decision["received_at_us"], known.setdefault(rows.key[:2], [])
            if all(abs(at_us - time) > self._apart_us for time in times):
                times.append(at_us)
                key = (*rows.key[:2], -at_us)
                found[key] = replace(rows, key=key, decision=rows.decision | {"failed_at_us": -at_us})
        return found

    def _keep_first(self, table: Table, *key: str) -> Insert:
        statement: Insert = self._insert(table).on_conflict_do_nothing(index_elements=list(key))
        return statement


def _record_of(tenant: object, request_id: object) -> Select[str]:
    """The last answered run of a request id; without one, the last that failed."""
    mine = (decisions.c.tenant == tenant) & (decisions.c.request_id == request_id)
    answered_first = case((decisions.c.failed_at_us <= 0, 0), else_=1)
    return (
        select(decisions.c.record_json).where(mine).order_by(answered_first, decisions.c.received_at_us.desc()).limit(1)
    )


def _is_kept(
    rows: DecisionRows, first: dict[tuple[str, str, int], DecisionRows], kept: set[tuple[str, str, int]]
) -> bool:
    return rows.key in kept and first[rows.key] is rows


def _may_be_reused(rows: DecisionRows) -> bool:
    """Whether a second answer under that id may be another request's: not a failure, nor a job, whose id is its own."""
    return rows.key[2] == 0 and not rows.decision["job_id"]


def _parts(rows: DecisionRows, table: Table) -> Iterable[Row]:
    if table is attempts:
        return rows.attempts
    return rows.verdicts if table is verdicts else rows.hops


def _about(connection: Connection, table: Table, time: str, tenant: str, request_id: str) -> tuple[Row, ...]:
    query = (
        select(table)
        .where(table.c.tenant == tenant, table.c.request_id == request_id)
        .order_by(table.c[time], table.c.id)
        .limit(ABOUT_MAX)
    )
    return tuple(dict(row) for row in connection.execute(query).mappings())


def _grade_sums(
    connection: Connection, since_us: int, flagship_target: str, judge_target: str
) -> dict[tuple[str, str], GradeSums]:
    score, flagship = grades.c.score, grades.c.flagship_score
    columns = [func.sum(each) for each in (score, flagship, score * score, flagship * flagship, score * flagship)]
    counted = [grades.c.graded_at_us >= since_us, grades.c.outcome == ""]
    if flagship_target:
        counted.append(grades.c.flagship_target == flagship_target)
    if judge_target:
        counted.append(grades.c.judge_target.in_((judge_target, "")))
    query = (
        select(grades.c.target, grades.c.task_type, func.count(), *columns)
        .where(*counted)
        .group_by(grades.c.target, grades.c.task_type)
    )
    return {
        (target, task_type): GradeSums(int(count), *(float(each) for each in sums))
        for target, task_type, count, *sums in connection.execute(query)
    }


def _opinions(connection: Connection, since_us: int) -> dict[tuple[str, str], tuple[int, int]]:
    def requests(kinds: tuple[str, ...]) -> Any:
        return func.count(distinct(case((feedback.c.kind.in_(kinds), decisions.c.id))))

    liked, disliked = requests(LIKED), requests(DISLIKED)
    same_request = (feedback.c.tenant == decisions.c.tenant) & (feedback.c.request_id == decisions.c.request_id)
    query = (
        select(decisions.c.target, decisions.c.task_type, liked, disliked)
        .select_from(feedback.join(decisions, same_request))
        .where(
            feedback.c.received_at_us >= since_us,
            feedback.c.kind.in_(LIKED + DISLIKED),
            decisions.c.target != "",
            decisions.c.failed_at_us == 0,
            decisions.c.task_type != "",
            decisions.c.cache_kind != CacheKind.SEMANTIC_HIT.value,
        )
        .group_by(decisions.c.target, decisions.c.task_type)
    )
    return {(target, task_type): (up, down) for target, task_type, up, down in connection.execute(query)}
