"""P(the proposed answer is wrong) from evidence, learned while serving: a logistic regression and its recalibration.

Promises: pure and deterministic; a fit reads a bounded number of observations; a wrong probability is finite and above
0. With too little evidence there is no model.

The regression ranks, best among what is likely right. What its log odds are worth is read off predictions by fits that
had not seen the outcome (cross-fitting): around each value, the wrong answers that were seen over those that were
foretold. A prior of PRIOR wrong answers, as many as foretold, keeps the ratio near one where little was seen, and FLOOR
stands for wrong answers that no evidence foretells. What guards refuse is ranked with the rest, but is not among what
is counted. Newer observations count for more: while a cache fills, what a proposal of a given look is worth rises (at
first the right answer is often not stored at all), and old evidence would book it too dear for ever.

All outcomes are of one worth, an audited hit's as a miss's. Whether a proposal is served, and how likely it is audited,
follows from its features, and P(wrong) is asked for given the features: so what was observed is no biased sample of it.
An audited hit that stood for all that were not audited made three wrong ones by chance a wrong model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["EVIDENCE_MIN", "LOG_ODDS", "Observations", "RiskModel", "fit_risk_model"]

Floats = npt.NDArray[np.float64]

EVIDENCE_MIN: Final = 150
"""Observations before anything is served."""

OUTCOMES_MIN: Final = 8
"""Of either outcome: with fewer the regression has nothing to tell apart."""

FOLDS: Final = 4
"""The recalibration reads predictions of fits that had not seen the outcome."""

LOG_ODDS: Final = np.arange(-4.0, 7.51, 0.25)
"""Where the recalibration is computed; linear between, constant beyond."""

_LOG_ODDS: Final[tuple[float, ...]] = tuple(LOG_ODDS.tolist())

FLOOR: Final = 0.001
PRIOR: Final = 2.0
WIDTH: Final = 0.75
"""Standard deviation, in log odds, of the neighbourhood whose outcomes count."""

REGRESSION_RECENCY: Final = 1.0
RECALIBRATION_RECENCY: Final = 2.0
"""Powers of an observation's place among the kept ones, 0 the oldest to 1 the newest: its weight. No time scale."""

RIDGE: Final = 5.0
OFFSET_RIDGE: Final = 0.01
FOCUS: Final = 2.0
FOCUS_LEAST: Final = 0.02
"""In the second of two fits an observation counts for P(right) by the first one to that power, P at least so much."""

_STEPS_MAX: Final = 25
_STEP_MAX: Final = 2.0
_TOLERANCE: Final = 1e-4
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Observations:
    """Evidence with its outcome, the oldest first: features [n, len(NAMES)], same [n] (0 or 1), refused [n] (0 or 1: a
    guard would not have let it be served)."""

    features: Floats
    same: Floats
    refused: Floats


@dataclass(frozen=True, slots=True)
class RiskModel:
    """A fitted model: the regression over standardised features; P(wrong) at LOG_ODDS, falling."""

    mean: Floats
    scale: Floats
    weights: Floats
    recalibrated: Sequence[float]

    def log_odds(self, features: Floats) -> float:
        """The regression's log odds that the proposed answer is right: ranks, and is recalibrated by `wrong`."""
        return float(self.weights[:-1] @ ((features - self.mean) / self.scale) + self.weights[-1])

    def wrong(self, log_odds: float) -> float:
        """P(wrong): 0 to 1, falling in log odds; for what is no number the highest. To the bit what `np.interp` gives,
        in an eighth of its time: it is asked several times a lookup."""
        at, wrong = _LOG_ODDS, self.recalibrated
        if not log_odds > at[0]:
            return min(1.0, wrong[0])
        if log_odds >= at[-1]:
            return min(1.0, wrong[-1])
        place = bisect_right(at, log_odds) - 1
        slope = (wrong[place + 1] - wrong[place]) / (at[place + 1] - at[place])
        return min(1.0, slope * (log_odds - at[place]) + wrong[place])


def fit_risk_model(found: Observations) -> RiskModel | None:
    """A model, or None while there is too little evidence. About 10 ms for 6,000 observations."""
    count, right = len(found.same), int(found.same.sum())
    if count < EVIDENCE_MIN or min(right, count - right) < OUTCOMES_MIN:
        return None
    mean, scale = found.features.mean(axis=0), found.features.std(axis=0) + 1e-6
    rows = np.concatenate([(found.features - mean) / scale, np.ones((count, 1))], axis=1)
    weight = _recency(count, REGRESSION_RECENCY)
    weights = _regression(rows, found.same, weight)
    predicted = np.zeros(count)
    fold = np.arange(count) % FOLDS
    for index in range(FOLDS):
        held = fold == index
        predicted[held] = rows[held] @ _regression(rows[~held], found.same[~held], weight[~held])
    weight = _recency(count, RECALIBRATION_RECENCY) * (1.0 - found.refused)
    wrong = _recalibration(predicted, 1.0 - found.same, weight)
    return RiskModel(mean, scale, weights, np.maximum.accumulate(wrong[::-1])[::-1].tolist())


def _recency(count: int, power: float) -> Floats:
    """Of mean about 1."""
    return np.asarray((1.0 + power) * ((np.arange(count) + 1.0) / count) ** power)


def _recalibration(predicted: Floats, wrong: Floats, weight: Floats) -> Floats:
    at = np.clip(predicted, LOG_ODDS[0], LOG_ODDS[-1])
    near = np.exp(-0.5 * ((LOG_ODDS[:, None] - at[None, :]) / WIDTH) ** 2) * weight[None, :]
    seen, foretold = near @ wrong, near @ _foretold(at)
    return np.asarray(np.minimum(1.0, _foretold(LOG_ODDS) * (PRIOR + seen) / (PRIOR + foretold)))


def _foretold(log_odds: Floats) -> Floats:
    return np.asarray(FLOOR + (1.0 - FLOOR) * _sigmoid(-log_odds))


def _sigmoid(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0))))


def _regression(rows: Floats, same: Floats, weight: Floats) -> Floats:
    """Fitted twice: the second time what the first took for right counts for most, as only that is ever served."""
    ridge = np.full(rows.shape[1], RIDGE)
    ridge[-1] = OFFSET_RIDGE
    first = _logistic(rows, same, weight, ridge)
    return _logistic(rows, same, weight * np.maximum(_sigmoid(rows @ first), FOCUS_LEAST) ** FOCUS, ridge)


def _logistic(rows: Floats, same: Floats, weight: Floats, ridge: Floats) -> Floats:
    """Penalised maximum likelihood by Newton's method."""
    found = np.zeros(len(ridge))
    for _ in range(_STEPS_MAX):
        p = _sigmoid(rows @ found)
        hessian = (rows * (weight * p * (1.0 - p) + _TINY)[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(hessian, rows.T @ (weight * (p - same)) + ridge * found)
        found -= np.clip(step, -_STEP_MAX, _STEP_MAX)
        if float(np.abs(step).max()) < _TOLERANCE:
            break
    return found
