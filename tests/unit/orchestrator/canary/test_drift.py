"""The sequential test: against a dumb one, at its edges, and in short trials on made-up grades."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.canary_trial import first_alarms
from services.orchestrator.canary.drift import (
    BLOCK_GRADES,
    BLOCKS_KEPT,
    OVERALL,
    STAKES,
    STREAMS,
    UNITS,
    Tally,
    Watch,
    estimate,
    evidence,
    evidence_min,
)
from spillway.routing import TaskType


def tally_of(drops: list[int]) -> Tally:
    tally = Tally()
    for drop in drops:
        tally = tally.add(drop)
    return tally


def drawn(random: Random, count: int, *, worse: float, better: float) -> list[int]:
    return random.choices([UNITS, -UNITS, 0], [worse, better, 1 - worse - better], k=count)


def dumb_evidence(drops: list[int], drop_max: float) -> float:
    """Every bet from its own beginning, grade by grade."""
    last = (len(drops) - 1) // BLOCK_GRADES
    money = 0.5 / (last + 1)
    for start in range(last + 1):
        if 0 < start <= last - BLOCKS_KEPT:
            continue
        placed = 0.5 / (start * (start + 1)) if start else 0.5
        for stake in STAKES:
            won = placed / len(STAKES)
            for drop in drops[start * BLOCK_GRADES :]:
                won *= 1 + stake / (1 + drop_max) * (drop / UNITS - drop_max)
            money += won
    return math.log(money)


@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, 1), (2, BLOCK_GRADES), (3, BLOCK_GRADES + 1), (4, 1_700), (5, BLOCK_GRADES * BLOCKS_KEPT + 700)],
)
def test_the_evidence_is_that_of_every_bet_followed_on_its_own(seed: int, count: int) -> None:
    drops = drawn(Random(seed), count, worse=0.08, better=0.04)
    tally = tally_of(drops)
    assert tally.grades == count
    assert len(tally.blocks) <= BLOCKS_KEPT
    assert evidence(tally, 0.03) == pytest.approx(dumb_evidence(drops, 0.03), abs=1e-6)


@settings(max_examples=60)
@given(st.lists(st.integers(-UNITS, UNITS), min_size=1, max_size=60), st.floats(0, 1), st.integers(-UNITS, UNITS - 1))
def test_a_worse_grade_is_never_less_evidence(drops: list[int], drop_max: float, last: int) -> None:
    less, more = tally_of([*drops, last]), tally_of([*drops, last + 1])
    assert evidence(more, drop_max) >= evidence(less, drop_max) - 1e-9


@settings(max_examples=60)
@given(st.lists(st.integers(-UNITS, UNITS), min_size=1, max_size=80))
def test_an_interval_holds_its_mean_and_is_mirrored_with_the_drops(drops: list[int]) -> None:
    one, other = estimate(tally_of(drops)), estimate(tally_of([-drop for drop in drops]))
    assert -1 <= one.low <= one.mean <= one.high <= 1
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-6)


def test_without_grades_nothing_is_known() -> None:
    assert evidence(Tally(), 0.03) == 0
    assert (estimate(Tally()).low, estimate(Tally()).high) == (-1, 1)


def test_no_grade_below_the_limit_raises_anything() -> None:
    tally = tally_of([0] * 3_000)
    assert evidence(tally, 0.03) < 0
    assert evidence(tally_of([-UNITS] * 300), 0.0) < 0


@pytest.mark.parametrize("drop", [UNITS + 1, -UNITS - 1])
def test_a_drop_that_cannot_be_is_refused(drop: int) -> None:
    with pytest.raises(ValueError, match="between"):
        Tally().add(drop)


def test_the_chance_of_a_false_alarm_is_shared_by_all_tests() -> None:
    shares = [math.exp(-evidence_min(stream, 0.05)) for stream in STREAMS]
    assert sum(shares) == pytest.approx(0.05)
    assert set(STREAMS) == {OVERALL, *(each.value for each in TaskType)}
    assert not Watch(0.03, 0.0).is_alarm(OVERALL, tally_of([UNITS] * 1_000))


def test_a_long_good_time_does_not_hide_a_drop() -> None:
    random = Random(5)
    watch = Watch(0.03, 0.05)
    tally = tally_of(drawn(random, 5_000, worse=0.02, better=0.02))
    assert not watch.is_alarm(OVERALL, tally)
    bad = drawn(random, 600, worse=0.15, better=0.02)
    after = next(n for n in range(25, 601, 25) if watch.is_alarm(OVERALL, tally_of_more(tally, bad[:n])))
    # By the mean over all of it, nothing has happened.
    assert estimate(tally_of_more(tally, bad[:after])).mean < 0.03


def tally_of_more(tally: Tally, drops: list[int]) -> Tally:
    for drop in drops:
        tally = tally.add(drop)
    return tally


def test_the_trial_tests_as_the_orchestrator_does() -> None:
    random, enough = Random(11), evidence_min(OVERALL, 0.05)
    streams = [drawn(random, 900, worse=worse, better=0.03) for worse in (0.03, 0.1, 0.15, 0.3)]
    found = first_alarms(np.array(streams), np.array([900, 900, 900, 700]), 0.03, enough)
    for drops, first in zip(streams, found, strict=True):
        tally, expected = Tally(), 0
        for grade, drop in enumerate(drops, 1):
            tally = tally.add(drop)
            if evidence(tally, 0.03) >= enough:
                expected = grade
                break
        assert first == expected
    assert (found[0], found[3] > 0) == (0, True)


def test_at_the_limit_alarms_are_rarer_than_allowed_and_beyond_it_they_come() -> None:
    """400 streams of 3,000 grades; the bound of the first is 20 % and the count's deviation 8."""
    random = np.random.default_rng(3)
    enough, lengths = evidence_min(OVERALL, 0.4), np.full(400, 3_000)

    def streams(worse: float, better: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return UNITS * random.choice([1, -1, 0], size=(400, 3_000), p=[worse, better, 1 - worse - better])

    assert (first_alarms(streams(0.05, 0.02), lengths, 0.03, enough) > 0).sum() <= 80 + 3 * 8
    assert (first_alarms(streams(0.02, 0.02), lengths, 0.03, enough) > 0).sum() <= 8
    planted = first_alarms(streams(0.12, 0.02), lengths, 0.03, enough)
    assert (planted > 0).all()
    assert np.median(planted) < 500


def test_an_interval_holds_the_true_mean_at_all_times() -> None:
    random = Random(17)
    outside = 0
    for _ in range(60):
        drops, tally = drawn(random, 400, worse=0.15, better=0.05), Tally()
        for grade, drop in enumerate(drops, 1):
            tally = tally.add(drop)
            if grade % 20 == 0:
                found = estimate(tally, confidence=0.8)
                if not found.low <= 0.1 <= found.high:
                    outside += 1
                    break
    assert outside <= 12 + 9  # a fifth of 60, and three deviations
