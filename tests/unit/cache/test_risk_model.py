"""The model of what is wrong, fitted to made-up evidence."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_model import LOG_ODDS, Observations, RiskModel, fit_risk_model


def test_one_outcome_alone_is_no_evidence() -> None:
    rows = np.random.default_rng(1).normal(size=(500, len(NAMES)))
    assert fit_risk_model(Observations(rows, np.ones(500), np.zeros(500))) is None


def observations(clarity: np.ndarray, same: np.ndarray, refused: np.ndarray | None = None) -> Observations:
    rows = np.repeat(clarity[:, None], len(NAMES), axis=1)
    return Observations(rows, same, np.zeros(len(same)) if refused is None else refused)


def test_what_guards_refuse_does_not_make_dearer_what_they_let_pass() -> None:
    rng = np.random.default_rng(3)
    clarity = rng.normal(2.0, 2.0, 2_000)
    refused = (rng.random(2_000) < 0.3).astype(float)
    same = (rng.random(2_000) < 1 / (1 + np.exp(-clarity))).astype(float) * (1.0 - refused)
    told = fit_risk_model(observations(clarity, same, refused))
    untold = fit_risk_model(observations(clarity, same))
    assert told is not None
    assert untold is not None
    at = np.full(len(NAMES), 2.0)
    assert untold.wrong(untold.log_odds(at)) > 0.3
    assert told.wrong(told.log_odds(at)) < 0.25  # the truth is 0.12


def test_while_a_cache_fills_newer_evidence_counts_for_more() -> None:
    rng = np.random.default_rng(4)
    clarity = rng.normal(2.0, 2.0, 3_000)
    missing = rng.random(3_000) < np.linspace(0.8, 0.0, 3_000)  # the right answer is not stored yet
    same = (rng.random(3_000) < 1 / (1 + np.exp(-clarity))).astype(float) * (1.0 - missing)
    model = fit_risk_model(observations(clarity, same))
    assert model is not None
    at = np.full(len(NAMES), 4.0)
    assert model.wrong(model.log_odds(at)) < 0.7 * float(1.0 - same[np.abs(clarity - 4.0) < 0.5].mean())


def test_wrong_answers_that_nothing_foretells_are_booked_all_the_same() -> None:
    rng = np.random.default_rng(5)
    clarity = np.concatenate([rng.normal(-3.0, 1.0, 1_000), rng.normal(9.0, 1.0, 1_000)])
    same = (clarity > 3.0).astype(float)
    model = fit_risk_model(observations(clarity, same))
    assert model is not None
    assert model.wrong(model.log_odds(np.full(len(NAMES), 12.0))) > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_what_is_likely_right_is_ranked_by_what_tells_there_though_elsewhere_it_tells_the_contrary(seed: int) -> None:
    rng, count = np.random.default_rng(seed), 3_000
    near = rng.random(count) < 0.4
    sign = rng.normal(0.0, 1.0, count)
    odds = np.where(near, 2.0 + 2.0 * sign, -2.5 - 2.0 * sign)
    same = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(float)
    rows = np.zeros((count, len(NAMES)))
    rows[:, 0], rows[:, 1] = np.where(near, 3.0, -3.0) + rng.normal(0.0, 0.5, count), sign
    model = fit_risk_model(Observations(rows, same, np.zeros(count)))
    assert model is not None

    def odds_at(sign: float) -> float:
        return model.log_odds(np.asarray([3.0, sign, *np.zeros(len(NAMES) - 2)]))

    assert odds_at(1.0) > odds_at(-1.0) + 2.0  # the truth is 4; counted all alike it is below 0


def test_what_is_likelier_right_is_booked_cheaper() -> None:
    rng = np.random.default_rng(2)
    clarity = rng.normal(2.0, 2.0, 2_000)
    same = (rng.random(2_000) < 1 / (1 + np.exp(-clarity))).astype(float)
    model = fit_risk_model(Observations(np.repeat(clarity[:, None], len(NAMES), axis=1), same, np.zeros(2_000)))
    assert model is not None
    wrong = [model.wrong(model.log_odds(np.full(len(NAMES), c))) for c in (-2.0, 0.0, 2.0, 4.0)]
    assert wrong == sorted(wrong, reverse=True)
    assert abs(wrong[1] - 0.5) < 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_log_odds_are_worth_is_read_between_the_known_ones_as_numpy_reads_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.random(len(LOG_ODDS)))[::-1]
    model = RiskModel(np.zeros(1), np.ones(1), np.zeros(2), wrong.tolist())
    asked = [*rng.normal(2.0, 5.0, 500).tolist(), *LOG_ODDS.tolist(), -np.inf, np.inf]
    assert [model.wrong(each) for each in asked] == np.interp(asked, LOG_ODDS, wrong).tolist()
    assert model.wrong(np.nan) == wrong[0]


def test_a_fitted_model_never_holds_the_likelier_right_for_the_likelier_wrong() -> None:
    rng = np.random.default_rng(4)
    clarity = rng.normal(1.0, 2.0, 600)
    same = (rng.random(600) < 0.5 + 0.45 * np.sin(3.0 * clarity)).astype(float)
    model = fit_risk_model(Observations(np.outer(clarity, np.ones(3)), same, np.zeros(600)))
    assert model is not None
    assert list(model.recalibrated) == sorted(model.recalibrated, reverse=True)
