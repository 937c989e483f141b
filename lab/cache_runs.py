"""What running a stream through a way to decide hits came to: one order, and several together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["BOUND_FROM", "Run", "Summary", "Tally", "summary"]

BOUND_FROM: Final = 500
"""The bound is checked after every lookup from this one on."""


@dataclass(frozen=True, slots=True)
class Run:
    """One order: shares of all lookups, and the greatest share of wrong answers at any point from BOUND_FROM on.

    `covered`: whether the controller's own 95 % interval of the wrong rate holds the true one at the end.
    """

    hits: float
    wrong: float
    worst: float
    audits: float = 0.0
    booked: float = 0.0
    covered: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """Of several orders: means, half widths of their 95 % intervals (normal, over orders).

    `held`: the orders in which the bound held at every point. `covered`: those whose reported interval was right.
    """

    hits: float
    hits_half: float
    wrong: float
    wrong_half: float
    worst: float
    held: int
    covered: int
    orders: int


def summary(runs: Sequence[Run], limit: float) -> Summary:
    """Means and counts of runs of one way."""
    hits, wrong = np.asarray([run.hits for run in runs]), np.asarray([run.wrong for run in runs])
    spread, spare = 1.96 / float(np.sqrt(len(runs))), min(1, len(runs) - 1)
    return Summary(
        hits=float(hits.mean()),
        hits_half=spread * float(hits.std(ddof=spare)),
        wrong=float(wrong.mean()),
        wrong_half=spread * float(wrong.std(ddof=spare)),
        worst=float(max(run.worst for run in runs)),
        held=int(sum(run.worst <= limit for run in runs)),
        covered=int(sum(run.covered for run in runs)),
        orders=len(runs),
    )


class Tally:
    """Counts of one run."""

    def __init__(self) -> None:
        self.lookups = self.hits = self.wrong = self.audits = 0
        self.worst = 0.0

    def add(self, *, hit: bool, wrong: bool) -> None:
        """One lookup more."""
        self.lookups += 1
        self.hits += hit
        self.wrong += wrong
        if self.lookups >= BOUND_FROM:
            self.worst = max(self.worst, self.wrong / self.lookups)

    def run(self, *, booked: float = 0.0, covered: bool = True) -> Run:
        """As shares."""
        n = max(1, self.lookups)
        return Run(self.hits / n, self.wrong / n, self.worst, self.audits / n, booked, covered)
