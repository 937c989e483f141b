"""Which hits are audited, and what audits and complaints say of what was booked.

Promises: pure and deterministic given its randomness; bounded. An audit has a known chance above 0; more wrong answers
than were booked tighten at once, praise never loosens. What the newest audits alone say makes dearer what is to come
and what was booked since the oldest of them, not all that was booked before. What was told
fades by age.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

__all__ = ["COUNTERS_LEAST", "RiskAudits"]

RECENT_AUDITS_MAX: Final = 50
"""Audits that tell of a change that has just happened; all of them together tell of slow ones."""

AUDIT_SPREAD_MAX: Final = 3.0
"""An answer that is likelier wrong than most is audited more often, by the root of how much likelier (which tells most
of the sum, for so many audits), at most so many times the rate; a likelier right one so many times less often."""

AUDIT_START: Final = 10.0
AUDIT_START_HITS: Final = 50.0
AUDIT_START_MOST: Final = 0.5
"""The first hits are audited at so many times the rate, half as often after so many hits, and at the rate from nine
times so many on: the evidence of misses says least of what is served. About 35 audits more at a rate of 5 %."""

AUDIT_BURST: Final = 5.0
"""Audits that may run ahead of the rate."""

COUNTERS_LEAST: Final = (-AUDIT_BURST, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The least that each of `counters` may be: audits run ahead of the rate by so many."""


class RiskAudits:
    """`rate`: of hits that are audited, 0 to 1. `audits` and `wrong`: those that were made, and the wrong ones among
    them and complaints. `drawn_wrong` and `drawn_booked`: of drawn audits alone, the wrong ones and those foretold."""

    def __init__(self, rate: float, random: Random) -> None:
        self._rate = rate
        self._random = random
        self._credit = 0.0
        self.audits = self.wrong = self._booked = 0.0
        self.drawn_wrong = self.drawn_booked = 0.0
        self._tightening = self._recent_tightening = 1.0
        self._served = 0.0
        self._recent: deque[tuple[bool, float, float]] = deque(maxlen=RECENT_AUDITS_MAX)

    @property
    def tightening(self) -> float:
        """By how much what is to be booked is dearer now, at least 1."""
        return max(self._tightening, self._recent_tightening)

    def spent(self, booked: float) -> float:
        """What all hits come to that were booked at so much."""
        since = self._served - self._recent[0][2] if len(self._recent) == RECENT_AUDITS_MAX else booked
        return booked * self._tightening + min(since, booked) * (self.tightening - self._tightening)

    def book(self, wrong: float) -> None:
        """A hit was booked at so much."""
        self._served += wrong

    def fade(self, factor: float) -> None:
        """Another lookup: what was told counts for so much less."""
        self.audits *= factor
        self.wrong *= factor
        self._booked *= factor
        self.drawn_wrong *= factor
        self.drawn_booked *= factor

    def draw(self, wrong: float, *, mean: float, hits: float) -> bool:
        """Whether to audit a hit of that P(wrong): the likelier wrong, the more is learned.

        `mean` is P(wrong) of hits so far, `hits` how many there were.
        """
        early = AUDIT_START / (1.0 + hits / AUDIT_START_HITS)
        rate = max(self._rate, min(AUDIT_START_MOST, self._rate * early))
        self._credit = min(self._credit + rate, AUDIT_BURST)
        likelier = min(max(math.sqrt(wrong / max(mean, 1e-6)), 1.0 / AUDIT_SPREAD_MAX), AUDIT_SPREAD_MAX)
        chance = min(1.0, rate * likelier)
        audit = chance > 0.0 and self._random.random() < chance and self._credit > 1.0 - AUDIT_BURST
        if audit:
            self._credit -= 1.0
        return audit

    def told(self, *, wrong: bool, booked: float, drawn: bool) -> None:
        """The outcome of an audit (`drawn`), or a complaint, of a hit that was booked at so much."""
        self._recent.append((wrong, booked, self._served))
        self.wrong += wrong
        self._booked += booked
        if drawn:
            self.audits += 1.0
            self.drawn_wrong += wrong
            self.drawn_booked += booked
        recent_wrong = sum(told for told, _, _ in self._recent)
        recent_booked = sum(of for _, of, _ in self._recent)
        self._tightening = max(1.0, _poisson_low(self.wrong) / max(self._booked, 1e-3))
        self._recent_tightening = max(1.0, _poisson_low(recent_wrong) / max(recent_booked, 1e-3))

    @property
    def recent(self) -> tuple[tuple[bool, float, float], ...]:
        """The newest: wrong or not, booked, and what all hits before were booked at."""
        return tuple(self._recent)

    def counters(self) -> tuple[float, ...]:
        """All numbers, for `restore`."""
        return (
            self._credit, self.audits, self.wrong, self._booked, self.drawn_wrong, self.drawn_booked,
            self._tightening, self._recent_tightening, self._served,
        )  # fmt: skip

    def restore(self, counters: Sequence[float], recent: Sequence[tuple[bool, float, float]]) -> None:
        """Goes on from `counters` and `recent`."""
        self._credit, self.audits, self.wrong, self._booked, self.drawn_wrong, self.drawn_booked = counters[:6]
        self._tightening, self._recent_tightening = (max(1.0, told) for told in counters[6:8])
        self._served = counters[8]
        self._recent = deque(recent, RECENT_AUDITS_MAX)


def _poisson_low(count: float) -> float:
    """The one-sided 99 % lower bound of a Poisson mean of which `count` events were seen (Wilson and Hilferty): it is
    looked at after every audit, so a looser one would often tighten by chance."""
    if count < 0.5:
        return 0.0
    return float(count * max(0.0, 1.0 - 1.0 / (9.0 * count) - 2.33 / (3.0 * math.sqrt(count))) ** 3)
