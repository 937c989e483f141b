"""Figures of merit against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.metrics import apgr, auroc, binary_calibration_error, bootstrap_rows, cpt, recovered_gap

WEAK = np.array([False, True, False, True])
STRONG = np.array([True, True, True, True])


def test_auroc_counts_pairs_and_halves_ties() -> None:
    outcomes = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.4, 0.5, 0.1]), outcomes) == 0.75
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), outcomes) == 0.5
    assert auroc(np.array([0.9, 0.5, 0.5, 0.1]), outcomes) == 0.875
    assert math.isnan(auroc(np.array([0.1, 0.2]), np.array([True, True])))


def test_calibration_error_is_the_mean_gap_over_bins() -> None:
    p = np.array([0.95, 0.95, 0.15, 0.15])
    assert binary_calibration_error(p, np.array([True, True, False, False])) == pytest.approx(0.1)
    assert binary_calibration_error(p, np.array([True, False, False, False])) == pytest.approx(0.3)
    assert binary_calibration_error(np.array([1.0]), np.array([True])) == 0


def test_the_recovered_gap_follows_the_order_of_need() -> None:
    need = np.array([4.0, 3.0, 2.0, 1.0])
    assert recovered_gap(need, WEAK, STRONG).tolist() == [0, 0.5, 0.5, 1, 1]
    assert recovered_gap(-need, WEAK, STRONG).tolist() == [0, 0, 0.5, 0.5, 1]


def test_apgr_is_the_area_in_ten_steps() -> None:
    # The curve 0, .5, .5, 1, 1 at eleven points: 0 .2 .4 .5 .5 .5 .7 .9 1 1 1.
    assert apgr(np.array([4.0, 3.0, 2.0, 1.0]), WEAK, STRONG) == pytest.approx(0.62)


def test_equal_need_is_random_order_and_half_the_area() -> None:
    assert recovered_gap(np.zeros(4), WEAK, STRONG).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert apgr(np.zeros(4), WEAK, STRONG) == pytest.approx(0.5)


def test_a_strong_model_that_is_worse_somewhere_lowers_the_curve() -> None:
    weak, strong = np.array([False, True, False]), np.array([True, False, True])
    assert recovered_gap(np.array([3.0, 2.0, 1.0]), weak, strong).tolist() == [0, 1, 0, 1]


def test_cpt_is_the_least_share_of_calls_that_recovers_the_gap() -> None:
    need = np.array([4.0, 3.0, 2.0, 1.0])
    assert cpt(need, WEAK, STRONG, 0.5) == 25
    assert cpt(need, WEAK, STRONG, 0.8) == 75
    assert math.isnan(cpt(need, STRONG, STRONG, 0.5))


def test_an_interval_holds_its_figure_and_is_the_same_for_the_same_seed() -> None:
    values = np.arange(100.0)
    found = bootstrap_rows(lambda rows: float(values[rows].mean()), 100, seed=3, rounds=200)
    assert found.low < found.value == 49.5 < found.high
    assert found == bootstrap_rows(lambda rows: float(values[rows].mean()), 100, seed=3, rounds=200)
