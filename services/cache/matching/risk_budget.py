"""The budget of wrong answers: what was booked, what may still be, and the bar that spreads the rest.

Promises: pure; bounded. With `spent` for all that was booked, as it is dear now, nothing is served beyond

    spent + z sqrt(spent) + START <= max_wrong_rate * lookups

Older lookups fade (half of their weight is gone after HALF_LIFE_LOOKUPS), so that a long good past buys no bad day.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

__all__ = ["BAR_MAX", "COUNTERS_LEAST", "FADE", "HORIZON_LOOKUPS", "RiskBudget"]

HORIZON_LOOKUPS: Final = 1_000
"""Over so many lookups to come the budget that is left is spread."""

HALF_LIFE_LOOKUPS: Final = 50_000

BAR_EVERY_LOOKUPS: Final = 25
"""So often the bar is set anew."""

BAR_MAX: Final = 0.1
"""No answer that is likelier wrong than this, and than the limit, is served, however much of the budget is left: on an
easy stream that would buy single bad answers."""

BOOKED_DEVIATIONS: Final = 0.8
"""z of the formula above."""

BOOKED_START: Final = 4.5
"""START of the formula above: while few wrong answers are allowed, some more by chance must not break the limit. It is
high and z low: limits are broken early, and later there is time to make good."""

FADE: Final = 0.5 ** (1.0 / HALF_LIFE_LOOKUPS)

COUNTERS_LEAST: Final = (0.0, 0.0, 0.0)
"""The least that each of `counters` may be."""


class RiskBudget:
    """`lookups`, `hits` and `booked` are faded by age; `bar` is the greatest P(wrong) that is served now."""

    def __init__(self, max_wrong_rate: float) -> None:
        self._limit = max_wrong_rate
        self.lookups = self.hits = self.booked = 0.0
        self.bar = 0.0
        self._recent: deque[float] = deque(maxlen=HORIZON_LOOKUPS)
        self._until_bar = 0

    def count_lookup(self, *, spent: float) -> None:
        """One more. `spent`: what all that was booked comes to by now."""
        self.lookups = self.lookups * FADE + 1.0
        self.hits *= FADE
        self.booked *= FADE
        if self._until_bar <= 0:
            self._until_bar = BAR_EVERY_LOOKUPS
            self.bar = self._bar_now(spent)
        self._until_bar -= 1

    def seen(self, wrong: float) -> None:
        """P(wrong) of a lookup that could have been served, 1 of one that could not."""
        self._recent.append(wrong)

    def book(self, wrong: float) -> None:
        """A hit."""
        self.hits += 1.0
        self.booked += wrong

    def allows(self, spent: float) -> bool:
        """Whether so much in all, dear as it is now, keeps to the limit."""
        return _upper(spent) <= self.wrong_max

    @property
    def wrong_max(self) -> float:
        """So many wrong answers may be served, for the lookups there were, faded."""
        return self._limit * self.lookups

    @property
    def recent(self) -> tuple[float, ...]:
        """What was `seen` last."""
        return tuple(self._recent)

    def counters(self) -> tuple[float, ...]:
        """All numbers, for `restore`."""
        return self.lookups, self.hits, self.booked

    def restore(self, counters: Sequence[float], recent: Sequence[float]) -> None:
        """Goes on from `counters` and `recent`."""
        self.lookups, self.hits, self.booked = counters
        self._recent = deque(recent, maxlen=HORIZON_LOOKUPS)
        self._until_bar = 0

    def _bar_now(self, spent: float) -> float:
        """The greatest P(wrong) at which the lookups to come, if they are like the last ones, keep to the budget."""
        if not self._recent:
            return 0.0
        ahead = self._limit * (self.lookups + HORIZON_LOOKUPS)
        margin = _upper(max(spent, 0.5)) - max(spent, 0.5)
        each = max(0.0, (ahead - margin - spent) / HORIZON_LOOKUPS)
        wrong = np.sort(np.asarray(self._recent))
        within = int(np.searchsorted(np.cumsum(wrong) / len(wrong), each))
        return min(max(BAR_MAX, self._limit), float(wrong[within - 1])) if within else 0.0


def _upper(booked: float) -> float:
    z = BOOKED_DEVIATIONS
    return booked + z * math.sqrt(booked) + BOOKED_START
