"""Shares, their differences and means, with intervals at 95 %.

Promises: pure. Wilson's score interval for a share; for differences of shares Newcombe's hybrids of them (1998,
Statistics in Medicine 17:2635 for the same subjects, method 10; 17:873 for others, method 10), which need no resampling
and hold for small counts and shares near 0 and 1; for a mean the normal one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["Interval", "mean_interval", "paired_difference", "wilson"]

Z: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its bounds."""

    value: float
    low: float
    high: float


def wilson(successes: int, count: int) -> Interval:
    """A share with Wilson's score interval. `count` is above 0."""
    share = successes / count
    centre = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return Interval(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def paired_difference(both: int, first_only: int, second_only: int, neither: int) -> Interval:
    """First share minus second share over the same prompts, with Newcombe's interval (method 10)."""
    count = both + first_only + second_only + neither
    first, second = wilson(both + first_only, count), wilson(both + second_only, count)
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    association: float = both * neither - first_only * second_only
    if association > 0:  # the continuity correction that makes it method 10; without it the interval is too narrow
        association = max(0.0, association - count / 2)
    phi = association / math.sqrt(product) if product else 0.0
    difference = (first_only - second_only) / count

    def margin(own: float, other: float) -> float:
        return math.sqrt(max(0.0, own * own - 2 * phi * own * other + other * other))

    return Interval(
        difference,
        difference - margin(first.value - first.low, second.high - second.value),
        difference + margin(first.high - first.value, second.value - second.low),
    )


def mean_interval(total: float, squares: float, count: int) -> Interval:
    """Of a mean, from the sum of the values and of their squares. `count` is above 0; of one value nothing is known."""
    mean = total / count
    if count < 2:
        return Interval(mean, -math.inf, math.inf)
    variance = max(0.0, (squares - total * mean) / (count - 1))
    half = Z * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)
