"""When a second call may start beside a slow one: after which delay, and for how many requests.

Promises: pure. Hedging is tamed by two bounds (Dean and Barroso, "The Tail at Scale", 2013): it waits until the first
call is slower than most calls of its target are, and it is a fixed share of the requests, so that targets which have
become slow for all get no second load. Of the last `WINDOW_REQUESTS` requests at most `share_max` are hedged, at any
moment, from the first request on: with a share of 0.1 the first hedge can come with the tenth request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.executor.latency import Latency
from spillway.settings import Hedging as HedgingSettings

__all__ = ["WINDOW_REQUESTS", "HedgeShare", "Hedging", "hedge_delay_s"]

WINDOW_REQUESTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Hedging:
    """What a cascade must know to hedge: seconds to wait per target, and whom to ask for leave when they are over."""

    delays_s: Mapping[str, float]
    permit: Callable[[], bool]


class _Request:
    __slots__ = ("hedged", "in_window")

    def __init__(self) -> None:
        self.hedged = False
        self.in_window = True


class HedgeShare:
    """The share of requests that are hedged, over the last `WINDOW_REQUESTS`. Not thread-safe: one event loop."""

    def __init__(self, share_max: float) -> None:
        self._share_max = share_max
        self._window: deque[_Request] = deque()
        self._hedged = 0

    def reconfigure(self, share_max: float) -> None:
        """Goes by this share from now on, over the same requests."""
        self._share_max = share_max

    def begin(self) -> Callable[[], bool]:
        """Counts a request that may be hedged. The result grants or refuses its one hedge."""
        if len(self._window) == WINDOW_REQUESTS:
            oldest = self._window.popleft()
            oldest.in_window = False
            self._hedged -= oldest.hedged
        request = _Request()
        self._window.append(request)
        return lambda: self._grant(request)

    def _grant(self, request: _Request) -> bool:
        if request.hedged or not request.in_window:  # one so old would not be counted any more
            return False
        if self._hedged + 1 > self._share_max * len(self._window):
            return False
        request.hedged = True
        self._hedged += 1
        return True


def hedge_delay_s(latency: Latency, settings: HedgingSettings) -> float:
    """How long a call of a target with this latency is waited for."""
    known_s = latency.quantile_s(settings.delay_quantile)
    return settings.delay_s_default if known_s is None else max(known_s, settings.delay_s_min)
