"""Rows for a gate that is to serve any models: each recorded model answers in turn, with opinions drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import AnswerTable
from lab.gate_fit import Rows, as_matrix

__all__ = ["Draws", "draw"]

OPINIONS_MAX: Final = 4
DRAWS: Final = 2


@dataclass(frozen=True, slots=True)
class Draws:
    """Rows, and of each: which question, whose answer, and whether a model is among its opinions [n, M]."""

    rows: Rows
    question: npt.NDArray[np.int64]
    answerer: npt.NDArray[np.int64]
    asked: npt.NDArray[np.bool_]


def draw(table: AnswerTable, seed: int) -> Draws:
    """DRAWS rows for each answer, with 0 to OPINIONS_MAX opinions, the stronger first."""
    generator = np.random.default_rng(seed)
    order = np.argsort(-table.correct.mean(axis=0), kind="stable").tolist()
    models = len(order)
    signals, correct, question, answerer, asked = [], [], [], [], []
    for row in range(len(table)):
        for model in range(models):
            for _ in range(DRAWS):
                others = [m for m in order if m != model]
                count = int(generator.integers(0, min(OPINIONS_MAX, models - 1) + 1))
                chosen = set(generator.permutation(others)[:count].tolist())
                signals.append(table.signals(row, model, [m for m in others if m in chosen]))
                correct.append(bool(table.correct[row, model]))
                question.append(row)
                answerer.append(model)
                asked.append([m in chosen for m in range(models)])
    types = [table.task_types[row] for row in question]
    weights = np.full(len(question), 1.0 / DRAWS)
    return Draws(
        Rows(as_matrix(signals), np.asarray(correct), types, weights),
        np.asarray(question),
        np.asarray(answerer),
        np.asarray(asked),
    )
