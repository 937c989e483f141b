"""How often the answer of a group was right when it was proposed before.

Promises: pure and deterministic; bounded: GROUPS_MAX groups, those that an outcome was heard of last; finite numbers.
What is near and how clearly says how a question lies; some answers are confused with others however it lies, which only
their own past tells. Newer outcomes count for more: each makes those before it count for a twentieth less, so nothing
outweighs what comes after it for long. A group is kept by a digest of its name, never by the name.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["GROUPS_MAX", "OUTCOMES_MAX", "GroupRecords", "digest"]

Digests = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.float64]

GROUPS_MAX: Final = 2_048
"""About 0.5 MB. Where answers are more than these, few are proposed often enough to have a past that tells."""

KEPT: Final = 0.95
"""What an outcome's weight is multiplied by with each newer one of its group: never more than 20 count."""

OUTCOMES_MAX: Final = 1.0 / (1.0 - KEPT) + 1e-6
"""What the right or the wrong ones of a group count for at most."""

SMOOTHING: Final = 1.0
"""Outcomes of either kind that are taken to have been there: a group of which nothing was heard has log odds 0."""


class GroupRecords:
    """Right and wrong outcomes by group. Belongs to one event loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def log_odds(self, group: str) -> float:
        """Smoothed log odds that the group's answer was right; 0 where nothing is known. Changes nothing."""
        right, wrong = self._found.get(digest(group), (0.0, 0.0))
        return math.log((right + SMOOTHING) / (wrong + SMOOTHING))

    def add(self, group: str, *, same: bool) -> None:
        """The outcome of a proposal of that group; the group of longest ago makes room."""
        key = digest(group)
        right, wrong = self._found.pop(key, (0.0, 0.0))
        self._found[key] = (KEPT * right + same, KEPT * wrong + (not same))
        while len(self._found) > GROUPS_MAX:
            self._found.popitem(last=False)

    def kept(self) -> tuple[Digests, Counts]:
        """Digests [n] and right and wrong outcomes [n, 2], the group of longest ago first: for `restore`."""
        digests = np.fromiter(self._found, dtype=np.uint64, count=len(self._found))
        return digests, np.asarray(list(self._found.values()), dtype=np.float64).reshape(-1, 2)

    def restore(self, digests: Digests, counts: Counts) -> None:
        """Goes on from what was `kept`."""
        self._found = OrderedDict(
            (key, (right, wrong)) for key, (right, wrong) in zip(digests.tolist(), counts.tolist(), strict=True)
        )


def digest(group: str) -> int:
    """By which a group is kept: 64 bits."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big")
