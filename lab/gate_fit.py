"""Fits calibrations of gates. Pure and deterministic: the same rows give the same weights.

A ridge-penalised logistic regression per head. The penalty pulls towards priors (for all task types together: the
hand-set baseline; for one task type: the fit over all), so a signal without data keeps its prior weight and a task type
with few rows stays close to the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.executor.gates.calibration import BASELINE, DEFAULT_HEAD, Z_MAX, Calibration, Head, Logistic, Scaling
from services.executor.gates.signals import NAMES, Signals
from spillway.routing import TaskType

__all__ = ["PRODUCTS", "Rows", "as_matrix", "fit_calibration", "fit_head", "fit_scaling", "predict"]

Floats = npt.NDArray[np.float64]

RIDGE = 20.0
ITERATIONS = 12
TASK_ROWS_MIN = 200  # fewer rows of a task type get no model of their own
SEEN_MIN = 20  # a signal seen less often keeps its prior
_DIGITS = 5
PRODUCTS = (
    ("agrees_first", "agrees_second"),
    ("agrees_first", "agrees_third"),
    ("agrees_second", "agrees_third"),
    ("agrees_first", "rivals_share"),
    ("agrees_first", "log_text_chars"),
    ("agreeing_share", "agreeing_share"),
    ("agreeing_share", "log_text_chars"),
    ("agreeing_share", "log_question_chars"),
    ("agreeing_share", "question_has_tex"),
    ("agreeing_share", "question_has_code"),
    ("agreeing_share", "has_expected_form"),
    ("agreeing_share", "log_answer_chars"),
    ("log_text_chars", "log_text_chars"),
    ("log_text_chars", "log_question_chars"),
    ("log_text_chars", "question_has_tex"),
    ("log_steps", "log_text_chars"),
    ("log_sums", "sums_wrong_share"),
    ("question_has_tex", "log_question_chars"),
    ("log_answer_chars", "log_answer_chars"),
    ("log_answer_chars", "is_whole_number"),
    ("log_magnitude", "log_magnitude"),
    ("corrections", "corrections"),
    ("has_final_answer", "last_result_is_answer"),
    ("any_sum_wrong", "last_result_is_answer"),
    ("log_question_chars", "log_question_chars"),
    ("log_sums", "log_sums"),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Answers to learn from: signals [n, S] with nan for missing, outcomes, task types, weights."""

    signals: Floats
    correct: npt.NDArray[np.bool_]
    task_types: Sequence[TaskType | None]
    weights: Floats

    def __len__(self) -> int:
        return len(self.correct)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Rows:
        """The chosen rows, by mask or by number."""
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        return Rows(
            self.signals[index],
            self.correct[index],
            [self.task_types[i] for i in index.tolist()],
            self.weights[index],
        )


def as_matrix(signals: Sequence[Signals]) -> Floats:
    """One row each, nan for missing."""
    return np.asarray([[np.nan if v is None else v for v in s.values()] for s in signals], dtype=np.float64)


def fit_scaling(signals: Floats, weights: Floats) -> Scaling:
    """Weighted means and deviations of what was seen; the baseline's for what was not."""
    mean, scale = list(BASELINE.scaling.mean), list(BASELINE.scaling.scale)
    for index in range(len(NAMES)):
        seen = ~np.isnan(signals[:, index])
        if seen.sum() < SEEN_MIN:
            continue
        values, share = signals[seen, index], weights[seen] / weights[seen].sum()
        mean[index] = round(float(values @ share), _DIGITS)
        deviation = float(np.sqrt(((values - mean[index]) ** 2) @ share))
        scale[index] = round(deviation, _DIGITS) if deviation > 1e-3 else 1.0
    return Scaling(tuple(mean), tuple(scale), PRODUCTS)


def _design(signals: Floats, scaling: Scaling) -> Floats:
    """[n, S values | S missing | products | 1]."""
    missing = np.isnan(signals)
    z = np.clip((signals - np.asarray(scaling.mean)) / np.asarray(scaling.scale), -Z_MAX, Z_MAX)
    z = np.where(missing, 0.0, z)
    at = [NAMES.index(one) for one, _ in scaling.products], [NAMES.index(two) for _, two in scaling.products]
    return np.hstack([z, missing.astype(float), z[:, at[0]] * z[:, at[1]], np.ones((len(z), 1))])


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -35, 35))))


def _newton(design: Floats, target: Floats, weights: Floats, prior: Floats) -> Floats:
    """Minimises weighted log loss + RIDGE/2 |w - prior|^2 (bias almost free), by Newton's method."""
    penalty = np.full(design.shape[1], RIDGE)
    penalty[-1] = 1e-3
    found = prior.copy()
    for _ in range(ITERATIONS):
        p = _sigmoid(design @ found)
        gradient = design.T @ (weights * (p - target)) + penalty * (found - prior)
        curvature = (design * (weights * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        found = found - step
    return found


def _as_vector(model: Logistic, products: int) -> Floats:
    row = [*model.values, *model.missing, *(model.products or (0.0,) * products), model.bias]
    return np.asarray(row, dtype=np.float64)


def _as_model(vector: Floats) -> Logistic:
    size = len(NAMES)
    row = [round(float(value), _DIGITS) for value in vector]
    return Logistic(row[-1], tuple(row[:size]), tuple(row[size : 2 * size]), tuple(row[2 * size : -1]))


def fit_head(rows: Rows, scaling: Scaling) -> Head:
    """The models of one place in the ladder: one for all task types, and one for each that has enough rows."""
    design = _design(rows.signals, scaling)
    target = rows.correct.astype(np.float64)
    prior = _as_vector(BASELINE.heads[DEFAULT_HEAD].models[None], len(scaling.products))
    shared = _newton(design, target, rows.weights, prior)
    models: dict[TaskType | None, Logistic] = {None: _as_model(shared)}
    for task in sorted({t for t in rows.task_types if t is not None}):
        mine = np.asarray([t is task for t in rows.task_types])
        if mine.sum() >= TASK_ROWS_MIN and 0 < target[mine].mean() < 1 and not mine.all():
            models[task] = _as_model(_newton(design[mine], target[mine], rows.weights[mine], shared))
    return Head(models)


def fit_calibration(parts: Mapping[str, Rows], *, version: str) -> Calibration:
    """A calibration with one head for each part; there must be one for the default head, which sets the scaling."""
    default = parts[DEFAULT_HEAD]
    scaling = fit_scaling(default.signals, default.weights)
    return Calibration(version, scaling, {name: fit_head(rows, scaling) for name, rows in parts.items()})


def predict(head: Head, scaling: Scaling, rows: Rows) -> Floats:
    """The head's probabilities for many rows at once; the same numbers as `Calibration.assess` gives one by one."""
    design = _design(rows.signals, scaling)
    result = np.zeros(len(rows))
    for task in set(rows.task_types):
        mine = np.asarray([t is task for t in rows.task_types])
        model = head.models.get(task) or head.models[None]
        result[mine] = _sigmoid(design[mine] @ _as_vector(model, len(scaling.products)))
    return result
