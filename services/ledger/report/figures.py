"""The figures of a report, from its rows.

Promises: pure; one pass over each kind of rows. Shares have Wilson's intervals, means the normal one, both at 95 %
(`spillway.intervals`). What each figure counts is said where it is defined; a share without anything to count is None.

- *Savings*: 1 - cost / what the flagship would have cost, over the requests that were answered; both as the decision
  records have them (the flagship's is an estimate: its prices on the tokens of the answer that was given). What failed
  requests cost is counted in the cost and has no counterpart: savings are understated by it.
- *Escalated from a tier*: of the requests that asked it for an answer, those of which an answer was rejected there and
  none accepted. *Fallback in a tier*: those of which a call there failed, timed out or was throttled.
- *Drift*: the population stability index between the older and the newer half of the window's requests, over task types
  and complexities: below 0.1 nothing moved, above 0.25 it is another population (the usual reading of credit scoring;
  Siddiqi, Credit Risk Scorecards, 2006).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, Protocol

from services.ledger.report.source import Asked, Decided, Graded, Remark
from spillway.intervals import Interval, mean_interval, wilson
from spillway.routing import AttemptOutcome, AttemptPurpose, CacheKind, FeedbackKind, GradeSource, Verdict

__all__ = [
    "ALARM_ESCALATED",
    "HEALTHY_ESCALATED",
    "HEALTHY_SIMPLE",
    "Group",
    "Latency",
    "Report",
    "Rows",
    "TierFigures",
    "make_report",
    "stability_index",
]

HEALTHY_ESCALATED: Final = 0.15
ALARM_ESCALATED: Final = 0.30
HEALTHY_SIMPLE: Final = (0.02, 0.10)
GROUPS_MAX: Final = 20
"""Of one kind (tenants, endpoints) in a report; the others are put together."""
OTHERS: Final = "(others)"
CONFIDENCE_BINS: Final = 10
_PSI_FLOOR: Final = 1e-4  # a share that is not seen at all would make the index infinite

_ANSWERS: Final = frozenset({AttemptPurpose.ANSWER.value, AttemptPurpose.HEDGE.value})
_UNAVAILABLE: Final = frozenset(
    {AttemptOutcome.ERROR.value, AttemptOutcome.TIMEOUT.value, AttemptOutcome.THROTTLED.value}
)
_ACCEPTED: Final = AttemptOutcome.ACCEPTED.value
_REJECTED: Final = AttemptOutcome.REJECTED.value
_DISLIKED: Final = frozenset(
    {FeedbackKind.THUMBS_DOWN.value, FeedbackKind.REGENERATED.value, FeedbackKind.COMPLAINT.value}
)

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
class Latency:
    """Quantiles by nearest rank, in seconds."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of one cohort. Costs are in nano US dollars.

    `hits` counts answers from the cache and shared ones; `accepted` is of those that models answered.
    """

    kind: str
    name: str
    requests: int
    failed: int
    cost_nanousd: int
    flagship_cost_nanousd: int
    savings: float | None
    exact_hits: int
    semantic_hits: int
    shared: int
    escalated: Interval | None
    fallbacks: int
    accepted: Interval | None
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One tier. `asked` and `answered` count requests; `cost_nanousd` is of all its attempts, judges included."""

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
    the requests' cost; `gates_cost_nanousd` is."""

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

    def of_kind(self, kind: str) -> tuple[Group, ...]:
        """The cohorts of one kind, largest first."""
        return tuple(group for group in self.groups if group.kind == kind)


@dataclass(slots=True)
class _Tally:
    """What is counted of a cohort."""

    requests: int = 0
    failed: int = 0
    cost: int = 0
    flagship: int = 0
    exact: int = 0
    semantic: int = 0
    shared: int = 0
    escalated: int = 0
    fallbacks: int = 0
    by_models: int = 0
    accepted: int = 0
    latencies: array[int] = field(default_factory=lambda: array("q"))

    def add(self, row: Decided) -> None:
        self.requests += 1
        self.cost += row.cost_nanousd
        self.fallbacks += row.fallbacks
        self.latencies.append(row.latency_us)
        if row.status_code:
            self.failed += 1
            return
        self.flagship += row.flagship_cost_nanousd
        if row.shared:
            self.shared += 1
        elif row.cache_kind == CacheKind.EXACT_HIT:
            self.exact += 1
        elif row.cache_kind == CacheKind.SEMANTIC_HIT:
            self.semantic += 1
        else:
            self.by_models += 1
            self.accepted += row.accepted
            self.escalated += row.escalations > 0

    def group(self, kind: str, name: str) -> Group:
        return Group(
            kind=kind,
            name=name,
            requests=self.requests,
            failed=self.failed,
            cost_nanousd=self.cost,
            flagship_cost_nanousd=self.flagship,
            savings=1 - self.cost / self.flagship if self.flagship else None,
            exact_hits=self.exact,
            semantic_hits=self.semantic,
            shared=self.shared,
            escalated=_share(self.escalated, self.by_models),
            fallbacks=self.fallbacks,
            accepted=_share(self.accepted, self.by_models),
            latency=_latency(self.latencies),
        )


def make_report(rows: Rows, tier_order: Sequence[str] = ()) -> Report:
    """The figures of all rows. Tiers come in `tier_order`, others after them by what a request costs there."""
    cohorts = _Cohorts()
    for row in rows.decided():
        cohorts.add(row)
    asked = _Asked()
    for _, attempts in groupby(rows.asked(), key=lambda attempt: attempt.decision_id):
        asked.add(tuple(attempts))
    schema: dict[str, Counter[str]] = defaultdict(Counter)
    for tier, verdict in rows.schema_verdicts():
        schema[tier][verdict] += 1
    remarks = list(rows.remarks())
    graded = list(rows.graded())
    ungraded: Counter[str] = Counter()
    for grade_source, _, cost_nanousd in rows.ungraded_costs():
        ungraded[grade_source] += cost_nanousd
    latencies: dict[str, array[int]] = defaultdict(lambda: array("q"))
    for hop, latency_us in rows.hops():
        latencies[hop].append(latency_us)
    return Report(
        all=cohorts.everything.group("all", "all") if cohorts.everything.requests else None,
        groups=cohorts.groups(),
        tiers=_tiers(cohorts, asked, schema, remarks, graded, tier_order),
        hops={hop: _known(values) for hop, values in sorted(latencies.items())},
        days=tuple(tally.group("day", day) for day, tally in sorted(cohorts.days.items())),
        policy_steps=dict(cohorts.steps.most_common()),
        confidence_counts=tuple(cohorts.confidences),
        drift=cohorts.drift(),
        feedback=dict(Counter(remark.kind for remark in remarks).most_common()),
        gates_cost_nanousd=asked.gates_cost,
        canary_cost_nanousd=sum(grade.cost_nanousd for grade in graded) + ungraded[_CANARY],
        audits_cost_nanousd=ungraded[_AUDIT],
        canary_grades=len(graded),
        cost_unknown=cohorts.cost_unknown,
        flagship_targets=tuple(sorted(cohorts.flagships)),
    )


def stability_index(older: Mapping[str, int], newer: Mapping[str, int]) -> float | None:
    """The population stability index of two counts over the same categories; None when one of them is empty."""
    before, after = sum(older.values()), sum(newer.values())
    if not before or not after:
        return None
    index = 0.0
    for name in {*older, *newer}:
        expected = max(older.get(name, 0) / before, _PSI_FLOOR)
        found = max(newer.get(name, 0) / after, _PSI_FLOOR)
        index += (found - expected) * math.log(found / expected)
    return index


class _Cohorts:
    """Everything that is counted of decisions alone."""

    def __init__(self) -> None:
        self.everything = _Tally()
        self.days: dict[str, _Tally] = defaultdict(_Tally)
        self.by: dict[str, dict[str, _Tally]] = defaultdict(lambda: defaultdict(_Tally))
        self.answered: Counter[str] = Counter()
        self.by_models: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.confidences = [0] * CONFIDENCE_BINS
        self.judgements: list[tuple[str, str]] = []
        self.cost_unknown = 0
        self.flagships: set[str] = set()

    def add(self, row: Decided) -> None:
        self.everything.add(row)
        self.days[_day(row.received_at_us)].add(row)
        for kind, name in (
            ("task type", row.task_type or "(not judged)"),
            ("user tier", row.user_tier or "(none)"),
            ("arm", row.arm),
            ("tenant", row.tenant or "(none)"),
            ("endpoint", row.endpoint or "(none)"),
        ):
            if name:
                self.by[kind][name].add(row)
        for tag in row.tags:
            self.by["tag"][tag].add(row)
        self.steps[row.policy_step or "(none)"] += 1
        self.cost_unknown += row.cost_unknown
        if row.flagship_target:
            self.flagships.add(row.flagship_target)
        if row.task_type:
            self.judgements.append((row.task_type, row.complexity))
        if row.confidence is not None:
            self.confidences[min(int(row.confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
        if not row.status_code:
            self.answered[row.tier] += 1
            if row.cache_kind not in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT}:
                self.by_models[row.tier] += 1
                self.accepted[row.tier] += row.accepted

    def groups(self) -> tuple[Group, ...]:
        found: list[Group] = []
        for kind, tallies in self.by.items():
            largest = sorted(tallies.items(), key=lambda item: (-item[1].requests, item[0]))
            found += [tally.group(kind, name) for name, tally in largest[:GROUPS_MAX]]
            if rest := largest[GROUPS_MAX:]:
                found.append(_together([tally for _, tally in rest]).group(kind, OTHERS))
        return tuple(found)

    def drift(self) -> dict[str, float]:
        middle = len(self.judgements) // 2
        older, newer = self.judgements[:middle], self.judgements[middle:]
        indices = {
            name: stability_index(Counter(each[at] for each in older), Counter(each[at] for each in newer))
            for at, name in enumerate(("task type", "complexity"))
        }
        return {name: index for name, index in indices.items() if index is not None}


class _Asked:
    """Everything that is counted of attempts, by tier."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.escalated: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.cost: Counter[str] = Counter()
        self.gates_cost = 0

    def dearness(self, tier: str) -> tuple[float, str]:
        """To sort tiers by."""
        return self.cost[tier] / max(self.requests[tier], 1), tier

    def add(self, attempts: Sequence[Asked]) -> None:
        """The attempts of one request."""
        outcomes: dict[str, set[str]] = defaultdict(set)
        for attempt in attempts:
            self.cost[attempt.tier] += attempt.cost_nanousd
            if attempt.purpose in _ANSWERS:
                outcomes[attempt.tier].add(attempt.outcome)
            else:
                self.gates_cost += attempt.cost_nanousd
        for tier, found in outcomes.items():
            self.requests[tier] += 1
            self.escalated[tier] += _REJECTED in found and _ACCEPTED not in found
            self.failed[tier] += not found.isdisjoint(_UNAVAILABLE)


def _tiers(
    cohorts: _Cohorts,
    asked: _Asked,
    schema: Mapping[str, Counter[str]],
    remarks: Sequence[Remark],
    graded: Sequence[Graded],
    order: Sequence[str],
) -> tuple[TierFigures, ...]:
    names = {name for name in (*cohorts.answered, *asked.requests) if name}
    return tuple(
        _tier(name, cohorts, asked, schema.get(name, Counter()), remarks, graded)
        for name in (*(name for name in order if name in names), *sorted(names - set(order), key=asked.dearness))
    )


def _tier(
    tier: str,
    cohorts: _Cohorts,
    asked: _Asked,
    schema: Counter[str],
    remarks: Sequence[Remark],
    graded: Sequence[Graded],
) -> TierFigures:
    about = [remark for remark in remarks if remark.tier == tier]
    mine = [grade for grade in graded if grade.tier == tier]
    answered, requests = cohorts.answered[tier], asked.requests[tier]

    def requests_with(kinds: frozenset[str]) -> int:
        return len({remark.decision_id for remark in about if remark.kind in kinds})

    return TierFigures(
        tier=tier,
        asked=requests,
        answered=answered,
        cost_nanousd=asked.cost[tier],
        escalated=_share(asked.escalated[tier], requests),
        fallback=_share(asked.failed[tier], requests),
        schema_failed=_share(schema[Verdict.FAIL], schema.total()),
        regenerated=_share(requests_with(frozenset({FeedbackKind.REGENERATED})), answered),
        complained=_share(requests_with(frozenset({FeedbackKind.COMPLAINT})), answered),
        disliked=_share(requests_with(_DISLIKED), answered),
        accepted=_share(cohorts.accepted[tier], cohorts.by_models[tier]),
        grades=len(mine),
        grade=_mean([grade.score for grade in mine]),
        grade_difference=_mean([grade.score - grade.flagship_score for grade in mine]),
    )


def _together(tallies: Sequence[_Tally]) -> _Tally:
    whole = _Tally()
    for tally in tallies:
        for name in _Tally.__slots__:
            if name == "latencies":
                whole.latencies.extend(tally.latencies)
            else:
                setattr(whole, name, getattr(whole, name) + getattr(tally, name))
    return whole


def _share(count: int, of: int) -> Interval | None:
    return wilson(count, of) if of else None


def _mean(values: Sequence[float]) -> Interval | None:
    return mean_interval(sum(values), sum(value * value for value in values), len(values)) if values else None


def _latency(values_us: array[int]) -> Latency | None:
    return _known(values_us) if values_us else None


def _known(values_us: array[int]) -> Latency:
    ordered = sorted(values_us)
    p50, p95, p99 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] / 1_000_000 for share in (0.50, 0.95, 0.99))
    return Latency(len(ordered), p50, p95, p99)


def _day(received_at_us: int) -> str:
    """Of UTC, e.g. "2026-11-22"."""
    return datetime.fromtimestamp(received_at_us // 1_000_000, UTC).date().isoformat()
