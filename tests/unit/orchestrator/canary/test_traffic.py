"""Label drift, shares and their states."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.canary.traffic import (
    LEAST,
    OVERALL_TIER,
    LabelWindow,
    ShareWindow,
    State,
    band_of,
    drift_state,
    psi,
    tiers_left,
)
from spillway.routing import Attempt, AttemptOutcome, AttemptPurpose

COUNTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=12)


def test_the_index_is_the_published_one() -> None:
    # Shares 0.2, 0.3, 0.5 and 0.3, 0.3, 0.4 of very many.
    expected = 0.1 * math.log(0.3 / 0.2) - 0.1 * math.log(0.4 / 0.5)
    assert psi((20_000_000, 30_000_000, 50_000_000), (3_000_000, 3_000_000, 4_000_000)) == pytest.approx(expected, 1e-5)


@settings(max_examples=100)
@given(st.data(), COUNTS)
def test_the_index_is_never_negative_and_the_same_both_ways(data: st.DataObject, one: list[int]) -> None:
    other = data.draw(st.lists(st.integers(0, 10_000), min_size=len(one), max_size=len(one)))
    assert psi(one, other) >= -1e-12
    assert psi(one, other) == pytest.approx(psi(other, one))
    assert psi(one, one) == 0


def test_the_same_traffic_is_healthy_and_other_traffic_is_an_alarm() -> None:
    random, window = Random(7), LabelWindow("abcdefghijkl")
    for _ in range(3_000):
        window.add(random.choice("abcdefghijkl"))
    before = window.drift()
    for _ in range(1_000):
        window.add("a")
    after = window.drift()
    assert before is not None
    assert after is not None
    assert (drift_state(before), drift_state(after)) == (State.HEALTHY, State.ALARM)


@pytest.mark.parametrize(
    ("value", "state"), [(0, State.HEALTHY), (0.099, State.HEALTHY), (0.1, State.WATCH), (0.25, State.ALARM)]
)
def test_an_index_is_read_as_usual(value: float, state: State) -> None:
    assert drift_state(value) is state


def test_few_labels_say_nothing_and_unknown_ones_do_not_count() -> None:
    window = LabelWindow("ab", newest_max=LEAST, reference_max=LEAST)
    for _ in range(2 * LEAST - 1):
        window.add("a")
        window.add("z")
    assert window.drift() is None
    window.add("a")
    assert window.drift() == 0


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), max_size=120))
def test_windows_slide_by_counts_and_forget(labels: list[str]) -> None:
    window = LabelWindow("abc", newest_max=10, reference_max=30)
    for label in labels:
        window.add(label)
    newest, reference = labels[-10:], labels[-40:-10]
    assert window._newest_counts == [newest.count(each) for each in "abc"]
    assert window._reference_counts == [reference.count(each) for each in "abc"]


def test_a_share_is_of_the_newest_and_unknown_while_they_are_few() -> None:
    window = ShareWindow(newest_max=1_000)
    for _ in range(LEAST - 1):
        window.add(True)
    assert window.share() is None
    for _ in range(800):
        window.add(False)
    assert window.share() == 0.2


@pytest.mark.parametrize(
    ("tier", "share", "state"),
    [
        ("medium", 0.0, State.HEALTHY),
        ("medium", 0.15, State.HEALTHY),
        ("medium", 0.16, State.WATCH),
        ("medium", 0.30, State.ALARM),
        (OVERALL_TIER, 0.10, State.HEALTHY),
        ("simple", 0.01, State.WATCH),
        ("simple", 0.02, State.HEALTHY),
        ("simple", 0.10, State.HEALTHY),
        ("simple", 0.11, State.WATCH),
        ("simple", 0.30, State.ALARM),
    ],
)
def test_escalation_shares_have_their_bands(tier: str, share: float, state: State) -> None:
    assert band_of(tier).state(share) is state


def attempt(tier: str, outcome: AttemptOutcome, purpose: AttemptPurpose = AttemptPurpose.ANSWER) -> Attempt:
    return Attempt(tier, f"{tier}-1", "m", "lab", outcome, purpose=purpose)


A, R, E = AttemptOutcome.ACCEPTED, AttemptOutcome.REJECTED, AttemptOutcome.ERROR
S, C = AttemptOutcome.SKIPPED, AttemptOutcome.CANCELLED


@pytest.mark.parametrize(
    ("attempts", "left"),
    [
        ([("simple", A)], [("simple", False)]),
        ([("simple", R), ("medium", A)], [("simple", True), ("medium", False)]),
        ([("simple", R), ("simple", A)], [("simple", False)]),
        ([("simple", E), ("medium", A)], [("medium", False)]),
        ([("simple", R), ("medium", E)], [("simple", True)]),
        ([("simple", A), ("medium", C)], [("simple", False)]),
        ([("simple", R), ("medium", S)], [("simple", False)]),
        ([("simple", R), ("medium", R), ("complex", R)], [("simple", True), ("medium", True), ("complex", False)]),
        ([], []),
    ],
)
def test_a_tier_is_left_when_none_of_its_answers_was_accepted_and_another_was_asked(
    attempts: list[tuple[str, AttemptOutcome]], left: list[tuple[str, bool]]
) -> None:
    assert list(tiers_left([attempt(*each) for each in attempts])) == left


def test_second_opinions_leave_no_tier() -> None:
    asked = [attempt("simple", R), attempt("medium", A, AttemptPurpose.SECOND_OPINION)]
    assert tiers_left(asked) == (("simple", False),)
