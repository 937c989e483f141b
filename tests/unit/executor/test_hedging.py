"""When a second call may start beside a slow one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.hedging import WINDOW_REQUESTS, HedgeShare, hedge_delay_s
from services.executor.latency import CALLS_MIN, Latency
from spillway.settings import Hedging


def test_the_delay_is_learned_from_the_target() -> None:
    settings = Hedging(delay_quantile=0.5, delay_s_min=0.05, delay_s_default=2.0)
    latency = Latency()
    assert hedge_delay_s(latency, settings) == 2.0
    for seconds in range(CALLS_MIN + 1):
        latency.record(float(seconds))
    assert hedge_delay_s(latency, settings) == 4.0
    for _ in range(200):
        latency.record(0.001)
    assert hedge_delay_s(latency, settings) == 0.05


def test_the_first_hedge_comes_with_the_request_that_makes_it_affordable() -> None:
    share = HedgeShare(0.1)
    assert [share.begin()() for _ in range(20)] == [n % 10 == 9 for n in range(20)]


def test_a_request_is_hedged_once() -> None:
    share = HedgeShare(1.0)
    permit = share.begin()
    assert [permit(), permit()] == [True, False]


@pytest.mark.parametrize(("share_max", "granted"), [(0.0, False), (1.0, True)])
def test_none_and_all(share_max: float, granted: bool) -> None:
    assert HedgeShare(share_max).begin()() is granted


def test_a_request_that_left_the_window_is_not_hedged() -> None:
    share = HedgeShare(1.0)
    old = share.begin()
    for _ in range(WINDOW_REQUESTS):
        share.begin()
    assert not old()


def test_old_hedges_are_forgotten() -> None:
    share = HedgeShare(1 / WINDOW_REQUESTS)
    permits = [share.begin() for _ in range(WINDOW_REQUESTS)]
    assert [permits[0](), permits[-1]()] == [True, False]
    share.begin()
    assert permits[-1]()


@given(st.floats(0, 1), st.lists(st.booleans(), max_size=3 * WINDOW_REQUESTS // 100))
def test_the_share_holds_at_any_moment(share_max: float, wishes: list[bool]) -> None:
    share = HedgeShare(share_max)
    hedged = 0
    for requests, wish in enumerate(wishes, start=1):
        permit = share.begin()
        hedged += wish and permit()
        assert hedged <= share_max * requests
