"""Hits of late by what they were decided on, until it is told whether they were right; and which were told of.

Promises: memory is bounded, the oldest are forgotten; each hit is told of once while it is known.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from services.cache.matching.risk_values import Judged

__all__ = ["JUDGED_MAX", "Hit", "JudgedHits"]

JUDGED_MAX: Final = 4_096
"""Hits that are remembered until it is told whether they were right; the oldest is then taken for another replica's."""

Hit = tuple[str, str]
"""The exact key of the request, and the entry's that it was served."""


class JudgedHits:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._judged: OrderedDict[Hit, Judged] = OrderedDict()
        self._told: OrderedDict[Hit, None] = OrderedDict()

    def serve(self, hit: Hit, judged: Judged) -> None:
        """It was served, once more."""
        self._told.pop(hit, None)
        self._judged[hit] = judged
        while len(self._judged) > JUDGED_MAX:
            self._judged.popitem(last=False)

    def judged(self, hit: Hit) -> Judged | None:
        """What it was decided on; None where it was not served here, or too long ago, or was told of."""
        return self._judged.get(hit)

    def take(self, hit: Hit) -> Judged | None:
        """The same, which is then no longer known."""
        return self._judged.pop(hit, None)

    def tell(self, hit: Hit) -> None:
        """It was told of."""
        self._told[hit] = None
        while len(self._told) > JUDGED_MAX:
            self._told.popitem(last=False)

    def was_told(self, hit: Hit) -> bool:
        """Whether it was, since it was served last."""
        return hit in self._told
