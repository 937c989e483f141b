"""The breaker's single rules, and what a thousand callers at once make of it."""

from __future__ import annotations

import asyncio

import pytest

from services.executor.breaker import LOST_MAX, Breaker, BreakerState, CallResult, Permit, PermitError, Transition
from spillway.settings import Breaker as BreakerSettings

SETTINGS = BreakerSettings(
    window_s=10, window_calls_max=6, calls_min=3, failure_ratio=0.5, open_s=4, open_s_max=20, probes_max=2
)
RETRY_AFTER_S_MAX = 30.0
PERMIT_S_MAX = 60.0
CALLERS = 1_000


def breaker(random: float = 0.0, told: list[Transition] | None = None, **changes: float) -> Breaker:
    return Breaker(
        SETTINGS.model_copy(update=changes),
        retry_after_s_max=RETRY_AFTER_S_MAX,
        permit_s_max=PERMIT_S_MAX,
        random=lambda: random,
        on_change=(lambda _: None) if told is None else told.append,
    )


def call(
    subject: Breaker,
    result: CallResult,
    now_s: float = 0.0,
    retry_after_s: float | None = None,
    took_s: float = 0.0,
) -> None:
    permit = subject.acquire(now_s)
    assert permit is not None
    subject.settle(permit, result, now_s, took_s=took_s, retry_after_s=retry_after_s)


def opened(**changes: float) -> Breaker:
    subject = breaker(0.0, None, **changes)
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    assert subject.snapshot(0.0).state is BreakerState.OPEN
    return subject


def probe(subject: Breaker, now_s: float) -> Permit:
    permit = subject.acquire(now_s)
    assert permit is not None
    assert permit.is_probe
    return permit


def state(subject: Breaker, now_s: float = 0.0) -> BreakerState:
    return subject.snapshot(now_s).state


def test_an_open_breaker_lets_no_call_through() -> None:
    subject = opened()
    assert subject.acquire(3.9) is None
    assert subject.acquire(4.0) is not None


def test_few_failures_keep_it_closed() -> None:
    subject = breaker()
    for _ in range(SETTINGS.calls_min - 1):
        call(subject, CallResult.FAILURE)
    assert state(subject) is BreakerState.CLOSED


def test_old_failures_are_forgotten() -> None:
    subject = breaker()
    for _ in range(SETTINGS.calls_min - 1):
        call(subject, CallResult.FAILURE, 0.0)
    call(subject, CallResult.FAILURE, 10.1)
    assert state(subject, 10.1) is BreakerState.CLOSED


def test_the_failure_ratio_itself_opens() -> None:
    subject = breaker()
    for result in (CallResult.SUCCESS, CallResult.SUCCESS, CallResult.FAILURE):
        call(subject, result)
    assert state(subject) is BreakerState.CLOSED
    call(subject, CallResult.FAILURE)
    assert state(subject) is BreakerState.OPEN


def test_what_is_the_callers_fault_is_not_counted() -> None:
    subject = breaker()
    for _ in range(50):
        call(subject, CallResult.NEITHER)
    assert subject.snapshot(0.0).window_calls == 0


# Slow calls.


def test_slow_successes_open_it() -> None:
    subject = breaker(slow_call_s=2.0, slow_ratio=0.6)
    call(subject, CallResult.SUCCESS, took_s=1.9)
    call(subject, CallResult.SUCCESS, took_s=2.0)
    assert state(subject) is BreakerState.CLOSED
    call(subject, CallResult.SUCCESS, took_s=5.0)
    assert state(subject) is BreakerState.OPEN


def test_no_call_is_slow_unless_it_is_said_what_slow_is() -> None:
    subject = breaker()
    for _ in range(6):
        call(subject, CallResult.SUCCESS, took_s=1e6)
    seen = subject.snapshot(0.0)
    assert (seen.state, seen.window_calls, seen.window_slow) == (BreakerState.CLOSED, 6, 0)


def test_a_slow_probe_is_no_recovery() -> None:
    subject = opened(slow_call_s=2.0, probes_max=1)
    subject.settle(probe(subject, 5.0), CallResult.SUCCESS, 8.0, took_s=3.0)
    assert state(subject, 8.0) is BreakerState.OPEN


# Half-open.


def test_half_open_lets_only_the_probes_through() -> None:
    subject = opened()
    assert [subject.acquire(5.0) is not None for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("probes_max", [1, 3, 10])
async def test_of_a_thousand_callers_at_half_open_exactly_the_probes_get_through(probes_max: int) -> None:
    subject = opened(probes_max=probes_max)
    gate = asyncio.Event()
    calls = 0

    async def caller() -> None:
        nonlocal calls
        await gate.wait()
        permit = subject.acquire(5.0)
        if permit is None:
            return
        calls += 1
        await asyncio.sleep(0)  # the others come meanwhile
        await asyncio.sleep(0)
        subject.settle(permit, CallResult.SUCCESS, 5.0)

    everybody = asyncio.gather(*(caller() for _ in range(CALLERS)))
    await asyncio.sleep(0)
    gate.set()
    await everybody
    assert calls == probes_max
    assert (state(subject, 5.0), subject.in_flight) == (BreakerState.CLOSED, 0)


def test_probes_that_end_in_nothing_a_thousand_times_leave_the_permits_whole() -> None:
    subject = opened()
    for _ in range(1_000):  # cancelled: settled with NEITHER, whenever that is
        permits = [probe(subject, 5.0), probe(subject, 5.0)]
        assert subject.acquire(5.0) is None
        for permit in permits:
            subject.settle(permit, CallResult.NEITHER, 5.0)
    assert subject.in_flight == 0
    assert [subject.acquire(5.0) is not None for _ in range(3)] == [True, True, False]


def test_probes_that_time_out_a_thousand_times_leave_the_permits_whole() -> None:
    subject = opened(probes_max=1)
    now_s = 5.0
    for _ in range(1_000):
        subject.settle(probe(subject, now_s), CallResult.FAILURE, now_s, took_s=1.0)
        assert subject.acquire(now_s) is None
        now_s += subject.snapshot(now_s).open_for_s
    assert subject.in_flight == 0
    subject.settle(probe(subject, now_s), CallResult.SUCCESS, now_s)
    assert state(subject, now_s) is BreakerState.CLOSED


def test_probes_that_are_forgotten_a_thousand_times_leave_the_permits_whole() -> None:
    subject = opened()
    now_s, forgotten = 5.0, []
    for _ in range(1_000):
        forgotten += [probe(subject, now_s), probe(subject, now_s)]
        assert subject.acquire(now_s + PERMIT_S_MAX - 1) is None
        now_s += PERMIT_S_MAX
    good = probe(subject, now_s)
    assert subject.in_flight == 1
    for permit in forgotten[-LOST_MAX:]:  # late after all: no error, and nothing happens
        subject.settle(permit, CallResult.FAILURE, now_s, retry_after_s=20.0)
    assert (state(subject, now_s), subject.in_flight) == (BreakerState.HALF_OPEN, 1)
    subject.settle(good, CallResult.SUCCESS, now_s)
    subject.settle(probe(subject, now_s), CallResult.SUCCESS, now_s)
    assert state(subject, now_s) is BreakerState.CLOSED


def test_what_is_remembered_of_lost_permits_is_bounded() -> None:
    subject = breaker()
    permits = [subject.acquire(0.0) for _ in range(LOST_MAX + 10)]
    subject.forget_lost(PERMIT_S_MAX)
    assert subject.in_flight == 0
    assert len(subject._lost) == LOST_MAX
    newest = permits[-1]
    assert newest is not None
    subject.settle(newest, CallResult.SUCCESS, PERMIT_S_MAX)
    with pytest.raises(PermitError):
        subject.settle(newest, CallResult.SUCCESS, PERMIT_S_MAX)


# Stale results and Retry-After.


def test_a_slow_success_from_before_the_outage_closes_nothing() -> None:
    subject = breaker()
    slow = subject.acquire(0.0)
    assert slow is not None
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    subject.settle(slow, CallResult.SUCCESS, 1.0)
    assert state(subject, 1.0) is BreakerState.OPEN


def test_a_failure_from_before_the_recovery_opens_nothing() -> None:
    subject = breaker(probes_max=1, calls_min=1)
    call(subject, CallResult.FAILURE)
    old = probe(subject, 4.0)
    subject.open_for(2.0, 4.0)
    call(subject, CallResult.SUCCESS, 6.0)
    subject.settle(old, CallResult.FAILURE, 6.0)
    assert state(subject, 6.0) is BreakerState.CLOSED


def test_retry_after_opens_at_once_and_is_bounded() -> None:
    subject = breaker()
    call(subject, CallResult.FAILURE, 0.0, retry_after_s=2.0)
    assert subject.snapshot(0.0).open_for_s == pytest.approx(2.0)
    other = breaker()
    call(other, CallResult.FAILURE, 0.0, retry_after_s=1e9)
    assert other.snapshot(0.0).open_for_s == pytest.approx(RETRY_AFTER_S_MAX)


def test_a_second_retry_after_of_the_same_burst_prolongs_and_never_shortens() -> None:
    subject = breaker()
    burst = [subject.acquire(0.0) for _ in range(3)]
    for permit, asked_s in zip(burst, (5.0, 20.0, 1.0), strict=True):
        assert permit is not None
        subject.settle(permit, CallResult.FAILURE, 1.0, retry_after_s=asked_s)
    assert subject.snapshot(1.0).open_for_s == pytest.approx(20.0)


def test_retry_after_does_not_shorten_the_interval() -> None:
    subject = breaker(probes_max=1)
    call(subject, CallResult.FAILURE)
    call(subject, CallResult.FAILURE)
    call(subject, CallResult.FAILURE, retry_after_s=0.5)
    assert subject.snapshot(0.0).open_for_s == pytest.approx(SETTINGS.open_s)


# Intervals.


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


def test_jitter_only_lengthens_the_interval() -> None:
    subject = breaker(random=0.999)
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    assert SETTINGS.open_s < subject.snapshot(0.0).open_for_s <= SETTINGS.open_s * 1.2


# Clocks.


def test_a_clock_that_goes_back_neither_prolongs_nor_shortens_an_outage() -> None:
    subject = opened()
    assert subject.acquire(2.0) is None
    assert subject.acquire(-10_000.0) is None
    assert subject.snapshot(-10_000.0).open_for_s == pytest.approx(2.0)
    assert subject.acquire(-9_998.1) is None
    assert subject.acquire(-9_998.0) is not None


def test_a_clock_that_leaps_ahead_lets_out_no_more_than_the_probes() -> None:
    subject = opened()
    assert [subject.acquire(1e12) is not None for _ in range(4)] == [True, True, False, False]


# Peers, and who is told.


def test_a_peers_opening_opens_and_probes_stay_our_own() -> None:
    subject = breaker(probes_max=1)
    subject.open_for(6.0, 0.0, by_peer=True)
    assert subject.snapshot(1.0).opened_by_peer
    assert subject.acquire(5.9) is None
    subject.settle(probe(subject, 6.0), CallResult.SUCCESS, 6.0)
    seen = subject.snapshot(6.0)
    assert (seen.state, seen.opened_by_peer) == (BreakerState.CLOSED, False)


def test_a_peers_opening_never_shortens_ours() -> None:
    subject = opened()
    subject.open_for(1.0, 0.0, by_peer=True)
    seen = subject.snapshot(0.0)
    assert seen.open_for_s == pytest.approx(SETTINGS.open_s)
    assert not seen.opened_by_peer


def test_every_transition_is_told_once() -> None:
    told: list[Transition] = []
    subject = breaker(told=told, probes_max=1)
    for _ in range(SETTINGS.calls_min):
        call(subject, CallResult.FAILURE)
    call(subject, CallResult.SUCCESS, 4.0)
    assert [(one.state, one.epoch, one.open_for_s) for one in told] == [
        (BreakerState.OPEN, 1, SETTINGS.open_s),
        (BreakerState.HALF_OPEN, 2, 0.0),
        (BreakerState.CLOSED, 3, 0.0),
    ]


def test_it_says_for_how_long_it_has_been_back() -> None:
    subject = opened(probes_max=1)
    assert breaker().snapshot(0.0).closed_for_s is None
    call(subject, CallResult.SUCCESS, 4.0)
    assert subject.snapshot(7.0).closed_for_s == pytest.approx(3.0)
