"""How many wrong answers were served, as audits and what was booked tell together.

Promises: pure; finite; an interval that is honest where few audits were made. What was booked says how many wrong
answers there should be; audits say how many times as many there are. Of that ratio, nothing is taken for known
beforehand but that it is likelier near one than far from it: PRIOR wrong answers, as many as foretold (a Gamma prior, a
Poisson count). The interval is of the answers that were served, so it has their own chance in it as well.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["mean_wrong", "measured_wrong"]

PRIOR: Final = 2.0
"""Without any audit the ratio is between .1 and 2.8 (95 %); with 20 wrong ones found it is known to within a half."""

_Z: Final = 1.96


def mean_wrong(booked: float, *, wrong: float, foretold: float) -> float:
    """The first of `measured_wrong`."""
    return booked * (PRIOR + wrong) / (PRIOR + foretold)


def measured_wrong(booked: float, *, wrong: float, foretold: float) -> tuple[float, float, float]:
    """The wrong answers among those that were served, with a 95 % interval.

    `booked`: how many were foretold of all. `wrong` and `foretold`: of those audited, that were found and foretold.
    """
    shape, rate = PRIOR + wrong, PRIOR + foretold
    mean = mean_wrong(booked, wrong=wrong, foretold=foretold)
    low, high = (booked / rate * _gamma_quantile(shape, z) for z in (-_Z, _Z))
    chance = _Z * math.sqrt(max(mean, 1.0))
    return mean, max(0.0, mean - math.hypot(mean - low, chance)), mean + math.hypot(high - mean, chance)


def _gamma_quantile(shape: float, z: float) -> float:
    """Of a Gamma distribution with scale one, at z normal deviations (Wilson and Hilferty)."""
    return shape * max(0.0, 1.0 - 1.0 / (9.0 * shape) + z / (3.0 * math.sqrt(shape))) ** 3
