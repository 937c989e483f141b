"""How long each target takes: a moving average, and quantiles of the last calls.

Promises: pure; no clock, bounded memory (`WINDOW_CALLS` numbers per target). A call that was given up (it timed out, or
its hedge won) counts with the time it had when that is more than the average: it would have taken longer still, and
without it a target that has become slow would keep the low numbers of its better days. What was given up sooner says
nothing. A quantile is known only once `CALLS_MIN` calls have been seen.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["CALLS_MIN", "WINDOW_CALLS", "Latencies", "Latency"]

WINDOW_CALLS: Final = 128
CALLS_MIN: Final = 8
_WEIGHT: Final = 0.2  # of the newest call in the average: the last ten calls make up nine tenths of it


class Latency:
    """The latencies of one target, in seconds."""

    __slots__ = ("_average_s", "_recent_s", "_sorted_s")

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque()
        self._sorted_s: list[float] = []
        self._average_s: float | None = None

    def record(self, latency_s: float) -> None:
        """Counts one call. Negative numbers, which a clock that jumps may give, count as 0."""
        latency_s = max(latency_s, 0.0)
        if len(self._recent_s) == WINDOW_CALLS:
            del self._sorted_s[bisect_left(self._sorted_s, self._recent_s.popleft())]
        self._recent_s.append(latency_s)
        insort(self._sorted_s, latency_s)
        before_s = latency_s if self._average_s is None else self._average_s
        self._average_s = before_s + _WEIGHT * (latency_s - before_s)

    def record_at_least(self, latency_s: float) -> None:
        """Counts one call that was given up after so long, if that says anything."""
        if self._average_s is not None and latency_s > self._average_s:
            self.record(latency_s)

    @property
    def average_s(self) -> float | None:
        """The exponentially weighted average; None before the first call."""
        return self._average_s

    def quantile_s(self, share: float) -> float | None:
        """The time within which `share` (0 to 1) of the last calls ended; None while too few have been seen."""
        calls = len(self._sorted_s)
        if calls < CALLS_MIN:
            return None
        return self._sorted_s[min(int(share * calls), calls - 1)]


class Latencies:
    """The latencies of every target. Not thread-safe: one event loop."""

    __slots__ = ("_targets",)

    def __init__(self, targets: Iterable[str], known: Mapping[str, Latency] | None = None) -> None:
        """`known` are latencies that go on to be measured here."""
        known = known or {}
        self._targets = {name: known.get(name) or Latency() for name in targets}

    def __getitem__(self, target: str) -> Latency:
        return self._targets[target]
