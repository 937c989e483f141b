"""Whether answers are graded so much below the flagship's that it is no chance: a test that may be looked at always.

Promises: pure and deterministic. Of each pair of grades the drop d = flagship's grade - answer's grade, in [-1, 1], is
kept as a count of twentieths, so that tallies of several replicas add up exactly and need no settings.

The test is a bet against "the mean drop is at most m" (Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting, 2024). A stake b turns one drop into the factor 1 + b (d - m), which on average is at most 1 while
the mean drop, given all that came before, is at most m. The evidence is the mean, over seven stakes and over when the
bet was begun, of these products: at the first grade (half of the money), or at the first of any later block. So a drop
that comes after a long good time does not have to win back what was lost in it. While the mean drop is at most m, the
chance that the evidence ever exceeds 1 / a is at most a (Ville's inequality): whenever one looks, however often.

The least of the kept beginnings is let go when there are more than BLOCKS_KEPT; that only takes money away. The very
first bet always stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from spillway.routing import TaskType

__all__ = [
    "BLOCKS_KEPT",
    "BLOCK_GRADES",
    "OVERALL",
    "STAKES",
    "STREAMS",
    "UNITS",
    "Block",
    "Estimate",
    "Tally",
    "Watch",
    "estimate",
    "evidence",
    "evidence_min",
]

UNITS: Final = 20
"""Drops are counted in 1 / UNITS: grades are whole tenths, and a score is the mean of two."""

BLOCK_GRADES: Final = 250
BLOCKS_KEPT: Final = 40
"""The last 10,000 grades in pieces; what is older, in one."""

_BINS: Final = 2 * UNITS + 1
_NONE: Final = (0,) * _BINS
STAKES: Final = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 0.9)
"""As shares of the largest that cannot lose everything. Chosen before any grade was seen: the best stake is about
(mean - m) / variance, from 0.02 for a small excess in noisy grades to 0.9 for a large one."""

_ROUNDS: Final = 40  # of bisection: 1e-12

OVERALL: Final = "overall"
STREAMS: Final = (OVERALL, *(each.value for each in TaskType))
"""What is tested: every kind of work, and all of them together."""

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The drops among the grades `index` * BLOCK_GRADES and the next BLOCK_GRADES - 1, by size from -1 to 1."""

    index: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Tally:
    """The drops since the test began, for the `era`th time. `blocks` are the newest, oldest first; `older` the rest."""

    era: int = 0
    older: Counts = _NONE
    blocks: tuple[Block, ...] = ()

    @property
    def counts(self) -> Counts:
        """All drops by size, from -1 to 1 in steps of 1 / UNITS."""
        return _sum(self.older, *(block.counts for block in self.blocks))

    @property
    def grades(self) -> int:
        """How many."""
        return sum(self.counts)

    def add(self, drop_units: int) -> Tally:
        """With one drop more, -UNITS to UNITS. Raises ValueError for another."""
        where = place(drop_units)
        one = tuple(int(each == where) for each in range(_BINS))
        index = self.grades // BLOCK_GRADES
        if self.blocks and self.blocks[-1].index == index:
            last = Block(index, _sum(self.blocks[-1].counts, one))
            return Tally(self.era, self.older, (*self.blocks[:-1], last))
        blocks, older = (*self.blocks, Block(index, one)), self.older
        if len(blocks) > BLOCKS_KEPT:
            older, blocks = _sum(older, blocks[0].counts), blocks[1:]
        return Tally(self.era, older, blocks)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is tested: `drop_max`, and the chance of a false alarm, ever, over all kinds of work together."""

    drop_max: float
    false_alarm_max: float

    def is_alarm(self, stream: str, tally: Tally) -> bool:
        """Whether the mean drop is above `drop_max`, beyond chance."""
        return evidence(tally, self.drop_max) >= evidence_min(stream, self.false_alarm_max)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean drop, and an interval that holds it at all times together with the stated confidence."""

    grades: int
    mean: float
    low: float
    high: float


def place(drop_units: int) -> int:
    """Where a drop is counted. Raises ValueError outside of -UNITS to UNITS."""
    if not -UNITS <= drop_units <= UNITS:
        raise ValueError("a drop lies between -1 and 1")
    return drop_units + UNITS


def evidence_min(stream: str, false_alarm_max: float) -> float:
    """The logarithm of the evidence that is an alarm. Half of the chance is OVERALL's, the rest is shared.

    By the union bound the chance of any false alarm is then at most `false_alarm_max`.
    """
    if false_alarm_max <= 0:
        return math.inf
    share = 0.5 if stream == OVERALL else 0.5 / len(TaskType)
    return -math.log(share * false_alarm_max)


def evidence(tally: Tally, drop_max: float) -> float:
    """The logarithm of the evidence against "the mean drop is at most `drop_max`"; 0 without grades."""
    if not tally.blocks:
        return 0.0
    growth = _growth(drop_max)
    won = [0.0] * len(STAKES)
    terms: list[float] = []
    for block in reversed(tally.blocks):
        _bet(won, block.counts, growth)
        if block.index:
            begun = -math.log(2 * block.index * (block.index + 1))
            terms += (begun + each for each in won)
    _bet(won, tally.older, growth)
    terms += (each - math.log(2) for each in won)
    in_hand = 0.5 / (tally.blocks[-1].index + 1)  # of the bets that have not begun
    top = max(terms)
    placed = math.log(sum(math.exp(term - top) for term in terms) / len(STAKES)) + top
    high, low = max(placed, math.log(in_hand)), min(placed, math.log(in_hand))
    return high + math.log1p(math.exp(low - high))


def estimate(tally: Tally, confidence: float = 0.95) -> Estimate:
    """The mean drop and its interval, by inverting the same bets from the first grade on, on either side.

    Holds for a mean that stays as it is, at all times together with the given confidence, above 0 and below 1.
    """
    counts = tally.counts
    grades = sum(counts)
    if not grades:
        return Estimate(0, 0.0, -1.0, 1.0)
    mean = sum(count * (index - UNITS) for index, count in enumerate(counts)) / (UNITS * grades)
    enough = math.log(2 / (1 - confidence))
    return Estimate(grades, mean, _lower(counts, mean, enough), -_lower(tuple(reversed(counts)), -mean, enough))


def _lower(counts: Counts, mean: float, enough: float) -> float:
    """The least mean that the bets against smaller ones leave standing. What they win falls as the mean rises."""
    if mean <= -1:
        return -1.0
    low, high = -1.0, mean
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if _won(counts, middle) >= enough:
            low = middle
        else:
            high = middle
    return low


def _won(counts: Counts, mean: float) -> float:
    """The logarithm of what the bets against "at most `mean`" have won from the first grade on."""
    won = [0.0] * len(STAKES)
    _bet(won, counts, _growth_of(mean, [index for index, count in enumerate(counts) if count]))
    top = max(won)
    return math.log(sum(math.exp(each - top) for each in won) / len(STAKES)) + top


def _bet(won: list[float], counts: Counts, growth: tuple[tuple[float, ...], ...]) -> None:
    for index, count in enumerate(counts):
        if count:
            for stake, factor in enumerate(growth[index]):
                won[stake] += count * factor


@lru_cache(maxsize=8)
def _growth(drop_max: float) -> tuple[tuple[float, ...], ...]:
    """The logarithm of what one drop makes of each stake, by the drop's size."""
    return _growth_of(drop_max, range(_BINS))


def _growth_of(mean: float, bins: range | list[int]) -> tuple[tuple[float, ...], ...]:
    rows: list[tuple[float, ...]] = [()] * _BINS
    for index in bins:
        share = ((index - UNITS) / UNITS - mean) / (1 + mean)
        rows[index] = tuple(math.log1p(stake * share) for stake in STAKES)
    return tuple(rows)


def _sum(*counts: Counts) -> Counts:
    return tuple(map(sum, zip(*counts, strict=True)))
