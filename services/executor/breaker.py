"""When a target is left alone: a circuit breaker with a sliding window, tied to permits.

Promises: pure; time is an argument (monotonic seconds), randomness is passed in; no timers: OPEN becomes HALF_OPEN when
the first permit is asked for after the interval. The caller takes a permit before a call and settles it once after it,
whatever happened; a result counts only in the state that its permit was taken in (its epoch), so a slow call from
before an outage can neither close nor open anything. Not thread-safe: one event loop.

    CLOSED     counts results; enough failures or slow calls, or a Retry-After, -> OPEN
    OPEN       lets nothing through; after the interval -> HALF_OPEN
    HALF_OPEN  lets `probes_max` calls through; as many good ones -> CLOSED, a failed or slow one -> OPEN, twice as long

- A call is slow when it takes `slow_call_s` or longer, however it ends; a failure counts as a failure as well.
- Retry-After is no result but an instruction, given now: it holds whatever the age of the call that brought it, opens
  at once, and never shortens what is known; it is bounded by `retry_after_s_max`.
- A permit that is not settled within `permit_s_max` is lost: its place is free again, and what it says later counts for
  nothing. So a caller that forgets its probe cannot keep a target closed off for ever. It is looked for when the next
  permit is asked for; there is no finaliser, which would depend on the garbage collector.
- A clock that goes back stands still meanwhile: nothing opens, closes or expires because of it. One that leaps ahead is
  a long wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spillway.settings import Breaker as BreakerSettings

__all__ = [
    "LOST_MAX",
    "Breaker",
    "BreakerState",
    "CallResult",
    "Permit",
    "PermitError",
    "Snapshot",
    "Transition",
]

LOST_MAX: Final = 1_024  # lost permits that are remembered, so that settling one late is no error
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
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state as of one moment. `open_for_s` is 0 unless OPEN; `closed_for_s` is None unless CLOSED after an outage.

    `in_flight` counts permits that are out, of any epoch. `opened_by_peer`: OPEN, or about to be probed, because
    another replica said so.
    """

    state: BreakerState
    open_for_s: float = 0.0
    closed_for_s: float | None = None
    epoch: int = 0
    window_calls: int = 0
    window_failures: int = 0
    window_slow: int = 0
    in_flight: int = 0
    opened_by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, or of how long it stays OPEN. `open_for_s` is 0 unless OPEN."""

    state: BreakerState
    epoch: int
    open_for_s: float = 0.0
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class _Counted:
    at_s: float
    failed: bool
    slow: bool


class Breaker:
    """One target's breaker.

    `random` gives floats in [0, 1); `retry_after_s_max` bounds what a provider may ask; `on_change` is told of
    each transition, and must neither raise nor call back.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        *,
        retry_after_s_max: float,
        permit_s_max: float,
        random: Callable[[], float],
        on_change: Callable[[Transition], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._retry_after_s_max = retry_after_s_max
        self._permit_s_max = permit_s_max
        self._random = random
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._epoch = 0
        self._window: deque[_Counted] = deque(maxlen=settings.window_calls_max)
        self._open_until_s = 0.0
        self._opened_by_peer = False
        self._closed_at_s: float | None = None  # when it last came back from an outage
        self._level = 0  # doublings of the next open interval
        self._level_since_s = 0.0
        self._probes_out: set[int] = set()
        self._probe_successes = 0
        self._permits_taken = 0
        self._out: dict[int, float] = {}  # permits and when they were taken, oldest first
        self._lost: dict[int, None] = {}  # an ordered set
        self._clock_s: float | None = None  # what the caller's clock said last
        self._elapsed_s = 0.0  # our own time, which never goes back

    def reconfigure(self, settings: BreakerSettings, *, retry_after_s_max: float, permit_s_max: float) -> None:
        """Goes by these from now on; what was counted, and how long it stays open, remains."""
        if settings.window_calls_max != self._settings.window_calls_max:
            self._window = deque(self._window, maxlen=settings.window_calls_max)
        self._settings = settings
        self._retry_after_s_max = retry_after_s_max
        self._permit_s_max = permit_s_max

    @property
    def state(self) -> BreakerState:
        """As of the last change: OPEN until a probe is let through. Safe to read from another thread."""
        return self._state

    @property
    def in_flight(self) -> int:
        """How many permits are out. Safe to read from another thread."""
        return len(self._out)

    def acquire(self, now_s: float) -> Permit | None:
        """A permit, or None when no call may be made now."""
        self.forget_lost(now_s)
        now_s = self._time(now_s)
        if self._state is BreakerState.OPEN:
            if now_s < self._open_until_s:
                return None
            self._enter(BreakerState.HALF_OPEN)
        is_probe = self._state is BreakerState.HALF_OPEN
        if is_probe and len(self._probes_out) + self._probe_successes >= self._settings.probes_max:
            return None
        self._permits_taken += 1
        number = self._permits_taken
        self._out[number] = now_s
        if is_probe:
            self._probes_out.add(number)
        return Permit(number, self._epoch, is_probe)

    def settle(
        self,
        permit: Permit,
        result: CallResult,
        now_s: float,
        *,
        took_s: float = 0.0,
        retry_after_s: float | None = None,
    ) -> None:
        """Gives the permit back with what became of the call. Raises PermitError the second time.

        `took_s` is what the target needed. `retry_after_s` (only with FAILURE) opens the breaker for that long.
        """
        now_s = self._time(now_s)
        if permit.number in self._lost:
            del self._lost[permit.number]
            return
        if permit.number not in self._out:
            raise PermitError(f"permit {permit.number} was settled before, or is of another breaker")
        del self._out[permit.number]
        asked_s = self._bounded(retry_after_s) if result is CallResult.FAILURE else 0.0
        if permit.epoch != self._epoch:
            self._open(asked_s, now_s)
            return
        slow = 0 < self._settings.slow_call_s <= took_s
        if self._state is BreakerState.HALF_OPEN:
            self._probes_out.discard(permit.number)
            self._settle_probe(result, now_s, asked_s, slow=slow)
        elif result is not CallResult.NEITHER:
            self._count(_Counted(now_s, result is CallResult.FAILURE, slow), asked_s)

    def forget_lost(self, now_s: float) -> None:
        """Frees the places of permits that are lost. `acquire` does it by itself."""
        now_s = self._time(now_s)
        while self._out:
            number, taken_at_s = next(iter(self._out.items()))
            if now_s - taken_at_s < self._permit_s_max:
                return
            del self._out[number]
            self._probes_out.discard(number)
            self._lost[number] = None
            if len(self._lost) > LOST_MAX:
                del self._lost[next(iter(self._lost))]

    def open_for(self, seconds: float, now_s: float, *, by_peer: bool = False) -> None:
        """Opens it for `seconds` at least, bounded, whatever was counted here. Never shortens."""
        now_s = self._time(now_s)
        self._open(self._bounded(seconds), now_s, by_peer=by_peer)

    def snapshot(self, now_s: float) -> Snapshot:
        """What is known now. An interval that is over shows as HALF_OPEN: a probe would go through."""
        now_s = self._time(now_s)
        state, open_for_s = self._state, 0.0
        if state is BreakerState.OPEN:
            open_for_s = max(0.0, self._open_until_s - now_s)
            state = BreakerState.OPEN if open_for_s > 0 else BreakerState.HALF_OPEN
        counted = self._counted(now_s)
        is_back = state is BreakerState.CLOSED and self._closed_at_s is not None
        return Snapshot(
            state,
            open_for_s,
            now_s - self._closed_at_s if is_back and self._closed_at_s is not None else None,
            self._epoch,
            len(counted),
            sum(one.failed for one in counted),
            sum(one.slow for one in counted),
            len(self._out),
            self._opened_by_peer and state is not BreakerState.CLOSED,
        )

    def _settle_probe(self, result: CallResult, now_s: float, asked_s: float, *, slow: bool) -> None:
        if result is CallResult.FAILURE or (slow and result is CallResult.SUCCESS):
            self._set_level(self._level + 1, now_s)
            self._open(max(self._interval_s(), asked_s), now_s)
        elif result is CallResult.SUCCESS:
            self._probe_successes += 1
            if self._probe_successes >= self._settings.probes_max:
                self._level_since_s = self._closed_at_s = now_s
                self._enter(BreakerState.CLOSED)

    def _count(self, one: _Counted, asked_s: float) -> None:
        self._window.append(one)
        if self._is_too_bad(one):
            self._open(max(self._interval_s(), asked_s), one.at_s)
        elif asked_s > 0:
            self._open(asked_s, one.at_s)
        elif not one.failed and self._level and one.at_s - self._level_since_s >= self._settings.window_s:
            # Trust comes back slowly: one doubling less per healthy window.
            self._set_level(self._level - 1, one.at_s)

    def _is_too_bad(self, last: _Counted) -> bool:
        """Whether the window opens the breaker. Only a bad call can be the last straw."""
        counted = self._counted(last.at_s)
        calls = len(counted)
        if not (last.failed or last.slow) or calls < self._settings.calls_min:
            return False
        failures, slow = sum(one.failed for one in counted), sum(one.slow for one in counted)
        return (last.failed and failures >= self._settings.failure_ratio * calls) or (
            last.slow and slow >= self._settings.slow_ratio * calls
        )

    def _counted(self, now_s: float) -> deque[_Counted]:
        """The window, without what has grown old."""
        while self._window and self._window[0].at_s <= now_s - self._settings.window_s:
            self._window.popleft()
        return self._window

    def _interval_s(self) -> float:
        interval_s = min(self._settings.open_s * 2.0**self._level, self._settings.open_s_max)
        return interval_s * (1 + _JITTER * self._random())

    def _bounded(self, seconds: float | None) -> float:
        return min(max(seconds or 0.0, 0.0), self._retry_after_s_max)

    def _set_level(self, level: int, now_s: float) -> None:
        self._level = min(level, _LEVEL_MAX)
        self._level_since_s = now_s

    def _open(self, for_s: float, now_s: float, *, by_peer: bool = False) -> None:
        """Opens, or stays open, for so long at least; nothing for 0 seconds."""
        until_s = now_s + for_s
        if for_s <= 0 or (self._state is BreakerState.OPEN and until_s <= self._open_until_s):
            return
        self._open_until_s = until_s
        self._opened_by_peer = by_peer
        self._enter(BreakerState.OPEN, for_s)

    def _enter(self, state: BreakerState, open_for_s: float = 0.0) -> None:
        self._state = state
        self._epoch += 1
        self._probes_out.clear()
        self._probe_successes = 0
        self._window.clear()
        self._on_change(Transition(state, self._epoch, open_for_s, state is BreakerState.OPEN and self._opened_by_peer))

    def _time(self, clock_s: float) -> float:
        """Our own time: it advances with the caller's clock, and stands still while that goes back."""
        if self._clock_s is not None:
            self._elapsed_s += max(0.0, clock_s - self._clock_s)
        self._clock_s = clock_s
        return self._elapsed_s
