"""The figures of a report, from its rows.

Promises: pure; one pass over each kind of rows. Shares have Wilson's intervals, means the normal one, both at 95 %
(`spillway.intervals`). What each figure counts is said where it is defined; a share without anything to count is None.

- *Savings*: 1 - cost / what the flagship would have cost, over the requests that were answered; both as the decision
  records have them (the flagship's is an estimate: its prices on the tokens of the answer that was given). What failed
  requests cost is counted in the cost and has no counterpart: savings are understated by it. A call that may have been
  charged and that nobody counted costs what is estimated; where a budget has booked it at the most that it can have
  cost, the difference is in no cost and no saving here, but beside them (`cost_excess_nanousd`, `calls_bounded`).
- *Requests*: a request whose run failed and that was sent again under its id is one request, answered or failed as its
  last run was; its earlier runs are `failed_tries`, whose cost counts. Tiers and hops are of all runs.
- *Escalated from a tier*: of the runs to which it gave an answer, those of which none was accepted there and another
  tier was asked. There is none above the last tier, so of it there is no such share. *Fallback in a tier*: of the runs
  that asked it, those of which a call there failed, timed out or was throttled.
- *Drift*: the population stability index between the older and the newer half of the window's requests, over task types
  and complexities: below 0.1 nothing moved, above 0.25 it is another population (the usual reading of credit scoring;
  Siddiqi, Credit Risk Scorecards, 2006). With fewer than `DRIFT_LEAST` in a half it would be chance, and there is none.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

from services.ledger.report.source import Asked, Decided, Graded, Remark
from services.ledger.report.tallies import (
    AskedTally,
    Cohorts,
    GradeTally,
    Group,
    Latency,
    RemarkTally,
    known,
    mean,
    share,
)
from spillway.intervals import Interval
from spillway.routing import FeedbackKind, GradeSource, Verdict

__all__ = [
    "ALARM_ESCALATED",
    "HEALTHY_ESCALATED",
    "HEALTHY_SIMPLE",
    "Report",
    "Rows",
    "TierFigures",
    "make_report",
]

HEALTHY_ESCALATED: Final = 0.15
ALARM_ESCALATED: Final = 0.30
HEALTHY_SIMPLE: Final = (0.02, 0.10)
_CANARY: Final = GradeSource.CANARY.value
_AUDIT: Final = GradeSource.AUDIT.value


class Rows(Protocol):
    """Where rows come from: services.ledger.report.source.Source, or lists."""

    def decided(self) -> Iterable[Decided]: ...
    def asked(self) -> Iterable[Asked]: ...
    def schema_verdicts(self) -> Iterable[tuple[str, str]]: ...
    def hops(self) -> Iterable[tuple[str, int]]: ...
    def remarks(self) -> Iterable[Remark]: ...
    def graded(self) -> Iterable[Graded]: ...
    def ungraded_costs(self) -> Iterable[tuple[str, str, int]]: ...


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One tier. `asked` counts runs, `answered` requests; `cost_nanousd` is of all its attempts, judges included."""

    tier: str
    asked: int
    answered: int
    cost_nanousd: int
    escalated: Interval | None
    fallback: Interval | None
    schema_failed: Interval | None
    regenerated: Interval | None
    complained: Interval | None
    disliked: Interval | None
    accepted: Interval | None
    grades: int
    grade: Interval | None
    grade_difference: Interval | None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `canary_cost_nanousd`, also of comparisons without a grade, and `audits_cost_nanousd` are not part of
    the requests' cost; `gates_cost_nanousd` is. `calls_bounded` nobody counted, and a budget has booked each at its
    bound: `all.cost_excess_nanousd` is how much more than estimated they can have cost."""

    all: Group | None
    groups: tuple[Group, ...]
    tiers: tuple[TierFigures, ...]
    hops: Mapping[str, Latency]
    days: tuple[Group, ...]
    policy_steps: Mapping[str, int]
    confidence_counts: tuple[int, ...]
    drift: Mapping[str, float]
    feedback: Mapping[str, int]
    gates_cost_nanousd: int
    canary_cost_nanousd: int
    audits_cost_nanousd: int
    canary_grades: int
    cost_unknown: int
    flagship_targets: tuple[str, ...]
    calls_bounded: int = 0

    def of_kind(self, kind: str) -> tuple[Group, ...]:
        """The cohorts of one kind, largest first."""
        return tuple(group for group in self.groups if group.kind == kind)


def make_report(rows: Rows, tier_order: Sequence[str] = ()) -> Report:
    """The figures of all rows. Tiers come in `tier_order`, others after them by what a request costs there."""
    cohorts = Cohorts()
    for row in rows.decided():
        cohorts.add(row)
    asked = AskedTally()
    for _, attempts in groupby(rows.asked(), key=lambda attempt: attempt.decision_id):
        asked.add(tuple(attempts))
    schema: dict[str, Counter[str]] = defaultdict(Counter)
    for tier, verdict in rows.schema_verdicts():
        schema[tier][verdict] += 1
    remarks = RemarkTally()
    for _, said in groupby(rows.remarks(), key=lambda remark: remark.decision_id):
        remarks.add(tuple(said))
    graded: dict[str, GradeTally] = defaultdict(GradeTally)
    for grade in rows.graded():
        graded[grade.tier].add(grade)
    ungraded: Counter[str] = Counter()
    for grade_source, _, cost_nanousd in rows.ungraded_costs():
        ungraded[grade_source] += cost_nanousd
    latencies: dict[str, array[int]] = defaultdict(lambda: array("q"))
    for hop, latency_us in rows.hops():
        latencies[hop].append(latency_us)
    everything = cohorts.everything
    return Report(
        all=everything.group("all", "all") if everything.requests or everything.failed_tries else None,
        groups=cohorts.groups(),
        tiers=_tiers(cohorts, asked, schema, remarks, graded, tier_order),
        hops={hop: known(values) for hop, values in sorted(latencies.items())},
        days=tuple(tally.group("day", day) for day, tally in sorted(cohorts.days.items())),
        policy_steps=dict(cohorts.steps.most_common()),
        confidence_counts=tuple(cohorts.confidences),
        drift=cohorts.drift(),
        feedback=dict(remarks.kinds.most_common()),
        gates_cost_nanousd=asked.gates_cost,
        canary_cost_nanousd=sum(each.cost for each in graded.values()) + ungraded[_CANARY],
        audits_cost_nanousd=ungraded[_AUDIT],
        canary_grades=sum(each.count for each in graded.values()),
        cost_unknown=cohorts.cost_unknown,
        flagship_targets=tuple(sorted(cohorts.flagships)),
        calls_bounded=asked.bounded,
    )


def _tiers(
    cohorts: Cohorts,
    asked: AskedTally,
    schema: Mapping[str, Counter[str]],
    remarks: RemarkTally,
    graded: Mapping[str, GradeTally],
    order: Sequence[str],
) -> tuple[TierFigures, ...]:
    seen = {name for name in (*cohorts.answered, *asked.requests) if name}
    names = (*(name for name in order if name in seen), *sorted(seen - set(order), key=asked.dearness))
    # Where the order is not known, the dearest is the last unless it was left.
    top = order[-1] if order else names[-1] if names and not asked.left[names[-1]] else ""

    def figures(tier: str) -> TierFigures:
        forms, grades, answered = schema.get(tier, Counter()), graded.get(tier, GradeTally()), cohorts.answered[tier]
        return TierFigures(
            tier=tier,
            asked=asked.requests[tier],
            answered=answered,
            cost_nanousd=asked.cost[tier],
            escalated=None if tier == top else share(asked.left[tier], asked.gave[tier]),
            fallback=share(asked.failed[tier], asked.requests[tier]),
            schema_failed=share(forms[Verdict.FAIL], forms.total()),
            regenerated=share(remarks.requests[tier, FeedbackKind.REGENERATED.value], answered),
            complained=share(remarks.requests[tier, FeedbackKind.COMPLAINT.value], answered),
            disliked=share(remarks.disliked[tier], answered),
            accepted=share(cohorts.accepted[tier], cohorts.by_models[tier]),
            grades=grades.count,
            grade=mean(grades.score, grades.score_squared, grades.count),
            grade_difference=mean(grades.difference, grades.difference_squared, grades.count),
        )

    return tuple(figures(name) for name in names)
