"""When a target is left alone: a circuit breaker with a sliding window, tied to permits.

Promises: pure; time is an argument (monotonic seconds, never decreasing), randomness is passed in; no timers: OPEN
becomes HALF_OPEN when the first permit is asked for after the interval. The caller takes a permit before a call and
settles it exactly once after it, whatever happened; a result counts only in the state that its permit was taken in
(its epoch), so a slow call from before an outage can neither close nor open anything. Not thread-safe: one event loop.

    CLOSED     counts results; enough failures, or a Retry-After, -> OPEN
    OPEN       lets nothing through; after the interval -> HALF_OPEN
    HALF_OPEN  lets `probes_max` calls through; as many successes -> CLOSED, one failure -> OPEN, for twice as long
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spillway.settings import Breaker as BreakerSettings

__all__ = ["Breaker", "BreakerState", "CallResult", "Permit", "PermitError", "Snapshot"]

_JITTER: Final = 0.2  # an interval is up to this share longer, so that replicas do not probe together
_LEVEL_MAX: Final = 16  # doublings; far beyond any open_s_max


class BreakerState(StrEnum):
    """See the table above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CallResult(StrEnum):
    """What a call said about its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"
    """Never made, cancelled, or the caller's own fault: the permit is given back and nothing is counted."""


class PermitError(RuntimeError):
    """A permit was settled twice, or belongs to another breaker. Always a defect of the caller."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call."""

    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state as of one moment. `open_for_s` is 0 unless OPEN."""

    state: BreakerState
    open_for_s: float
    window_calls: int
    window_failures: int


class Breaker:
    """One target's breaker. `random` gives floats in [0, 1); `retry_after_s_max` bounds what a provider may ask."""

    def __init__(self, settings: BreakerSettings, *, retry_after_s_max: float, random: Callable[[], float]) -> None:
        self._settings = settings
        self._retry_after_s_max = retry_after_s_max
        self._random = random
        self._state = BreakerState.CLOSED
        self._epoch = 0
        self._window: deque[tuple[float, bool]] = deque(maxlen=settings.window_calls_max)
        self._open_until_s = 0.0
        self._level = 0  # doublings of the next open interval
        self._level_since_s = 0.0
        self._probes_out = 0
        self._probe_successes = 0
        self._permits_taken = 0
        self._outstanding: set[int] = set()

    def acquire(self, now_s: float) -> Permit | None:
        """A permit, or None when no call may be made now."""
        if self._state is BreakerState.OPEN:
            if now_s < self._open_until_s:
                return None
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            if self._probes_out + self._probe_successes >= self._settings.probes_max:
                return None
            self._probes_out += 1
        self._permits_taken += 1
        self._outstanding.add(self._permits_taken)
        return Permit(self._permits_taken, self._epoch)

    def settle(self, permit: Permit, result: CallResult, now_s: float, retry_after_s: float | None = None) -> None:
        """Gives the permit back with what became of the call. Raises PermitError the second time.

        `retry_after_s` (only with FAILURE) opens the breaker for that long, whatever the window says.
        """
        if permit.number not in self._outstanding:
            raise PermitError(f"permit {permit.number} was settled before, or is of another breaker")
        self._outstanding.remove(permit.number)
        if permit.epoch != self._epoch:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._settle_probe(result, now_s, retry_after_s)
        elif result is not CallResult.NEITHER:
            self._count(result, now_s, retry_after_s)

    def snapshot(self, now_s: float) -> Snapshot:
        """What is known now. An interval that is over shows as HALF_OPEN: a probe would go through."""
        self._forget_old(now_s)
        state, open_for_s = self._state, 0.0
        if state is BreakerState.OPEN:
            open_for_s = max(0.0, self._open_until_s - now_s)
            state = BreakerState.OPEN if open_for_s > 0 else BreakerState.HALF_OPEN
        return Snapshot(state, open_for_s, len(self._window), sum(failed for _, failed in self._window))

    def _settle_probe(self, result: CallResult, now_s: float, retry_after_s: float | None) -> None:
        self._probes_out -= 1
        if result is CallResult.FAILURE:
            self._set_level(self._level + 1, now_s)
            self._open(max(self._interval_s(), self._bounded(retry_after_s)), now_s)
        elif result is CallResult.SUCCESS:
            self._probe_successes += 1
            if self._probe_successes >= self._settings.probes_max:
                self._level_since_s = now_s
                self._enter(BreakerState.CLOSED)

    def _count(self, result: CallResult, now_s: float, retry_after_s: float | None) -> None:
        failed = result is CallResult.FAILURE
        self._window.append((now_s, failed))
        self._forget_old(now_s)
        if not failed:
            # Trust comes back slowly: one doubling less per healthy window.
            if self._level and now_s - self._level_since_s >= self._settings.window_s:
                self._set_level(self._level - 1, now_s)
            return
        calls = len(self._window)
        failures = sum(failed for _, failed in self._window)
        if self._bounded(retry_after_s) > 0:
            self._open(self._bounded(retry_after_s), now_s)
        elif calls >= self._settings.calls_min and failures >= self._settings.failure_ratio * calls:
            self._open(self._interval_s(), now_s)

    def _interval_s(self) -> float:
        interval_s = min(self._settings.open_s * 2.0**self._level, self._settings.open_s_max)
        return interval_s * (1 + _JITTER * self._random())

    def _bounded(self, retry_after_s: float | None) -> float:
        return min(max(retry_after_s or 0.0, 0.0), self._retry_after_s_max)

    def _set_level(self, level: int, now_s: float) -> None:
        self._level = min(level, _LEVEL_MAX)
        self._level_since_s = now_s

    def _open(self, for_s: float, now_s: float) -> None:
        self._open_until_s = max(self._open_until_s, now_s + for_s)
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._epoch += 1
        self._probes_out = 0
        self._probe_successes = 0
        self._window.clear()

    def _forget_old(self, now_s: float) -> None:
        while self._window and self._window[0][0] <= now_s - self._settings.window_s:
            self._window.popleft()
