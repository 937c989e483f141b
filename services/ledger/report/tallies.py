"""What is counted of the rows of a report, one at a time.

Promises: pure. What each figure counts is said in `figures`. Memory: two bytes and some latencies for each decision,
and what is counted of at most `NAMES_MAX` names of a kind.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from services.ledger.report.source import Asked, Decided, Graded, Remark
from spillway.intervals import Interval, mean_interval, wilson
from spillway.routing import AttemptOutcome, AttemptPurpose, CacheKind, FeedbackKind

__all__ = [
    "CONFIDENCE_BINS",
    "DRIFT_LEAST",
    "GROUPS_MAX",
    "NAMES_MAX",
    "OTHERS",
    "AskedTally",
    "Cohorts",
    "GradeTally",
    "Group",
    "Latency",
    "RemarkTally",
    "Tally",
    "known",
    "mean",
    "share",
    "stability_index",
]

GROUPS_MAX: Final = 20
"""Of one kind (tenants, endpoints) in a report; the others are put together."""
OTHERS: Final = "(others)"
CONFIDENCE_BINS: Final = 10
NAMES_MAX: Final = 2_000
"""Of one kind, while they are counted: beyond it the rarer half is put together. A name that is rare then and frequent
later is counted from there on."""
DRIFT_LEAST: Final = 500
_PSI_FLOOR: Final = 1e-4  # a share that is not seen at all would make the index infinite

_ANSWERS: Final = frozenset({AttemptPurpose.ANSWER.value, AttemptPurpose.HEDGE.value})
_UNAVAILABLE: Final = frozenset(
    {AttemptOutcome.ERROR.value, AttemptOutcome.TIMEOUT.value, AttemptOutcome.THROTTLED.value}
)
_ACCEPTED: Final = AttemptOutcome.ACCEPTED.value
_SKIPPED: Final = AttemptOutcome.SKIPPED.value
_GIVEN: Final = frozenset({_ACCEPTED, AttemptOutcome.REJECTED.value})
_DISLIKED: Final = frozenset(
    {FeedbackKind.THUMBS_DOWN.value, FeedbackKind.REGENERATED.value, FeedbackKind.COMPLAINT.value}
)


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles by nearest rank, in seconds."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of one cohort. Costs are in nano US dollars, those of failed tries included.

    `cost_excess_nanousd` is how much more it can be at most, of calls that nobody counted.
    `hits` counts answers from the cache and shared ones; `accepted` is of those that models answered; `failed_tries`
    are runs that failed before another run of the same request.
    """

    kind: str
    name: str
    requests: int
    failed: int
    failed_tries: int
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
    cost_excess_nanousd: int = 0


@dataclass(slots=True)
class Tally:
    """What is counted of a cohort."""

    requests: int = 0
    failed: int = 0
    failed_tries: int = 0
    cost: int = 0
    excess: int = 0
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
        self.cost += row.cost_nanousd
        self.excess += row.cost_excess_nanousd
        self.fallbacks += row.fallbacks
        if row.tried_again:
            self.failed_tries += 1
            return
        self.requests += 1
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
            failed_tries=self.failed_tries,
            cost_nanousd=self.cost,
            flagship_cost_nanousd=self.flagship,
            savings=1 - self.cost / self.flagship if self.flagship else None,
            exact_hits=self.exact,
            semantic_hits=self.semantic,
            shared=self.shared,
            escalated=share(self.escalated, self.by_models),
            fallbacks=self.fallbacks,
            accepted=share(self.accepted, self.by_models),
            latency=_latency(self.latencies),
            cost_excess_nanousd=self.excess,
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


class Cohorts:
    """Everything that is counted of decisions alone."""

    def __init__(self) -> None:
        self.everything = Tally()
        self.days: dict[str, Tally] = defaultdict(Tally)
        self.by: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
        self.rest: dict[str, Tally] = defaultdict(Tally)
        self.answered: Counter[str] = Counter()
        self.by_models: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.confidences = [0] * CONFIDENCE_BINS
        self.judgements = array("H")
        self.judgement_names: dict[tuple[str, str], int] = {}
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
                self._count(kind, name, row)
        for tag in row.tags:
            self._count("tag", tag, row)
        if row.tried_again:
            return
        self.steps[row.policy_step or "(none)"] += 1
        self.cost_unknown += row.cost_unknown
        if row.flagship_target:
            self.flagships.add(row.flagship_target)
        if row.task_type:
            names = self.judgement_names
            self.judgements.append(names.setdefault((row.task_type, row.complexity), len(names)))
        if row.confidence is not None:
            self.confidences[min(int(row.confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
        if not row.status_code:
            self.answered[row.tier] += 1
            if row.cache_kind not in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT}:
                self.by_models[row.tier] += 1
                self.accepted[row.tier] += row.accepted

    def _count(self, kind: str, name: str, row: Decided) -> None:
        tallies = self.by[kind]
        tallies[name].add(row)
        if len(tallies) > NAMES_MAX:
            rest = _largest(tallies)[NAMES_MAX // 2 :]
            self.rest[kind] = _together([self.rest[kind], *(tally for _, tally in rest)])
            for rare, _ in rest:
                del tallies[rare]

    def groups(self) -> tuple[Group, ...]:
        found: list[Group] = []
        for kind, tallies in self.by.items():
            largest = _largest(tallies)
            found += [tally.group(kind, name) for name, tally in largest[:GROUPS_MAX]]
            rest = _together([self.rest[kind], *(tally for _, tally in largest[GROUPS_MAX:])])
            if rest.requests or rest.failed_tries:
                found.append(rest.group(kind, OTHERS))
        return tuple(found)

    def drift(self) -> dict[str, float]:
        middle = len(self.judgements) // 2
        if middle < DRIFT_LEAST:
            return {}
        names = list(self.judgement_names)
        halves = [Counter(half) for half in (self.judgements[:middle], self.judgements[middle:])]
        indices: dict[str, float] = {}
        for at, what in enumerate(("task type", "complexity")):
            older, newer = (_by_name({names[code]: n for code, n in half.items()}, at) for half in halves)
            index = stability_index(older, newer)
            if index is not None:
                indices[what] = index
        return indices


class AskedTally:
    """Everything that is counted of attempts, by tier."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.gave: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.cost: Counter[str] = Counter()
        self.gates_cost = 0
        self.bounded = 0

    def dearness(self, tier: str) -> tuple[float, str]:
        """To sort tiers by."""
        return self.cost[tier] / max(self.requests[tier], 1), tier

    def add(self, attempts: Sequence[Asked]) -> None:
        """The attempts of one run, in the order of their starts."""
        outcomes: dict[str, set[str]] = {}
        for attempt in attempts:
            self.cost[attempt.tier] += attempt.cost_nanousd
            self.bounded += attempt.cost_excess_nanousd > 0
            if attempt.purpose not in _ANSWERS:
                self.gates_cost += attempt.cost_nanousd
            elif attempt.outcome != _SKIPPED:
                outcomes.setdefault(attempt.tier, set()).add(attempt.outcome)
        last = next(reversed(outcomes), "")
        for tier, found in outcomes.items():
            self.requests[tier] += 1
            self.failed[tier] += not found.isdisjoint(_UNAVAILABLE)
            # A tier that only failed is left by fallback, not by escalation.
            if not found.isdisjoint(_GIVEN):
                self.gave[tier] += 1
                self.left[tier] += _ACCEPTED not in found and tier != last


@dataclass(slots=True)
class GradeTally:
    """What is counted of the grades of one tier's answers."""

    count: int = 0
    cost: int = 0
    score: float = 0.0
    score_squared: float = 0.0
    difference: float = 0.0
    difference_squared: float = 0.0

    def add(self, grade: Graded) -> None:
        difference = grade.score - grade.flagship_score
        self.count += 1
        self.cost += grade.cost_nanousd
        self.score += grade.score
        self.score_squared += grade.score**2
        self.difference += difference
        self.difference_squared += difference**2


class RemarkTally:
    """What is counted of feedback: remarks by kind, and by tier the requests with remarks of a kind."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.disliked: Counter[str] = Counter()

    def add(self, said: Sequence[Remark]) -> None:
        """The remarks on one answer."""
        self.kinds.update(remark.kind for remark in said)
        self.requests.update({(remark.tier, remark.kind) for remark in said})
        self.disliked.update({remark.tier for remark in said if remark.kind in _DISLIKED})


def _largest(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(tallies.items(), key=lambda item: (-item[1].requests, item[0]))


def _by_name(counts: Mapping[tuple[str, str], int], at: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for names, count in counts.items():
        found[names[at]] += count
    return found


def _together(tallies: Sequence[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        for name in Tally.__slots__:
            if name == "latencies":
                whole.latencies.extend(tally.latencies)
            else:
                setattr(whole, name, getattr(whole, name) + getattr(tally, name))
    return whole


def share(count: int, of: int) -> Interval | None:
    return wilson(count, of) if of else None


def mean(total: float, squares: float, count: int) -> Interval | None:
    return mean_interval(total, squares, count) if count else None


def _latency(values_us: array[int]) -> Latency | None:
    return known(values_us) if values_us else None


def known(values_us: array[int]) -> Latency:
    ordered = sorted(values_us)
    p50, p95, p99 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] / 1_000_000 for share in (0.50, 0.95, 0.99))
    return Latency(len(ordered), p50, p95, p99)


def _day(received_at_us: int) -> str:
    """Of UTC, e.g. "2026-11-22"."""
    return datetime.fromtimestamp(received_at_us // 1_000_000, UTC).date().isoformat()
