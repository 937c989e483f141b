"""What a class of partitions has seen of its guards: how often one alone kept an answer back, and was right.

Promises: pure; bounded (two numbers a kind). A refused proposal is a miss, so a model answers, and its answer tells
whether the refusal was needed: a guard is judged by full evidence, at no risk. Only kinds of LIFTABLE are ever lifted;
with no evidence none is. Once lifted, it is judged by its audited hits, and comes back when they speak for it.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.proposal_guard import LIFTABLE

__all__ = ["GUARDED_WRONG_MAX", "GuardEvidence", "guard_code"]

Floats = npt.NDArray[np.float64]

GUARDED_WRONG_MAX: Final = 0.05
"""What is refused is evidence of its guard where nothing else speaks against it, up to this P(wrong); and only there,
while the 95 % upper bound of the share of wrong ones is at most this, the guard is lifted."""

_NO_GUARD: Final = 0
_HARD: Final = 1
_FIRST_LIFTABLE: Final = 2


def guard_code(guard: str) -> int:
    """A number for a kind of guard; "" is none. `GuardEvidence.refuses` is by these numbers."""
    if not guard:
        return _NO_GUARD
    return _FIRST_LIFTABLE + LIFTABLE.index(guard) if guard in LIFTABLE else _HARD


class GuardEvidence:
    """`counts` [len(LIFTABLE), 2]: what was observed of each kind, and the wrong ones among them, faded by age."""

    def __init__(self) -> None:
        self.counts: Floats = np.zeros((len(LIFTABLE), 2))

    def fade(self, factor: float) -> None:
        """Another lookup: what was seen counts for so much less."""
        self.counts *= factor

    def add(self, guard: str, *, wrong: float, same: bool) -> None:
        """The outcome of a proposal that the guard spoke against, whose P(wrong) was otherwise `wrong`."""
        if guard in LIFTABLE and wrong <= GUARDED_WRONG_MAX:
            self.counts[LIFTABLE.index(guard)] += (1.0, float(not same))

    def is_lifted(self, guard: str, share_max: float) -> bool:
        """Whether the upper bound of the share of wrong answers is at most `share_max`, and GUARDED_WRONG_MAX."""
        if guard not in LIFTABLE:
            return False
        seen, wrong = self.counts[LIFTABLE.index(guard)].tolist()
        return bool(_poisson_high(wrong) <= min(share_max, GUARDED_WRONG_MAX) * seen)

    def refuses(self, share_max: float) -> Floats:
        """By `guard_code`, whether a guard of that kind refuses now: 0 or 1."""
        lifted = [self.is_lifted(guard, share_max) for guard in LIFTABLE]
        return np.asarray([0.0, 1.0, *(float(not each) for each in lifted)])


def _poisson_high(count: float) -> float:
    """The one-sided 95 % upper bound of a Poisson mean of which `count` events were seen (Wilson and Hilferty)."""
    more = count + 1.0
    return float(more * (1.0 - 1.0 / (9.0 * more) + 1.645 / (3.0 * math.sqrt(more))) ** 3)
