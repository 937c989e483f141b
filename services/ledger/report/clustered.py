"""Differences of shares and means over requests that belong to users, in strata.

Promises: pure. A user's requests are no independent trials, so the unit that counts is the user, whose requests may lie
in several strata and in both arms; a request that names no user is a unit of its own. Of D = sum over strata s of
w_s (R_s1 - R_s0), with the ratios R_sa = events / requests of arm a and the Mantel-Haenszel weights
w_s ~ n_s1 n_s0 / (n_s1 + n_s0), the variance is that of the linearised ratio estimator: the sum over units of the
squares of what each contributes (Cochran, Sampling Techniques, 1977, 6.3 and 5A.2). Within a stratum the arms are
dealt with one percentage, so that neither another mix of work nor another percentage looks like an effect.

Made cautious for few units and rare events: a unit more is counted in on the side where a bound lies, the worst there
can be (every one of its requests an event), so that n users without an event say about 3 / n and not nothing; and the
quantile is Student's, of as many units as would count the same were all of one size (Kish, Survey Sampling, 1965).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from services.ledger.quality import t_quantile
from spillway.intervals import Interval

__all__ = ["FIRST", "SECOND", "Compared", "Part", "Unit", "clustered_mean", "stratified_difference"]

FIRST: Final = 1
SECOND: Final = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Of one unit in one stratum and arm (FIRST or SECOND): how many requests, and the sum of their values."""

    stratum: str
    arm: int
    count: int
    total: float


@dataclass(frozen=True, slots=True)
class Unit:
    """`times` units that are alike: one user, or many requests that name none."""

    parts: tuple[Part, ...]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Compared:
    """First arm minus second. `first_units`, `second_units`: users, counted as if all were of one size.

    `left_out`: requests of strata that only one arm has.
    """

    difference: Interval
    first_units: float
    second_units: float
    left_out: int


def stratified_difference(units: Collection[Unit]) -> Compared | None:
    """Of shares: values are counts of events. None when no stratum has requests of both arms."""
    counts, totals = _sums(units)
    strata = {stratum for stratum, _ in counts}
    weights: dict[str, float] = {}
    for stratum in strata:
        first, second = counts.get((stratum, FIRST), 0), counts.get((stratum, SECOND), 0)
        if first and second:
            weights[stratum] = first * second / (first + second)
    whole = sum(weights.values())
    if not whole:
        return None
    per_request = {
        (stratum, arm): weight / whole / counts[stratum, arm]
        for stratum, weight in weights.items()
        for arm in (FIRST, SECOND)
    }
    ratios = {key: totals[key] / counts[key] for key in per_request}
    variance, loads = _spread(units, per_request, ratios)
    first_units, second_units = 1 / loads[FIRST], 1 / loads[SECOND]
    means = {arm: sum(weights[s] / whole * ratios[s, arm] for s in weights) for arm in (FIRST, SECOND)}
    difference = means[FIRST] - means[SECOND]
    least = min(first_units, second_units)
    variance *= least / max(least - 1, 0.5)
    t = t_quantile(max(1, math.floor(least) - 1))
    low = _reach(variance, t, (1 - means[SECOND]) / (second_units + 1))
    high = _reach(variance, t, (1 - means[FIRST]) / (first_units + 1))
    left_out = sum(count for (stratum, _), count in counts.items() if stratum not in weights)
    interval = Interval(difference, max(-1.0, difference - low), min(1.0, difference + high))
    return Compared(interval, first_units, second_units, left_out)


def clustered_mean(units: Collection[Unit]) -> tuple[Interval, float] | None:
    """The mean of values in [-1, 1], strata and arms aside, and how many units of one size count as much.

    The worst and the best unit that are counted in have -1 and 1. None without requests.
    """
    everything = [
        Unit((Part("", FIRST, sum(p.count for p in unit.parts), sum(p.total for p in unit.parts)),), unit.times)
        for unit in units
    ]
    counts, totals = _sums(everything)
    count = counts.get(("", FIRST), 0)
    if not count:
        return None
    mean = totals["", FIRST] / count
    variance, loads = _spread(everything, {("", FIRST): 1 / count}, {("", FIRST): mean})
    size = 1 / loads[FIRST]
    variance *= size / max(size - 1, 0.5)
    t = t_quantile(max(1, math.floor(size) - 1))
    low, high = (_reach(variance, t, distance / (size + 1)) for distance in (1 + mean, 1 - mean))
    return Interval(mean, max(-1.0, mean - low), min(1.0, mean + high)), size


def _sums(units: Collection[Unit]) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], float]]:
    counts: dict[tuple[str, int], int] = defaultdict(int)
    totals: dict[tuple[str, int], float] = defaultdict(float)
    for unit in units:
        for part in unit.parts:
            if part.count:
                counts[part.stratum, part.arm] += unit.times * part.count
                totals[part.stratum, part.arm] += unit.times * part.total
    return counts, totals


def _spread(
    units: Collection[Unit], per_request: dict[tuple[str, int], float], ratios: dict[tuple[str, int], float]
) -> tuple[float, dict[int, float]]:
    """The sum of squares of what units contribute; and per arm, of the shares that units have of its weight."""
    variance = 0.0
    loads = {FIRST: 0.0, SECOND: 0.0}
    for unit in units:
        contribution = 0.0
        load = {FIRST: 0.0, SECOND: 0.0}
        for part in unit.parts:
            key = (part.stratum, part.arm)
            if key in per_request:
                sign = 1 if part.arm == FIRST else -1
                contribution += sign * per_request[key] * (part.total - ratios[key] * part.count)
                load[part.arm] += per_request[key] * part.count
        variance += unit.times * contribution * contribution
        for arm, share in load.items():
            loads[arm] += unit.times * share * share
    return variance, loads


def _reach(variance: float, t: float, worst: float) -> float:
    """How far a bound lies from the estimate, with the worst unit counted in."""
    return worst + t * math.sqrt(variance + worst * worst)
