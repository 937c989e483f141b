"""The breaker against a dumb model: whatever happens in whatever order, they agree.

HYPOTHESIS_PROFILE=thorough runs 10,000 sequences (`make test-breaker`), otherwise a few hundred.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.executor.breaker import Breaker, BreakerState, CallResult, Permit, PermitError, Transition
from spillway.settings import Breaker as BreakerSettings
from tests.support.hypothesis_profiles import examples

SETTINGS = BreakerSettings(
    window_s=10,
    window_calls_max=6,
    calls_min=3,
    failure_ratio=0.5,
    open_s=4,
    open_s_max=20,
    probes_max=2,
    slow_call_s=1.5,
    slow_ratio=0.75,
)
RETRY_AFTER_S_MAX = 30.0
PERMIT_S_MAX = 25.0
JITTER = 0.25  # what the "random" number is, all the time
STEPS = 40
Call = tuple[float, bool, bool]  # when it was counted, failed, slow


class BreakerMachine(RuleBasedStateMachine):
    """The model keeps every counted call and every permit for ever, and asks plain questions of the lists.

    Its time is the sum of all steps forward; the clock that the breaker is shown also goes back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Transition] = []
        self.subject = Breaker(
            SETTINGS,
            retry_after_s_max=RETRY_AFTER_S_MAX,
            permit_s_max=PERMIT_S_MAX,
            random=lambda: JITTER,
            on_change=self.told.append,
        )
        self.clock_s = 1_000.0
        self.subject.snapshot(self.clock_s)
        self.now_s = 0.0
        self.state = BreakerState.CLOSED
        self.epoch = 0
        self.history: list[tuple[int, Call]] = []
        self.open_until_s = 0.0
        self.by_peer = False
        self.level = 0
        self.level_since_s = 0.0
        self.closed_at_s: float | None = None
        self.probe_successes = 0
        self.held: list[tuple[Permit, int, float]] = []  # everything that was taken and not settled, lost or not
        self.settled: list[Permit] = []

    # What may happen.

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self._let_pass(seconds)

    @rule(seconds=st.floats(100.0, 1e6))
    def the_clock_leaps_ahead(self, seconds: float) -> None:
        self._let_pass(seconds)

    @rule(seconds=st.floats(0.0, 1e4))
    def the_clock_goes_back(self, seconds: float) -> None:
        self.clock_s -= seconds
        self.subject.snapshot(self.clock_s)

    @rule()
    def acquire(self) -> None:
        permit = self.subject.acquire(self.clock_s)
        if self.state is BreakerState.OPEN and self.now_s >= self.open_until_s:
            self._enter(BreakerState.HALF_OPEN)
        if self.state is BreakerState.CLOSED:
            allowed = True
        elif self.state is BreakerState.OPEN:
            allowed = False
        else:
            probes = sum(epoch == self.epoch and not self._is_lost(taken) for _, epoch, taken in self.held)
            allowed = probes + self.probe_successes < SETTINGS.probes_max
        assert (permit is not None) == allowed
        if permit is not None:
            assert permit.is_probe == (self.state is BreakerState.HALF_OPEN)
            self.held.append((permit, self.epoch, self.now_s))

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 1_000),
        result=st.sampled_from(CallResult),
        took_s=st.sampled_from([0.0, 0.2, 1.4, 1.5, 9.0]),
        retry_after_s=st.none() | st.floats(-1.0, 100.0),
    )
    def settle(self, which: int, result: CallResult, took_s: float, retry_after_s: float | None) -> None:
        permit, epoch, taken_at_s = self.held.pop(which % len(self.held))
        self.settled.append(permit)
        # A lost permit is one only once somebody has looked; the breaker looks when it is asked for another.
        self.subject.forget_lost(self.clock_s)
        self.subject.settle(permit, result, self.clock_s, took_s=took_s, retry_after_s=retry_after_s)
        if self._is_lost(taken_at_s):
            return
        failed, slow = result is CallResult.FAILURE, took_s >= SETTINGS.slow_call_s
        asked_s = min(max(retry_after_s or 0.0, 0.0), RETRY_AFTER_S_MAX) if failed else 0.0
        if epoch != self.epoch:
            self._open(asked_s)
        elif result is CallResult.NEITHER:
            pass
        elif self.state is BreakerState.HALF_OPEN:
            if failed or slow:
                self._set_level(self.level + 1)
                self._open(max(asked_s, self._interval_s()))
            else:
                self._probe_succeeded()
        else:
            self._counted(failed=failed, slow=slow, asked_s=asked_s)

    @precondition(lambda self: self.settled)
    @rule(which=st.integers(0, 1_000), result=st.sampled_from(CallResult))
    def settling_twice_is_refused(self, which: int, result: CallResult) -> None:
        with pytest.raises(PermitError):
            self.subject.settle(self.settled[which % len(self.settled)], result, self.clock_s, retry_after_s=9.0)

    @rule(seconds=st.floats(0.0, 100.0))
    def a_peer_opens(self, seconds: float) -> None:
        self.subject.open_for(seconds, self.clock_s, by_peer=True)
        self._open(min(seconds, RETRY_AFTER_S_MAX), by_peer=True)

    # What must hold.

    @invariant()
    def they_agree(self) -> None:
        seen = self.subject.snapshot(self.clock_s)
        assert seen.epoch == self.epoch
        assert self.told[-1].state is self.state if self.told else self.state is BreakerState.CLOSED
        if self.state is BreakerState.OPEN and self.now_s < self.open_until_s:
            assert seen.state is BreakerState.OPEN
            assert seen.open_for_s == pytest.approx(self.open_until_s - self.now_s, abs=1e-6)
            assert seen.open_for_s <= max(SETTINGS.open_s_max * 1.2, RETRY_AFTER_S_MAX) + 1e-6
        elif self.state is BreakerState.OPEN:
            assert (seen.state, seen.open_for_s) == (BreakerState.HALF_OPEN, 0.0)
        else:
            assert (seen.state, seen.open_for_s) == (self.state, 0.0)
        assert seen.opened_by_peer == (self.by_peer and self.state is not BreakerState.CLOSED)
        window = self._window()
        assert (seen.window_calls, seen.window_failures, seen.window_slow) == (
            len(window),
            sum(failed for _, failed, _ in window),
            sum(slow for _, _, slow in window),
        )
        if self.state is BreakerState.CLOSED and self.closed_at_s is not None:
            assert seen.closed_for_s == pytest.approx(self.now_s - self.closed_at_s, abs=1e-6)
        else:
            assert seen.closed_for_s is None

    @invariant()
    def no_place_is_taken_for_ever(self) -> None:
        self.subject.forget_lost(self.clock_s)
        assert self.subject.in_flight == sum(not self._is_lost(taken_at_s) for _, _, taken_at_s in self.held)

    # The model's own workings.

    def _let_pass(self, seconds: float) -> None:
        before_s = self.clock_s
        self.clock_s += seconds
        self.subject.snapshot(self.clock_s)
        self.now_s += self.clock_s - before_s

    def _is_lost(self, taken_at_s: float) -> bool:
        return self.now_s - taken_at_s >= PERMIT_S_MAX

    def _counted(self, *, failed: bool, slow: bool, asked_s: float) -> None:
        self.history.append((self.epoch, (self.now_s, failed, slow)))
        window = self._window()
        failures, slow_calls = sum(call[1] for call in window), sum(call[2] for call in window)
        enough = len(window) >= SETTINGS.calls_min
        too_many_failed = enough and failed and failures / len(window) >= SETTINGS.failure_ratio
        too_many_slow = enough and slow and slow_calls / len(window) >= SETTINGS.slow_ratio
        if too_many_failed or too_many_slow:
            self._open(max(asked_s, self._interval_s()))
        elif asked_s > 0:
            self._open(asked_s)
        elif not failed and self.level and self.now_s - self.level_since_s >= SETTINGS.window_s:
            self._set_level(self.level - 1)

    def _probe_succeeded(self) -> None:
        self.probe_successes += 1
        if self.probe_successes == SETTINGS.probes_max:
            self.level_since_s = self.closed_at_s = self.now_s
            self._enter(BreakerState.CLOSED)

    def _window(self) -> list[Call]:
        of_epoch = [call for epoch, call in self.history if epoch == self.epoch]
        return [call for call in of_epoch[-SETTINGS.window_calls_max :] if self.now_s - SETTINGS.window_s < call[0]]

    def _interval_s(self) -> float:
        return min(SETTINGS.open_s * 2.0**self.level, SETTINGS.open_s_max) * (1 + 0.2 * JITTER)

    def _set_level(self, level: int) -> None:
        self.level, self.level_since_s = min(level, 16), self.now_s

    def _open(self, seconds: float, *, by_peer: bool = False) -> None:
        until_s = self.now_s + seconds
        if seconds > 0 and not (self.state is BreakerState.OPEN and until_s <= self.open_until_s):
            self.open_until_s = until_s
            self.by_peer = by_peer
            self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self.epoch += 1
        self.probe_successes = 0


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = hypothesis_settings(
    max_examples=examples(200, 10_000),
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow],
)
TestBreakerMachine = pytest.mark.timeout(1_200)(TestBreakerMachine)
