"""What is known of a target's latency."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.latency import CALLS_MIN, WINDOW_CALLS, Latencies, Latency


def after(*latencies_s: float) -> Latency:
    latency = Latency()
    for latency_s in latencies_s:
        latency.record(latency_s)
    return latency


def test_nothing_is_known_before_the_first_call() -> None:
    latency = Latency()
    assert latency.average_s is None
    assert latency.quantile_s(0.5) is None


def test_a_quantile_needs_some_calls() -> None:
    assert after(*[1.0] * (CALLS_MIN - 1)).quantile_s(0.95) is None
    assert after(*[1.0] * CALLS_MIN).quantile_s(0.95) == 1.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 50.0), (0.95, 95.0), (1.0, 99.0)])
def test_a_quantile_is_the_time_within_which_that_share_ended(share: float, expected: float) -> None:
    values = [float(n) for n in range(100)]
    random.Random(1).shuffle(values)
    assert after(*values).quantile_s(share) == expected


def test_only_the_last_calls_count() -> None:
    latency = after(*[9.0] * WINDOW_CALLS, *[1.0] * WINDOW_CALLS)
    assert latency.quantile_s(1.0) == 1.0


def test_the_average_follows_what_is_new() -> None:
    latency = after(1.0)
    assert latency.average_s == 1.0
    for _ in range(30):
        latency.record(3.0)
    assert latency.average_s == pytest.approx(3.0, abs=0.01)


def test_a_clock_that_jumps_back_counts_as_no_time() -> None:
    assert after(-5.0).average_s == 0.0


@given(st.lists(st.floats(0, 100), max_size=3 * WINDOW_CALLS))
def test_it_agrees_with_sorting_the_last_calls(values: list[float]) -> None:
    latency = after(*values)
    last = sorted(values[-WINDOW_CALLS:])
    if len(last) >= CALLS_MIN:
        assert latency.quantile_s(0.9) == last[min(int(0.9 * len(last)), len(last) - 1)]


def test_a_call_that_was_given_up_counts_only_when_it_was_slow() -> None:
    unknown = Latency()
    unknown.record_at_least(5.0)
    assert unknown.average_s is None
    known = after(2.0)
    known.record_at_least(1.0)
    assert known.average_s == 2.0
    known.record_at_least(7.0)
    assert known.average_s == pytest.approx(3.0)


def test_targets_are_apart() -> None:
    latencies = Latencies(["a", "b"])
    latencies["a"].record(1.0)
    assert (latencies["a"].average_s, latencies["b"].average_s) == (1.0, None)
