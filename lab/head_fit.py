"""Fits the classifier's head to labelled embeddings. Pure and deterministic: the same input gives the same head.

Each part (regression, neighbours) predicts only examples it has not seen when the blend is fitted; the blend's own
figures come from an outer loop that saw neither (nested cross-validation).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.classifier.head import (
    COMPLEXITIES,
    DISTANCE_QUANTILES,
    TASKS,
    Head,
    Mixture,
    distances,
    log_floor,
    neighbour_probabilities,
    softmax,
)

__all__ = ["Dataset", "cross_validated", "fit_head"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

FOLDS = 5
ITERATIONS = 150
RIDGES = (3e-4, 1e-3, 3e-3, 1e-2)
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
TEMPERATURES = tuple(float(value) for value in np.geomspace(0.3, 3.0, 25))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of labelled texts: unit vectors, labels, and what the heuristics say of each."""

    vectors: Floats
    complexity: Labels
    task: Labels
    heuristic_complexity: Floats
    heuristic_task: Floats

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Dataset:
        """The chosen rows."""
        return Dataset(
            self.vectors[chosen],
            self.complexity[chosen],
            self.task[chosen],
            self.heuristic_complexity[chosen],
            self.heuristic_task[chosen],
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """One of the two questions, as the fit sees it."""

    labels: Labels
    heuristics: Floats
    classes: int


def folds(data: Dataset, seed: int) -> Labels:
    """A fold for each row, every kind of row spread evenly over the folds."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(data))
    order = order[np.argsort(data.task[order] * COMPLEXITIES + data.complexity[order], kind="stable")]
    result = np.empty(len(data), dtype=np.int64)
    result[order] = np.arange(len(data)) % FOLDS
    return result


def _regression(vectors: Floats, labels: Labels, classes: int, ridge: float) -> tuple[Floats, Floats]:
    """Softmax regression with a ridge penalty, by Nesterov's accelerated gradient with the Lipschitz step."""
    count = len(vectors)
    design = np.hstack([vectors, np.ones((count, 1))])
    target = np.eye(classes)[labels]
    # Half the largest eigenvalue of X'X / n bounds the curvature of the softmax loss.
    step = 1.0 / (0.5 * float(np.linalg.norm(design, 2)) ** 2 / count + ridge)
    weights = np.zeros((design.shape[1], classes))
    ahead, momentum = weights, 1.0
    for _ in range(ITERATIONS):
        gradient = design.T @ (softmax(design @ ahead) - target) / count
        gradient[:-1] += ridge * ahead[:-1]
        moved = ahead - step * gradient
        faster = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + (momentum - 1.0) / faster * (moved - weights)
        weights, momentum = moved, faster
    return weights[:-1], weights[-1]


def _loss(log_probabilities: Floats, labels: Labels) -> float:
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def _fit_question(data: Dataset, question: _Question, fold: Labels) -> Mixture:
    labels, classes = question.labels, question.classes
    regressions = np.zeros((len(RIDGES), len(data), classes))
    neighbours = np.zeros((len(data), classes))
    for index in range(FOLDS):
        held, seen = fold == index, fold != index
        similarities = data.vectors[held] @ data.vectors[seen].T
        neighbours[held] = log_floor(neighbour_probabilities(similarities, labels[seen], classes))
        for number, ridge in enumerate(RIDGES):
            weights, bias = _regression(data.vectors[seen], labels[seen], classes, ridge)
            regressions[number][held] = log_floor(softmax(data.vectors[held] @ weights + bias))
    heuristics = log_floor(question.heuristics)
    best_loss, best, best_ridge = np.inf, None, 0
    blank = Mixture(np.zeros((0, classes)), np.zeros(classes), 0.0, 0.0, 1.0)
    for number in range(len(RIDGES)):
        for mix in MIXES:
            for blend in BLENDS:
                for temperature in TEMPERATURES:
                    candidate = replace(blank, mix=mix, blend=blend, temperature=temperature)
                    logits = candidate.logits(regressions[number], neighbours, heuristics)
                    loss = _loss(np.log(softmax(logits)), labels)
                    if loss < best_loss - 1e-9:
                        best_loss, best, best_ridge = loss, candidate, number
    if best is None:
        message = "no finite loss: the vectors or labels are broken"
        raise ValueError(message)
    weights, bias = _regression(data.vectors, labels, classes, RIDGES[best_ridge])
    return replace(best, weights=weights, bias=bias)


def fit_head(data: Dataset, *, version: str, embedding_model: str, seed: int) -> Head:
    """A head fitted to all rows; its priors are even, because the examples' shares say nothing of real traffic."""
    fold = folds(data, seed)
    similarities = data.vectors @ data.vectors.T
    np.fill_diagonal(similarities, -1.0)
    return Head(
        version=version,
        embedding_model=embedding_model,
        examples=data.vectors,
        example_complexity=data.complexity,
        example_task=data.task,
        complexity=_fit_question(data, _Question(data.complexity, data.heuristic_complexity, COMPLEXITIES), fold),
        task=_fit_question(data, _Question(data.task, data.heuristic_task, TASKS), fold),
        distance_quantiles=np.quantile(distances(similarities), DISTANCE_QUANTILES),
        complexity_prior=np.full(COMPLEXITIES, 1.0 / COMPLEXITIES),
        task_prior=np.full(TASKS, 1.0 / TASKS),
    )


def cross_validated(data: Dataset, *, seed: int) -> tuple[Floats, Floats]:
    """Complexity [n, 3] and task [n, 12] of each row, by a head that has not seen it in any part of its fit."""
    complexity = np.zeros((len(data), COMPLEXITIES))
    task = np.zeros((len(data), TASKS))
    outer = folds(data, seed + 1)
    for index in range(FOLDS):
        held = outer == index
        head = fit_head(data.rows(~held), version="fold", embedding_model="fold", seed=seed)
        rows = data.rows(held)
        complexity[held], task[held], _, _ = head.judge_many(
            rows.vectors, rows.heuristic_complexity, rows.heuristic_task
        )
    return complexity, task
