"""Gradient-boosted stumps for yes-or-no outcomes, to see what a gate beyond the logistic one could reach. Lab only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Stumps", "fit_stumps"]

Floats = npt.NDArray[np.float64]

ROUNDS = 150
RATE = 0.15
CUTS = 12
DAMPING = 8.0  # added to every leaf's curvature


@dataclass(frozen=True, slots=True)
class Stumps:
    """A sum of steps: (column, cut, value above, value at or below)."""

    bias: float
    steps: tuple[tuple[int, float, float, float], ...]

    def log_odds(self, values: Floats) -> Floats:
        """One number for each row."""
        found = np.full(len(values), self.bias)
        for column, cut, above, below in self.steps:
            found += np.where(values[:, column] > cut, above, below)
        return found


def fit_stumps(values: Floats, outcomes: npt.NDArray[np.bool_]) -> Stumps:
    """Newton boosting of the log loss, one step function a round; deterministic."""
    cuts = np.quantile(values, np.linspace(0.05, 0.95, CUTS), axis=0).T
    is_above = (values[:, :, None] > cuts[None]).reshape(len(values), -1).astype(np.float64)
    bias = float(np.log(outcomes.mean() / (1 - outcomes.mean())))
    now = np.full(len(values), bias)
    steps = []
    for _ in range(ROUNDS):
        p = 1.0 / (1.0 + np.exp(-now))
        gradient, curvature = outcomes - p, p * (1 - p)
        above, weight = is_above.T @ gradient, is_above.T @ curvature
        below, rest = gradient.sum() - above, curvature.sum() - weight
        best = int(np.argmax(above**2 / (weight + DAMPING) + below**2 / (rest + DAMPING)))
        up = RATE * float(above[best] / (weight[best] + DAMPING))
        down = RATE * float(below[best] / (rest[best] + DAMPING))
        now = now + np.where(is_above[:, best] > 0, up, down)
        steps.append((best // CUTS, float(cuts[best // CUTS, best % CUTS]), up, down))
    return Stumps(bias, tuple(steps))
