"""The rows that a report is made of, read from the ledger's tables.

Promises: reads only, in one transaction, so that all figures are of the same moment; rows come one after another and
are never all in memory. Money is whole nano US dollars, times are microseconds, as in the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from services.ledger.schema import attempts, decisions, feedback, grades, hops, verdicts

__all__ = ["Asked", "Decided", "Graded", "Remark", "Source", "Window"]

ROWS_AT_ONCE = 5_000
_SCHEMA_GATE = "schema"
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """What a report is about: decisions received in [since_unix_s, until_unix_s), of one tenant or (None) of all."""

    since_unix_s: float
    until_unix_s: float
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision."""

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
        names = [name for name in Decided.__slots__ if name != "tags"]
        columns = [decisions.c[name] for name in names]
        query = select(*columns, decisions.c.tags_json).where(self._inside).order_by(decisions.c.received_at_us)
        for row in self._connection.execute(query):
            values = dict(zip(names, row[:-1], strict=True))
            yield Decided(**values, tags=tuple(json.loads(row[-1])))

    def asked(self) -> Iterator[Asked]:
        """The attempts, those of one decision together, in the order of their starts."""
        columns = [attempts.c[name] for name in Asked.__slots__]
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
        """Feedback on the window's answers, whenever it came."""
        same = and_(
            feedback.c.tenant == decisions.c.tenant,
            feedback.c.request_id == decisions.c.request_id,
            decisions.c.failed_at_us == 0,
        )
        query = select(feedback.c.kind, decisions.c.id, decisions.c.tier, decisions.c.task_type, decisions.c.arm)
        for row in self._rows(query.join(decisions, same)):
            yield Remark(*row)

    def graded(self) -> Iterator[Graded]:
        """Grades given in the window."""
        columns = [grades.c[name] for name in Graded.__slots__]
        query = select(*columns).where(self._graded_inside, grades.c.outcome == "")
        for row in self._connection.execute(query):
            yield Graded(*row)

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
