"""The interval of the measured wrong answers."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.matching.measured_wrong import measured_wrong


@pytest.mark.parametrize(("wrong", "foretold"), [(0.0, 0.0), (0.0, 5.0), (3.0, 3.0), (20.0, 4.0), (300.0, 310.0)])
def test_the_interval_is_finite_around_its_middle_and_never_below_nothing(wrong: float, foretold: float) -> None:
    middle, low, high = measured_wrong(50.0, wrong=wrong, foretold=foretold)
    assert 0.0 <= low <= middle <= high < 1_000.0


def test_audits_move_the_measured_wrong_ones_and_many_of_them_narrow_the_interval() -> None:
    few, many, worse = (
        measured_wrong(1_000.0, wrong=wrong, foretold=foretold)
        for wrong, foretold in ((2.0, 2.0), (200.0, 200.0), (40.0, 10.0))
    )
    assert few[2] - few[1] > 3.0 * (many[2] - many[1])
    assert many[0] == pytest.approx(1_000.0)
    assert worse[1] > 2.0 * many[0]


def test_where_audits_told_all_what_is_left_is_the_chance_of_the_answers_that_were_served() -> None:
    _, low, high = measured_wrong(50.0, wrong=1e6, foretold=1e6)
    assert 2 * 1.9 * 50**0.5 < high - low < 2 * 2.1 * 50**0.5


def test_the_interval_holds_the_truth_however_far_booking_is_off_by_chance() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        ratio = rng.gamma(4.0, 0.25)  # how many times what was foretold there is: half to twice, mostly
        audited = rng.poisson(3.0 * ratio)
        _, low, high = measured_wrong(50.0, wrong=float(audited), foretold=3.0)
        held += low <= rng.poisson(50.0 * ratio) <= high
    assert held >= 0.95 * 400
