"""Recorded answers as arrays: signals of every model's answer, who agrees with whom, who is right, tokens and cost.

Everything comes from the code that the executor runs (`signals`, `agreement`); nothing is computed a second way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.gate_fit import as_matrix
from lab.recorded import Recorded
from services.executor.gates.agreement import agree
from services.executor.gates.observation import Observed, observe, with_opinions
from services.executor.gates.signals import Signals as SignalVector
from services.sandbox.tokens import TokenCounter, find_tokenizer
from spillway.routing import TaskType

__all__ = ["PRICES", "AnswerTable", "build"]

Floats = npt.NDArray[np.float64]

# List prices, US dollars per million input and output tokens. o1-mini has none: its reasoning tokens are not recorded.
PRICES: Final = {
    "claude-3-haiku-20240307": (0.25, 1.25),
    "claude-3-5-haiku-20241022": (0.80, 4.00),
    "claude-3-5-sonnet-20241022": (3.00, 15.00),
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),
    "gpt-4o-2024-08-06": (2.50, 10.00),
    "gemma-2-9b-it": (0.10, 0.10),
    "Meta-Llama-3.1-8B-Instruct": (0.10, 0.10),
    "Meta-Llama-3.1-70B-Instruct": (0.60, 0.60),
}


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """n questions, M models. `agrees` is 1, 0, or -1 when two answers cannot be compared. Tokens by one tokenizer."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    task_types: tuple[TaskType | None, ...]
    alone: tuple[tuple[SignalVector, ...], ...]
    agrees: npt.NDArray[np.int8]
    correct: npt.NDArray[np.bool_]
    input_tokens: Floats
    output_tokens: Floats

    def __len__(self) -> int:
        return len(self.tasks)

    def column(self, model: str) -> int:
        """The model's number."""
        return self.models.index(model)

    def cost_usd(self, model: str) -> Floats:
        """What each question costs at `model`."""
        price = PRICES[model]
        return (self.input_tokens * price[0] + self.output_tokens[:, self.column(model)] * price[1]) / 1e6

    def next_cost_usd(self, model: str, after: str) -> Floats:
        """What `model` is expected to cost, known before it is asked: its prices on the tokens of `after`'s answer."""
        price = PRICES[model]
        return (self.input_tokens * price[0] + self.output_tokens[:, self.column(after)] * price[1]) / 1e6

    def signals(self, row: int, model: int, opinions: Sequence[int]) -> SignalVector:
        """The signals of one answer, with some of the other models' as opinions, in their order."""
        found = self.agrees[row][np.ix_([model, *opinions], [model, *opinions])]
        return with_opinions(self.alone[row][model], [[None if v < 0 else bool(v) for v in line] for line in found])

    def matrix(self, model: str, opinions: Sequence[str]) -> Floats:
        """The signals of all answers of one model, [n, S]."""
        column, others = self.column(model), [self.column(name) for name in opinions]
        return as_matrix([self.signals(row, column, others) for row in range(len(self))])


def build(rows: Sequence[Recorded], models: Sequence[str]) -> AnswerTable:
    """Observes every answer. About five milliseconds a question."""
    count = TokenCounter(find_tokenizer(os.environ, Path.home())).count
    size = len(models)
    agrees = np.ones((len(rows), size, size), dtype=np.int8)
    for index, row in enumerate(rows):
        for one in range(size):
            for other in range(one):
                same = agree(row.texts[models[one]], row.texts[models[other]], task_type=row.task_type)
                agrees[index, one, other] = agrees[index, other, one] = -1 if same is None else int(same)
    return AnswerTable(
        models=tuple(models),
        tasks=tuple(row.task for row in rows),
        task_types=tuple(row.task_type for row in rows),
        alone=tuple(
            tuple(observe(Observed(row.prompt, row.texts[model], row.task_type)) for model in models) for row in rows
        ),
        agrees=agrees,
        correct=np.asarray([[row.correct[model] for model in models] for row in rows], dtype=np.bool_),
        input_tokens=np.asarray([count(row.prompt) for row in rows], dtype=np.float64),
        output_tokens=np.asarray([[count(row.texts[model]) for model in models] for row in rows], dtype=np.float64),
    )
