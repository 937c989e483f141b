"""Figures of merit for probabilities: accuracy, log loss, expected calibration error, and their intervals. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "accuracy", "bootstrap", "expected_calibration_error", "log_loss"]

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

CALIBRATION_BINS = 10
BOOTSTRAP_ROUNDS = 2_000


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
