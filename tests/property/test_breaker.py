"""The breaker against a dumb model, and its single rules."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.executor.breaker import Breaker, BreakerState, CallResult, Permit, PermitError
from spillway.settings import Breaker as BreakerSettings

SETTINGS = BreakerSettings(
    window_s=10, window_calls_max=6, calls_min=3, failure_ratio=0.5, open_s=4, open_s_max=20, probes_max=2
)
RETRY_AFTER_S_MAX = 30.0


def breaker(**changes: float) -> Breaker:
    return Breaker(SETTINGS.model_copy(update=changes), retry_after_s_max=RETRY_AFTER_S_MAX, random=lambda: 0.0)


def call(subject: Breaker, result: CallResult, now_s: float = 0.0, retry_after_s: float | None = None) -> None:
    permit = subject.acquire(now_s)
    assert permit is not None
    subject.settle(permit, result, now_s, retry_after_s)


def opened(**changes: float) -> Breaker:
    subject = breaker(**changes)
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    assert subject.snapshot(0.0).state is BreakerState.OPEN
    return subject


class BreakerMachine(RuleBasedStateMachine):
    """The model keeps every counted call for ever and asks plain questions of the list."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = breaker()
        self.now_s = 0.0
        self.state = BreakerState.CLOSED
        self.epoch = 0
        self.history: list[tuple[int, float, bool]] = []
        self.open_until_s = 0.0
        self.open_from_s = 0.0
        self.out: list[tuple[Permit, int]] = []
        self.probe_successes = 0

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def acquire(self) -> None:
        permit = self.subject.acquire(self.now_s)
        if self.state is BreakerState.OPEN and self.now_s >= self.open_until_s:
            self._enter(BreakerState.HALF_OPEN)
        if self.state is BreakerState.OPEN:
            assert permit is None
        elif self.state is BreakerState.HALF_OPEN:
            probes = sum(epoch == self.epoch for _, epoch in self.out)
            assert (permit is not None) == (probes + self.probe_successes < SETTINGS.probes_max)
        else:
            assert permit is not None
        if permit is not None:
            self.out.append((permit, self.epoch))

    @precondition(lambda self: self.out)
    @rule(
        which=st.integers(0, 1_000),
        result=st.sampled_from(CallResult),
        retry_after_s=st.none() | st.floats(0.0, 100.0),
    )
    def settle(self, which: int, result: CallResult, retry_after_s: float | None) -> None:
        permit, epoch = self.out.pop(which % len(self.out))
        before = self.subject.snapshot(self.now_s)
        self.subject.settle(permit, result, self.now_s, retry_after_s)
        after = self.subject.snapshot(self.now_s)
        if epoch != self.epoch or result is CallResult.NEITHER:
            assert after == before, "a stale result, or none, changes nothing"
            return
        failed = result is CallResult.FAILURE
        asked_s = min(retry_after_s or 0.0, RETRY_AFTER_S_MAX) if failed else 0.0
        if self.state is BreakerState.HALF_OPEN:
            self.probe_successes += not failed
            if failed:
                self._opened(after.open_for_s, asked_s)
            elif self.probe_successes == SETTINGS.probes_max:
                self._enter(BreakerState.CLOSED)
            return
        self.history.append((epoch, self.now_s, failed))
        window = self._window()
        failures = sum(window)
        if asked_s or (failed and len(window) >= SETTINGS.calls_min and failures * 2 >= len(window)):
            self._opened(after.open_for_s, asked_s)

    @precondition(lambda self: self.out)
    @rule()
    def settling_twice_is_refused(self) -> None:
        permit, epoch = self.out.pop()
        self.subject.settle(permit, CallResult.NEITHER, self.now_s)
        assert epoch <= self.epoch
        with pytest.raises(PermitError):
            self.subject.settle(permit, CallResult.SUCCESS, self.now_s)

    @invariant()
    def the_states_are_equal(self) -> None:
        seen = self.subject.snapshot(self.now_s)
        if self.state is BreakerState.OPEN:
            over = self.now_s >= self.open_until_s
            assert seen.state is (BreakerState.HALF_OPEN if over else BreakerState.OPEN)
        else:
            assert seen.state is self.state
        if self.state is BreakerState.CLOSED:
            assert (seen.window_calls, seen.window_failures) == (len(self._window()), sum(self._window()))

    def _window(self) -> list[bool]:
        counted = [(at_s, failed) for epoch, at_s, failed in self.history if epoch == self.epoch]
        return [
            failed for at_s, failed in counted[-SETTINGS.window_calls_max :] if at_s > self.now_s - SETTINGS.window_s
        ]

    def _opened(self, open_for_s: float, asked_s: float) -> None:
        # How long is up to the doubling; it is at least what was asked and within the bounds.
        assert open_for_s >= min(asked_s or SETTINGS.open_s, SETTINGS.open_s) - 1e-6
        assert open_for_s >= asked_s - 1e-6
        assert open_for_s <= max(SETTINGS.open_s_max, RETRY_AFTER_S_MAX) + 1e-6
        self._enter(BreakerState.OPEN)
        self.open_until_s = self.now_s + open_for_s

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self.epoch += 1
        self.probe_successes = 0


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_open_breaker_lets_no_call_through() -> None:
    subject = opened()
    assert subject.acquire(3.9) is None
    assert subject.acquire(4.0) is not None


def test_few_failures_keep_it_closed() -> None:
    subject = breaker()
    for _ in range(SETTINGS.calls_min - 1):
        call(subject, CallResult.FAILURE)
    assert subject.snapshot(0.0).state is BreakerState.CLOSED


def test_old_failures_are_forgotten() -> None:
    subject = breaker()
    for _ in range(SETTINGS.calls_min - 1):
        call(subject, CallResult.FAILURE, 0.0)
    call(subject, CallResult.FAILURE, 10.1)
    assert subject.snapshot(10.1).state is BreakerState.CLOSED


def test_half_open_lets_only_the_probes_through() -> None:
    subject = opened()
    assert [subject.acquire(5.0) is not None for _ in range(4)] == [True, True, False, False]


def test_a_probe_that_was_never_made_can_be_given_back() -> None:
    subject = opened(probes_max=1)
    permit = subject.acquire(5.0)
    assert permit is not None
    assert subject.acquire(5.0) is None
    subject.settle(permit, CallResult.NEITHER, 5.0)
    assert subject.acquire(5.0) is not None


def test_a_slow_success_from_before_the_outage_closes_nothing() -> None:
    subject = breaker()
    slow = subject.acquire(0.0)
    assert slow is not None
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    subject.settle(slow, CallResult.SUCCESS, 1.0)
    assert subject.snapshot(1.0).state is BreakerState.OPEN


def test_the_interval_doubles_up_to_its_bound() -> None:
    subject = opened()
    now_s, seen = 0.0, []
    for _ in range(4):
        now_s += subject.snapshot(now_s).open_for_s
        call(subject, CallResult.FAILURE, now_s)
        seen.append(round(subject.snapshot(now_s).open_for_s, 6))
    assert seen == [8.0, 16.0, 20.0, 20.0]


def test_the_interval_decays_after_success() -> None:
    subject = opened(probes_max=1)
    call(subject, CallResult.FAILURE, 4.0)
    call(subject, CallResult.SUCCESS, 12.0)
    call(subject, CallResult.SUCCESS, 12.0 + SETTINGS.window_s)
    now_s = 40.0
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE, now_s)
    assert subject.snapshot(now_s).open_for_s == pytest.approx(SETTINGS.open_s)


def test_retry_after_opens_at_once_and_is_bounded() -> None:
    subject = breaker()
    call(subject, CallResult.FAILURE, 0.0, retry_after_s=2.0)
    assert subject.snapshot(0.0).open_for_s == pytest.approx(2.0)
    other = breaker()
    call(other, CallResult.FAILURE, 0.0, retry_after_s=1e9)
    assert other.snapshot(0.0).open_for_s == pytest.approx(RETRY_AFTER_S_MAX)


def test_what_is_the_callers_fault_is_not_counted() -> None:
    subject = breaker()
    for _ in range(50):
        call(subject, CallResult.NEITHER)
    assert subject.snapshot(0.0).window_calls == 0


def test_jitter_only_lengthens_the_interval() -> None:
    subject = Breaker(SETTINGS, retry_after_s_max=RETRY_AFTER_S_MAX, random=lambda: 0.999)
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    assert SETTINGS.open_s < subject.snapshot(0.0).open_for_s <= SETTINGS.open_s * 1.2


def test_the_failure_ratio_itself_opens() -> None:
    subject = breaker()
    for result in (CallResult.SUCCESS, CallResult.SUCCESS, CallResult.FAILURE):
        call(subject, result)
    assert subject.snapshot(0.0).state is BreakerState.CLOSED
    call(subject, CallResult.FAILURE)
    assert subject.snapshot(0.0).state is BreakerState.OPEN
