"""The rows that a report is made of, read from the ledger's tables.

Promises: reads only, in one transaction, so that all figures are of the same moment; rows come one after another and
are never all in memory. Money is whole nano US dollars, times are microseconds, as in the tables. A cost is what was
counted or is estimated; `cost_excess_nanousd` comes on top where a call that nobody counted was booked at its bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, exists, func, select

from services.ledger.schema import attempts, decisions, feedback, grades, hops, verdicts

__all__ = ["Asked", "Decided", "Graded", "Remark", "Source", "Trial", "Window"]

ROWS_AT_ONCE = 5_000
_SCHEMA_GATE = "schema"
_US = 1_000_000
SAME_REQUEST_US = 86_400 * _US
"""Runs under one id that are farther apart are of requests of their own."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a report is about: decisions received in [since_unix_s, until_unix_s), of one tenant or (None) of all."""

    since_unix_s: float
    until_unix_s: float
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """One run of a request. `tried_again`: it failed, and a later run of the same request is the one that counts."""

    tenant: str
    received_at_us: int
    user_tier: str
    endpoint: str
    tags: tuple[str, ...]
    task_type: str
    complexity: str
    confidence: float | None
    arm: str
    policy_step: str
    cache_kind: str
    shared: bool
    tier: str
    target: str
    accepted: bool
    status_code: int
    cost_unknown: bool
    cost_nanousd: int
    flagship_cost_nanousd: int
    flagship_target: str
    escalations: int
    fallbacks: int
    latency_us: int
    tried_again: bool = False
    cost_excess_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a request in an arm of a rollout.

    An answer from the cache that nobody judged has the kind of work of the same prompt when it was; `end_user_hash` is
    empty for a request that names no user.
    """

    decision_id: int
    end_user_hash: str
    config_version: str
    task_type: str
    arm: str
    status_code: int
    cost_nanousd: int
    tried_again: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt, with the decision that it belongs to."""

    decision_id: int
    tier: str
    target: str
    purpose: str
    outcome: str
    cost_nanousd: int
    latency_us: int
    cost_excess_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class Remark:
    """What a person made of an answer; `tier` and `arm` are those of the decision."""

    kind: str
    decision_id: int
    tier: str
    task_type: str
    arm: str


@dataclass(frozen=True, slots=True)
class Graded:
    """What a judge made of an answer, beside the flagship's."""

    source: str
    tier: str
    target: str
    task_type: str
    arm: str
    score: float
    flagship_score: float
    cost_nanousd: int
    end_user_hash: str = ""


class Source:
    """The rows of one window. Not for several threads."""

    def __init__(self, connection: Connection, window: Window) -> None:
        self._connection = connection.execution_options(yield_per=ROWS_AT_ONCE)
        conditions = [
            decisions.c.received_at_us >= round(window.since_unix_s * _US),
            decisions.c.received_at_us < round(window.until_unix_s * _US),
        ]
        if window.tenant is not None:
            conditions.append(decisions.c.tenant == window.tenant)
        self._inside = and_(*conditions)
        graded_inside = [
            grades.c.graded_at_us >= round(window.since_unix_s * _US),
            grades.c.graded_at_us < round(window.until_unix_s * _US),
        ]
        if window.tenant is not None:
            graded_inside.append(grades.c.tenant == window.tenant)
        self._graded_inside = and_(*graded_inside)

    def decided(self) -> Iterator[Decided]:
        """The decisions, oldest first."""
        names = [name for name in Decided.__slots__ if name not in {"tags", "tried_again"}]
        columns = [_column(decisions, name) for name in names]
        query = select(*columns, decisions.c.tags_json, _tried_again()).order_by(decisions.c.received_at_us)
        for row in self._rows(query):
            values = dict(zip(names, row[:-2], strict=True))
            yield Decided(**values, tags=tuple(json.loads(row[-2])), tried_again=bool(row[-1]))

    def trials(self) -> Iterator[Trial]:
        """The runs that are in an arm."""
        judged = decisions.alias("judged")
        kinds = (
            select(judged.c.tenant, judged.c.prompt_sha256, func.min(judged.c.task_type).label("task_type"))
            .where(judged.c.task_type != "", judged.c.prompt_sha256 != "")
            .group_by(judged.c.tenant, judged.c.prompt_sha256)
            .subquery()
        )
        same = and_(kinds.c.tenant == decisions.c.tenant, kinds.c.prompt_sha256 == decisions.c.prompt_sha256)
        own = decisions.c.task_type
        query = select(
            decisions.c.id,
            decisions.c.end_user_hash,
            decisions.c.config_version,
            case((own != "", own), else_=func.coalesce(kinds.c.task_type, "")),
            decisions.c.arm,
            decisions.c.status_code,
            _column(decisions, "cost_nanousd"),
            _tried_again(),
        ).join_from(decisions, kinds, same, isouter=True)
        for row in self._rows(query.where(decisions.c.arm != "")):
            yield Trial(*row)

    def asked(self) -> Iterator[Asked]:
        """The attempts, those of one decision together, in the order of their starts."""
        columns = [_column(attempts, name) for name in Asked.__slots__]
        query = select(*columns).join(decisions, attempts.c.decision_id == decisions.c.id)
        for row in self._rows(query.order_by(attempts.c.decision_id, attempts.c.number)):
            yield Asked(*row)

    def schema_verdicts(self) -> Iterator[tuple[str, str]]:
        """(tier, verdict) of every answer whose form was checked."""
        same = and_(attempts.c.decision_id == verdicts.c.decision_id, attempts.c.number == verdicts.c.attempt_number)
        query = select(attempts.c.tier, verdicts.c.verdict).join(attempts, same)
        query = query.join(decisions, attempts.c.decision_id == decisions.c.id)
        for tier, verdict in self._rows(query.where(verdicts.c.gate == _SCHEMA_GATE)):
            yield str(tier), str(verdict)

    def hops(self) -> Iterator[tuple[str, int]]:
        """(hop, microseconds)."""
        query = select(hops.c.hop, hops.c.latency_us).join(decisions, hops.c.decision_id == decisions.c.id)
        for hop, latency_us in self._rows(query):
            yield str(hop), int(latency_us)

    def remarks(self) -> Iterator[Remark]:
        """Feedback on the window's answers, whenever it came; that on one answer together."""
        same = and_(
            feedback.c.tenant == decisions.c.tenant,
            feedback.c.request_id == decisions.c.request_id,
            decisions.c.failed_at_us == 0,
        )
        query = select(feedback.c.kind, decisions.c.id, decisions.c.tier, decisions.c.task_type, decisions.c.arm)
        for row in self._rows(query.join(decisions, same).order_by(decisions.c.id)):
            yield Remark(*row)

    def graded(self) -> Iterator[Graded]:
        """Grades given in the window."""
        columns = [grades.c[name] for name in Graded.__slots__ if name != "end_user_hash"]
        same = and_(
            decisions.c.tenant == grades.c.tenant,
            decisions.c.request_id == grades.c.request_id,
            decisions.c.failed_at_us == 0,
        )
        query = select(*columns, func.coalesce(decisions.c.end_user_hash, ""))
        query = query.join_from(grades, decisions, same, isouter=True)
        for row in self._connection.execute(query.where(self._graded_inside, grades.c.outcome == "")):
            yield Graded(*tuple(row))

    def ungraded_costs(self) -> Iterator[tuple[str, str, int]]:
        """(source, outcome, nano dollars): what was spent in the window beside the requests, without a grade: on
        comparisons that came to none (source canary), and on audits of cached answers (source audit)."""
        columns = (grades.c.source, grades.c.outcome, func.sum(grades.c.cost_nanousd))
        query = select(*columns).where(self._graded_inside, grades.c.outcome != "")
        for source, outcome, cost in self._connection.execute(query.group_by(grades.c.source, grades.c.outcome)):
            yield str(source), str(outcome), int(cost)

    def _rows(self, query: Select[*tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Of a query that has the decisions in it, what is inside the window."""
        for row in self._connection.execute(query.where(self._inside)):
            yield tuple(row)


def _column(table: Table, name: str) -> ColumnElement[Any]:
    """A column of `table`; of the cost what was counted or is estimated."""
    column = table.c[name]
    return column - table.c.cost_excess_nanousd if name == "cost_nanousd" else column


def _tried_again() -> ColumnElement[bool]:
    """Whether a decision is a failed run of a request that was answered, or failed once more later."""
    other = decisions.alias("other")
    return and_(
        decisions.c.failed_at_us > 0,
        exists().where(
            other.c.tenant == decisions.c.tenant,
            other.c.request_id == decisions.c.request_id,
            other.c.received_at_us.between(
                decisions.c.received_at_us - SAME_REQUEST_US, decisions.c.received_at_us + SAME_REQUEST_US
            ),
            (other.c.failed_at_us <= 0) | (other.c.failed_at_us > decisions.c.failed_at_us),
        ),
    )
