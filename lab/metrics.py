"""Figures of merit, with their intervals. Pure.

Of class probabilities: accuracy, log loss, expected calibration error. Of a score for a yes-or-no outcome: AUROC, ECE.
Of a router between a weak and a strong model: APGR and CPT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Interval",
    "accuracy",
    "apgr",
    "auroc",
    "binary_calibration_error",
    "bootstrap",
    "bootstrap_rows",
    "cpt",
    "expected_calibration_error",
    "log_loss",
    "recovered_gap",
]

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
# Right or wrong, or a grade from 0 to 1.
Outcomes = npt.NDArray[np.bool_] | npt.NDArray[np.float64]

CALIBRATION_BINS = 10
BOOTSTRAP_ROUNDS = 2_000
APGR_STEPS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of rows whose most probable class is the right one, 0 to 1."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean negative log-likelihood, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def expected_calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Top-label ECE over equal-width bins (Guo et al. 2017): the mean gap of confidence and accuracy, 0 to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    error = 0.0
    for index in range(CALIBRATION_BINS):
        inside = bins == index
        if inside.any():
            error += float(inside.mean()) * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return error


def bootstrap(
    figure: Callable[[Probabilities, Labels], float], probabilities: Probabilities, labels: Labels, *, seed: int
) -> Interval:
    """The figure with its percentile bootstrap interval over rows."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(labels), size=(BOOTSTRAP_ROUNDS, len(labels)))
    values = [figure(probabilities[row], labels[row]) for row in rows]
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(figure(probabilities, labels), float(low), float(high))


def bootstrap_rows(
    figure: Callable[[npt.NDArray[np.int64]], float], count: int, *, seed: int, rounds: int = BOOTSTRAP_ROUNDS
) -> Interval:
    """A figure of chosen rows out of `count`, with its percentile bootstrap interval; nan when it has no value."""
    generator = np.random.default_rng(seed)
    values = [figure(generator.integers(0, count, size=count)) for _ in range(rounds)]
    known = [value for value in values if not np.isnan(value)]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (np.nan, np.nan)
    return Interval(figure(np.arange(count)), float(low), float(high))


def auroc(scores: npt.NDArray[np.float64], outcomes: npt.NDArray[np.bool_]) -> float:
    """P(a right one scores above a wrong one), ties counted half; nan unless there are both."""
    right = int(outcomes.sum())
    wrong = len(outcomes) - right
    if not right or not wrong:
        return float("nan")
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[where]
    return float((ranks[outcomes].sum() - right * (right + 1) / 2.0) / (right * wrong))


def binary_calibration_error(probabilities: npt.NDArray[np.float64], outcomes: Outcomes) -> float:
    """ECE of P(right) over equal-width bins, 0 to 1."""
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total = np.bincount(bins, minlength=CALIBRATION_BINS)
    said = np.bincount(bins, weights=probabilities, minlength=CALIBRATION_BINS)
    was = np.bincount(bins, weights=outcomes.astype(float), minlength=CALIBRATION_BINS)
    return float(np.abs(said - was)[total > 0].sum() / len(outcomes))


def recovered_gap(need: npt.NDArray[np.float64], weak: Outcomes, strong: Outcomes) -> npt.NDArray[np.float64]:
    """The share of the gap between weak and strong that is recovered when the strong model answers the 0, 1, ..., n
    prompts of greatest `need`. Prompts of equal need are taken in random order, in expectation."""
    gain = strong.astype(float) - weak.astype(float)
    _, where, counts = np.unique(-need, return_inverse=True, return_counts=True)
    mean = np.bincount(where, weights=gain) / counts
    curve = np.concatenate([[0.0], np.cumsum(mean[np.sort(where)])])
    total = float(gain.sum())
    return curve / total if total else np.full(len(curve), np.nan)


def apgr(need: npt.NDArray[np.float64], weak: Outcomes, strong: Outcomes) -> float:
    """Average performance gap recovered (Ong et al. 2024, RouteLLM): the area under `recovered_gap` over shares of
    strong calls from 0 to 100 % in ten steps, by the trapezoid rule. Random order has 0.5."""
    curve = recovered_gap(need, weak, strong)
    at = np.interp(np.linspace(0, len(need), APGR_STEPS + 1), np.arange(len(curve)), curve)
    return float((at[:-1] + at[1:]).mean() / 2.0)


def cpt(need: npt.NDArray[np.float64], weak: Outcomes, strong: Outcomes, share: float) -> float:
    """Call-performance threshold: the least percentage of strong calls that recovers `share` of the gap."""
    curve = recovered_gap(need, weak, strong)
    reached = np.flatnonzero(curve >= share - 1e-12)
    return float(100.0 * reached[0] / len(need)) if len(reached) else float("nan")
