"""Whether traffic is what it was: label drift and escalation shares over windows that slide by counts.

Promises: pure, no clock; memory is bounded by the windows. A state is told only from LEAST labels on in each window:
below that chance alone moves the figures.

Label drift is the population stability index of the newest labels against those before them,
sum over labels of (p - q) ln(p / q), with half a label added to each count, so that a label that was never seen does
not make it infinite. By chance alone it is about (labels - 1) (1 / n + 1 / m). The usual reading: below 0.1 the same
population, from 0.25 another.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from spillway.routing import Attempt, AttemptOutcome, AttemptPurpose

__all__ = [
    "BANDS",
    "LEAST",
    "OVERALL_TIER",
    "Band",
    "LabelWindow",
    "ShareWindow",
    "State",
    "band_of",
    "drift_state",
    "psi",
    "tiers_left",
]

LEAST: Final = 500
NEWEST_LABELS: Final = 2_000
REFERENCE_LABELS: Final = 20_000
NEWEST_REQUESTS: Final = 1_000
OVERALL_TIER: Final = "all"

_DRIFT_WATCH: Final = 0.1
_DRIFT_ALARM: Final = 0.25
_PRIOR: Final = 0.5


class State(IntEnum):
    """How a figure is to be read; as a number, for dashboards."""

    HEALTHY = 0
    WATCH = 1
    ALARM = 2


@dataclass(frozen=True, slots=True)
class Band:
    """Shares from `low` to `high` are healthy, from `alarm` on an alarm, others to be watched."""

    low: float
    high: float
    alarm: float

    def state(self, share: float) -> State:
        """How `share` is to be read."""
        if share >= self.alarm:
            return State.ALARM
        return State.HEALTHY if self.low <= share <= self.high else State.WATCH


BANDS: Final = {"simple": Band(0.02, 0.10, 0.30)}
"""Too few escalations from the cheapest tier say that its gates let everything through, or that it gets too little."""

_USUAL: Final = Band(0.0, 0.15, 0.30)


def band_of(tier: str) -> Band:
    """The band of a tier's escalation share; OVERALL_TIER and any tier but `simple` have the usual one."""
    return BANDS.get(tier, _USUAL)


def psi(reference: Sequence[int], newest: Sequence[int]) -> float:
    """The population stability index of two counts of the same labels; at least 0."""
    n, m = sum(reference) + _PRIOR * len(reference), sum(newest) + _PRIOR * len(newest)
    shares = (((a + _PRIOR) / n, (b + _PRIOR) / m) for a, b in zip(reference, newest, strict=True))
    return sum((q - p) * math.log(q / p) for p, q in shares)


def drift_state(value: float) -> State:
    """How an index is to be read."""
    if value >= _DRIFT_ALARM:
        return State.ALARM
    return State.WATCH if value >= _DRIFT_WATCH else State.HEALTHY


class LabelWindow:
    """The newest labels, and those before them, of a known set."""

    def __init__(
        self, labels: Iterable[str], *, newest_max: int = NEWEST_LABELS, reference_max: int = REFERENCE_LABELS
    ) -> None:
        self._places = {label: place for place, label in enumerate(labels)}
        self._newest_max, self._reference_max = newest_max, reference_max
        self._newest: deque[int] = deque()
        self._reference: deque[int] = deque()
        self._newest_counts = [0] * len(self._places)
        self._reference_counts = [0] * len(self._places)

    def add(self, label: str) -> None:
        """One label more; one that is not of the set is left out."""
        place = self._places.get(label)
        if place is None:
            return
        self._newest.append(place)
        self._newest_counts[place] += 1
        if len(self._newest) > self._newest_max:
            moved = self._newest.popleft()
            self._newest_counts[moved] -= 1
            self._reference.append(moved)
            self._reference_counts[moved] += 1
        if len(self._reference) > self._reference_max:
            self._reference_counts[self._reference.popleft()] -= 1

    def drift(self) -> float | None:
        """The index; None while either window has fewer than LEAST labels."""
        if len(self._reference) < LEAST or len(self._newest) < LEAST:
            return None
        return psi(self._reference_counts, self._newest_counts)


class ShareWindow:
    """Of how many of the newest things something was so."""

    def __init__(self, newest_max: int = NEWEST_REQUESTS) -> None:
        self._newest: deque[bool] = deque()
        self._newest_max = newest_max
        self._count = 0

    def add(self, is_so: bool) -> None:
        """One thing more."""
        self._newest.append(is_so)
        self._count += is_so
        if len(self._newest) > self._newest_max:
            self._count -= self._newest.popleft()

    def share(self) -> float | None:
        """None while there are fewer than LEAST."""
        return self._count / len(self._newest) if len(self._newest) >= LEAST else None


def tiers_left(attempts: Iterable[Attempt]) -> tuple[tuple[str, bool], ...]:
    """The tiers that gave an answer to one request, in order, and whether another was asked because none was accepted.

    A tier that only failed or was cut off is left out: what follows it is fallback, not escalation.
    """
    asked: list[str] = []
    accepted: dict[str, bool] = {}
    for attempt in attempts:
        if attempt.purpose not in {AttemptPurpose.ANSWER, AttemptPurpose.HEDGE}:
            continue
        if attempt.outcome is not AttemptOutcome.SKIPPED and attempt.tier not in asked:
            asked.append(attempt.tier)
        if attempt.outcome in {AttemptOutcome.ACCEPTED, AttemptOutcome.REJECTED}:
            passed = attempt.outcome is AttemptOutcome.ACCEPTED
            accepted[attempt.tier] = passed or accepted.get(attempt.tier, False)
    return tuple((tier, not accepted[tier] and tier != asked[-1]) for tier in asked if tier in accepted)
