"""The ladder of one route: of all configured tiers, those that may answer.

Promises: pure. Tiers are numbers in the configuration's order, cheapest first. A ladder has at least one tier, and its
bounds are tiers of it: a floor that takes no part lies at the next tier above that does, a ceiling at the next below.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

__all__ = ["Ladder"]


@dataclass(frozen=True, slots=True)
class Ladder:
    """`taking_part` are the tiers that a rule chose, or all; `tiers` those of them between floor and ceiling."""

    taking_part: tuple[int, ...]
    tiers: tuple[int, ...]

    @classmethod
    def between(cls, floor: int, ceiling: int, taking_part: tuple[int, ...]) -> Ladder | None:
        """The ladder of the tiers, in order, that take part; None when none of them is between the bounds."""
        tiers = taking_part[bisect_left(taking_part, floor) : bisect_right(taking_part, ceiling)]
        return cls(taking_part, tiers) if tiers else None

    @property
    def floor(self) -> int:
        """Its lowest tier."""
        return self.tiers[0]

    @property
    def ceiling(self) -> int:
        """Its highest tier."""
        return self.tiers[-1]

    def nearest(self, tier: int) -> int:
        """`tier` or the next above that takes part, else the last that does. Floor and ceiling do not count yet."""
        return self.taking_part[min(bisect_left(self.taking_part, tier), len(self.taking_part) - 1)]

    def above(self, tier: int) -> int:
        """The next above `tier` that takes part, else the last that does. Floor and ceiling do not count yet."""
        return self.taking_part[min(bisect_right(self.taking_part, tier), len(self.taking_part) - 1)]

    def held(self, tier: int) -> int:
        """Where `tier` is held by all of this."""
        return min(max(self.nearest(tier), self.floor), self.ceiling)
