"""P(the proposed answer is wrong) from evidence, learned while serving: a logistic regression and its recalibration.

Promises: pure and deterministic; a fit reads a bounded number of observations; a wrong probability is finite, and grows
with what the fit is unsure of. With too little evidence there is no model.

The regression ranks. Its tail, where hits are, is what it has least evidence of, and the shape there is not logistic;
so its log odds are mapped by a second fit, linear between knots, to predictions by fits that had not seen the outcome
(cross-fitting). The variance of that second fit (sandwich estimate) widens the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.neighbourhood import NAMES

__all__ = ["EVIDENCE_MIN", "Observations", "RiskModel", "fit_risk_model"]

Floats = npt.NDArray[np.float64]

EVIDENCE_MIN: Final = 150
"""Observations before anything is served."""

OUTCOMES_MIN: Final = 8
"""Of either outcome: with fewer the regression has nothing to tell apart."""

FOLDS: Final = 4
"""The recalibration reads predictions of fits that had not seen the outcome."""

KNOTS: Final = (2.0, 3.5, 5.0)
"""Log odds between which the recalibration is linear: 88, 97 and 99.3 %."""

LOG_ODDS_LEAST: Final = -4.0
LOG_ODDS_MOST: Final = 9.0
RIDGE: Final = 3.0
CALIBRATION_RIDGE: Final = 3.0
CALIBRATION_OFFSET_RIDGE: Final = 0.1
OFFSET_RIDGE: Final = 0.01
AUDIT_WEIGHT_MAX: Final = 5.0
"""An audited hit stands for the hits that were not audited, but no more than so many: beyond, variance costs more."""

_STEPS_MAX: Final = 25
_STEP_MAX: Final = 2.0
_TOLERANCE: Final = 1e-4
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Observations:
    """Evidence with its outcome: features [n, len(NAMES)], same [n] (0 or 1), weight [n] (inverse of the chance to be
    observed)."""

    features: Floats
    same: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class RiskModel:
    """A fitted model: the regression over standardised features, and the recalibration with its covariance."""

    mean: Floats
    scale: Floats
    weights: Floats
    calibration: Floats
    covariance: Floats

    def log_odds(self, features: Floats) -> float:
        """The regression's log odds that the proposed answer is right: ranks, and is recalibrated by `wrong`."""
        return float(self.weights[:-1] @ ((features - self.mean) / self.scale) + self.weights[-1])

    def wrong(self, log_odds: float, *, deviations: float = 0.0) -> float:
        """P(wrong), so many standard deviations of the recalibration towards wrong. 0 to 1."""
        row = _row(log_odds)
        deviation = math.sqrt(max(0.0, float(row @ self.covariance @ row)))
        return 1.0 / (1.0 + math.exp(min(50.0, max(-50.0, float(self.calibration @ row) - deviations * deviation))))


def _row(log_odds: float) -> Floats:
    at = min(max(log_odds, LOG_ODDS_LEAST), LOG_ODDS_MOST)
    return np.asarray((1.0, at, *(max(0.0, at - knot) for knot in KNOTS)))


def _rows(log_odds: Floats) -> Floats:
    at = np.clip(log_odds, LOG_ODDS_LEAST, LOG_ODDS_MOST)
    return np.stack([np.ones_like(at), at, *(np.maximum(0.0, at - knot) for knot in KNOTS)], axis=1)


def fit_risk_model(found: Observations) -> RiskModel | None:
    """A model, or None while there is too little evidence. About 10 ms for 6,000 observations."""
    count, right = len(found.same), int(found.same.sum())
    if count < EVIDENCE_MIN or min(right, count - right) < OUTCOMES_MIN:
        return None
    mean, scale = found.features.mean(axis=0), found.features.std(axis=0) + 1e-6
    rows = np.concatenate([(found.features - mean) / scale, np.ones((count, 1))], axis=1)
    weight = np.minimum(found.weight, AUDIT_WEIGHT_MAX)
    ridge = np.full(len(NAMES) + 1, RIDGE)
    ridge[-1] = OFFSET_RIDGE
    start = np.zeros(len(ridge))
    weights, _ = _logistic(rows, found.same, weight, ridge, start)
    predicted = np.zeros(count)
    fold = np.arange(count) % FOLDS
    for index in range(FOLDS):
        held = fold == index
        predicted[held] = rows[held] @ _logistic(rows[~held], found.same[~held], weight[~held], ridge, start)[0]
    identity = np.asarray((0.0, 1.0, *(0.0 for _ in KNOTS)))
    ridge = np.full(len(identity), CALIBRATION_RIDGE)
    ridge[0] = CALIBRATION_OFFSET_RIDGE
    rows = _rows(predicted)
    calibration, hessian = _logistic(rows, found.same, weight, ridge, identity)
    residual = weight * (_sigmoid(rows @ calibration) - found.same)
    inverse = np.linalg.inv(hessian)
    covariance = inverse @ ((rows * (residual**2)[:, None]).T @ rows + np.diag(ridge)) @ inverse
    return RiskModel(mean, scale, weights, calibration, covariance)


def _sigmoid(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0))))


def _logistic(rows: Floats, same: Floats, weight: Floats, ridge: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Penalised maximum likelihood by Newton's method, and the Hessian there. `ridge` draws towards `prior`."""
    found = prior.copy()
    hessian = np.diag(ridge)
    for _ in range(_STEPS_MAX):
        p = _sigmoid(rows @ found)
        hessian = (rows * (weight * p * (1.0 - p) + _TINY)[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(hessian, rows.T @ (weight * (p - same)) + ridge * (found - prior))
        found -= np.clip(step, -_STEP_MAX, _STEP_MAX)
        if float(np.abs(step).max()) < _TOLERANCE:
            break
    return found, hessian
