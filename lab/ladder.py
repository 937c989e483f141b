"""Ladders of models on recorded answers: what a cascade with composite gates would have answered, and at what cost.

A rung asks its target and its opinions: `opinions_least` of them at once, then one after another for as long as the
gate does not accept. Answers of earlier rungs count as opinions too, and cost nothing more. The gate takes the answer
when p >= 1 - next_cost / wrong (`services.executor.gates.calibration`); the last rung has no gate. What an escalation
adds to the prompt is paid for. Every row is decided by models that were not fitted to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import PRICES, AnswerTable
from lab.gate_fit import Rows, fit_head, fit_scaling, predict
from services.executor.gates.observation import OPINIONS_MAX
from services.executor.gates.signals import NAMES

__all__ = ["Fitted", "Ladder", "Outcome", "Rung", "fit_ladder", "simulate"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

NOTE_TOKENS: Final = 16  # "An earlier attempt was rejected (...). Take care."
INNER_FOLDS: Final = 4


@dataclass(frozen=True, slots=True)
class Rung:
    """A target, the opinions beside it in the order in which they are asked, and how many of them always are."""

    target: str
    opinions: tuple[str, ...] = ()
    opinions_least: int = 0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs, cheapest first."""

    name: str
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A moment at which the gate is asked: the rung, and what has been asked by then."""

    rung: int
    opinions: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """p of each state for the given rows, by models that did not see them, and whether any opinion agrees."""

    ladder: Ladder
    rows: Ints
    p: tuple[Floats, ...]
    agrees: tuple[Bools, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of each row: whether the answer was right, what everything cost, which rung answered, how many were asked."""

    correct: Bools
    cost_usd: Floats
    rung: Ints


def states(ladder: Ladder) -> list[State]:
    """The moments at which the gate is asked, in order; the last rung has none."""
    found: list[State] = []
    before: tuple[str, ...] = ()
    for number, rung in enumerate(ladder.rungs[:-1]):
        for count in range(rung.opinions_least, len(rung.opinions) + 1):
            opinions = (*rung.opinions[:count], *before)[:OPINIONS_MAX]
            found.append(State(number, opinions, (rung.target, *rung.opinions[:count])))
        before = (rung.target, *rung.opinions, *before)
    return found


def fit_ladder(table: AnswerTable, ladder: Ladder, train: Ints, test: Ints, inner: Ints) -> tuple[Fitted, Fitted]:
    """The ladder's gates, fitted to `train`: their values on `train` (by inner folds) and on `test`.

    `inner` gives every row of the table an inner fold. One model serves all states of a rung.
    """
    order = states(ladder)
    p, share = np.zeros((len(order), len(table))), NAMES.index("agreeing_share")
    agrees = np.zeros((len(order), len(table)), dtype=np.bool_)
    for rung in sorted({state.rung for state in order}):
        mine = [index for index, state in enumerate(order) if state.rung == rung]
        target = ladder.rungs[rung].target
        correct = table.correct[:, table.column(target)]
        weights = np.full(len(table), 1.0 / len(mine))
        parts = [Rows(table.matrix(target, order[i].opinions), correct, table.task_types, weights) for i in mine]
        cuts = [(train[inner[train] == k], train[inner[train] != k]) for k in range(INNER_FOLDS)]
        for held, seen in (*cuts, (test, train)):
            fit = _joined([part.take(seen) for part in parts])
            scaling = fit_scaling(fit.signals, fit.weights)
            head = fit_head(fit, scaling)
            for index, part in zip(mine, parts, strict=True):
                p[index, held] = predict(head, scaling, part.take(held))
        for index, part in zip(mine, parts, strict=True):
            agrees[index] = part.signals[:, share] > 0
    on_train, on_test = (Fitted(ladder, rows, tuple(p[:, rows]), tuple(agrees[:, rows])) for rows in (train, test))
    return on_train, on_test


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.signals for part in parts]),
        np.concatenate([part.correct for part in parts]),
        [task for part in parts for task in part.task_types],
        np.concatenate([part.weights for part in parts]),
    )


def _next_cost(table: AnswerTable, ladder: Ladder, rung: int) -> Floats:
    """What the next rung's target is expected to cost, as it can be known: its prices on this answer's tokens."""
    above = ladder.rungs[rung + 1]
    return table.next_cost_usd(above.target, ladder.rungs[rung].target) + _note_cost(above.target)


def _note_cost(target: str) -> float:
    return NOTE_TOKENS * PRICES[target][0] / 1e6


def simulate(table: AnswerTable, fitted: Fitted, wrong_usd: Sequence[float | None]) -> Outcome:
    """What the ladder does on the fitted rows when each gated rung counts a wrong answer as `wrong_usd`.

    None stands for a gate of agreement alone, with any of the opinions.
    """
    rows, ladder = fitted.rows, fitted.ladder
    cost, correct = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    answered = np.full(len(rows), -1)
    paid: list[set[str]] = [set() for _ in ladder.rungs]
    for state, p, agrees in zip(states(ladder), fitted.p, fitted.agrees, strict=True):
        open_ = answered < 0
        for model in state.asked:
            if model not in paid[state.rung]:
                cost[open_] += _cost(table, ladder, state.rung, model)[rows][open_]
                paid[state.rung].add(model)
        wrong = wrong_usd[state.rung]
        takes = open_ & (agrees if wrong is None else p >= 1 - _next_cost(table, ladder, state.rung)[rows] / wrong)
        answered[takes] = state.rung
        correct[takes] = table.correct[rows, table.column(ladder.rungs[state.rung].target)][takes]
    open_ = answered < 0
    last = ladder.rungs[-1].target
    cost[open_] += _cost(table, ladder, len(ladder.rungs) - 1, last)[rows][open_]
    correct[open_] = table.correct[rows, table.column(last)][open_]
    answered[open_] = len(ladder.rungs) - 1
    return Outcome(correct, cost, answered)


def _cost(table: AnswerTable, ladder: Ladder, rung: int, model: str) -> Floats:
    return table.cost_usd(model) + (_note_cost(model) if rung and model == ladder.rungs[rung].target else 0.0)
