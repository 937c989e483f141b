"""In which order the targets of a tier are asked."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.balancer import SHARE_MIN, Balance, Candidate, arrange, slow_start_share

ROUNDS = 4_000
# Five standard deviations of a share of one half in so many rounds.
TOLERANCE = 0.04


def firsts(balance: Balance, *candidates: Candidate) -> dict[str, float]:
    """How often each is first, as a share, by a seeded generator."""
    chance = random.Random(7)
    counts = Counter(arrange(balance, candidates, chance.random)[0] for _ in range(ROUNDS))
    return {one.name: counts[one.name] / ROUNDS for one in candidates}


def test_order_is_the_order() -> None:
    names = arrange("order", [Candidate("a", in_flight=50), Candidate("b"), Candidate("c", weight=9)], random.random)
    assert names == ("a", "b", "c")


def test_in_order_an_open_target_keeps_its_place_to_be_passed_over() -> None:
    assert arrange("order", [Candidate("a", is_open=True), Candidate("b")], random.random) == ("a", "b")


def test_weights_are_shares() -> None:
    shares = firsts("weighted", Candidate("a", weight=3.0), Candidate("b", weight=1.0))
    assert shares["a"] == pytest.approx(0.75, abs=TOLERANCE)


def test_without_one_target_the_others_keep_their_proportion() -> None:
    shares = firsts("weighted", Candidate("a", 6.0, is_open=True), Candidate("b", 2.0), Candidate("c", 1.0))
    assert shares["a"] == 0
    assert shares["b"] == pytest.approx(2 / 3, abs=TOLERANCE)


def test_of_two_the_less_loaded_is_first() -> None:
    busy, idle = Candidate("busy", in_flight=9, latency_s=1.0), Candidate("idle", in_flight=1, latency_s=1.0)
    assert firsts("least_loaded", busy, idle) == {"busy": 0.0, "idle": 1.0}


def test_few_calls_of_a_slow_target_weigh_as_much_as_many_of_a_fast_one() -> None:
    slow, fast = Candidate("slow", in_flight=1, latency_s=8.0), Candidate("fast", in_flight=6, latency_s=2.0)
    assert firsts("least_loaded", slow, fast)["fast"] == 1.0


def test_a_target_that_fails_fast_does_not_look_fast() -> None:
    failing = Candidate("failing", latency_s=0.4, failure_ratio=0.6)
    assert firsts("least_loaded", failing, Candidate("good", latency_s=0.9))["good"] == 1.0


def test_a_target_without_latencies_is_tried() -> None:
    shares = firsts("least_loaded", Candidate("new"), Candidate("known", in_flight=1, latency_s=0.2))
    assert shares["new"] == 1.0


def test_the_worst_of_three_is_never_first_but_each_of_the_others_is() -> None:
    shares = firsts("least_loaded", *(Candidate(str(load), in_flight=load, latency_s=1.0) for load in (1, 2, 3)))
    assert shares["3"] == 0
    assert shares["1"] == pytest.approx(2 / 3, abs=TOLERANCE)


def test_behind_the_first_the_less_loaded_come_first() -> None:
    names = arrange("least_loaded", [Candidate(n, in_flight=ord(n), latency_s=1.0) for n in "dbca"], lambda: 0.0)
    assert names[1:] == tuple(sorted(names[1:]))


@pytest.mark.parametrize("balance", ["order", "weighted", "least_loaded"])
def test_the_share_of_a_target_that_is_back_grows(balance: Balance) -> None:
    for share in (SHARE_MIN, 0.5):
        seen = firsts(balance, Candidate("back", share=share), Candidate("other", in_flight=1, weight=1e-3))
        assert seen["back"] == pytest.approx(share, abs=TOLERANCE)


def test_alone_a_target_that_is_back_is_asked() -> None:
    assert firsts("order", Candidate("back", share=SHARE_MIN)) == {"back": 1.0}


@pytest.mark.parametrize(
    ("closed_for_s", "share"), [(None, 1.0), (0.0, SHARE_MIN), (5.0, 0.5), (10.0, 1.0), (1e9, 1.0), (-1.0, SHARE_MIN)]
)
def test_slow_start(closed_for_s: float | None, share: float) -> None:
    assert slow_start_share(closed_for_s, 10.0) == share


def test_without_slow_start_a_target_is_back_at_once() -> None:
    assert slow_start_share(0.0, 0.0) == 1.0


CANDIDATES = st.builds(
    Candidate,
    name=st.uuids().map(str),
    weight=st.floats(0.001, 1_000),
    share=st.floats(SHARE_MIN, 1.0),
    is_open=st.booleans(),
    in_flight=st.integers(0, 1_000),
    latency_s=st.none() | st.floats(0.0, 1e5),
    failure_ratio=st.floats(0.0, 1.0),
)


@given(
    st.sampled_from(["order", "weighted", "least_loaded"]),
    st.lists(CANDIDATES, max_size=16, unique_by=lambda one: one.name),
    st.integers(0, 2**32),
)
def test_every_target_is_in_the_order_once(balance: Balance, candidates: list[Candidate], seed: int) -> None:
    names = arrange(balance, candidates, random.Random(seed).random)
    assert sorted(names) == sorted(one.name for one in candidates)
