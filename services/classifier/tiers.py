"""The ladder as the classifier sees it: names of tiers, cheapest first, and where each complexity starts. Pure.

Promises: whatever is said of P(tier suffices) names every configured tier, never falls from a tier to a dearer one, and
is 1 for the dearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillway.routing import Complexity, TierSufficiency
from spillway.settings import Settings

__all__ = ["DEFAULT_TIERS", "Tiers"]


@dataclass(frozen=True, slots=True)
class Tiers:
    """`names`, cheapest first; `starts`: the index of the tier at which simple, medium and complex prompts start."""

    names: tuple[str, ...]
    starts: tuple[int, int, int]

    @classmethod
    def of(cls, settings: Settings) -> Tiers:
        """Those of a configuration, by the same rule as the policy's."""
        simple, medium, hard = (settings.tier_of_complexity(complexity) for complexity in Complexity)
        return cls(tuple(tier.name for tier in settings.tiers), (simple, medium, hard))

    def by_complexity(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(tier suffices) [n, tiers] from P(complexity) [n, 3]: P(the prompt's complexity starts there or below)."""
        served = np.asarray([[float(start <= tier) for tier in range(len(self.names))] for start in self.starts])
        found = np.clip(probabilities @ served, 0.0, 1.0)
        found[:, -1] = 1.0
        return np.asarray(found, dtype=np.float64)

    def by_tier(self, tiers: Sequence[str], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(tier suffices) [n, tiers] from that of the tiers that a head was trained on, [n, len(tiers)].

        A tier that it does not know has what the next cheaper one has, 0 below all: it is not trusted for being new.
        """
        found = np.zeros((len(probabilities), len(self.names)))
        for index, name in enumerate(self.names):
            if name in tiers:
                found[:, index] = probabilities[:, list(tiers).index(name)]
        found = np.maximum.accumulate(np.clip(found, 0.0, 1.0), axis=1)
        found[:, -1] = 1.0
        return found

    def learned(self, tiers: Sequence[str]) -> tuple[str, ...]:
        """Which of our tiers, but the dearest, a head of these tiers tells anything about."""
        return tuple(name for name in self.names[:-1] if name in tiers)

    def named(self, row: npt.NDArray[np.float64]) -> tuple[TierSufficiency, ...]:
        """One row of the above, by name."""
        return tuple(TierSufficiency(name, value) for name, value in zip(self.names, row.tolist(), strict=True))


DEFAULT_TIERS = Tiers(("simple", "medium", "complex"), (0, 1, 2))
"""The packaged configuration's."""
