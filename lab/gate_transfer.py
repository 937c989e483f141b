"""How far a fitted gate carries: to models and to tasks that it has never seen.

    python -m lab.gate_transfer FILE... [--seed N] [--folds K]

For each model: the gate is fitted to the other models' answers, with opinions of the others only, and judges the
model's answers to questions of the fold that was left out. For each task: fitted to the other tasks, judged on this
one. Beside each figure stands the same for a gate that has seen the model or task, on the same held-out answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import PRICES, build
from lab.gate_draws import Draws, draw
from lab.gate_fit import fit_head, fit_scaling, predict
from lab.metrics import Interval, auroc, binary_calibration_error, bootstrap_rows
from lab.recorded import RecordError, folds, groups, read_lines, recorded

__all__ = ["held_out", "main"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROUNDS: Final = 500


def held_out(drawn: Draws, fold: npt.NDArray[np.int64], count: int, seen: Bools, judged: Bools) -> Floats:
    """P(acceptable) of the `judged` rows, each by a fit to the `seen` rows of the other folds; nan elsewhere."""
    p = np.full(len(drawn.rows), np.nan)
    of_row = fold[drawn.question]
    for index in range(count):
        train, test = seen & (of_row != index), judged & (of_row == index)
        if test.any():
            rows = drawn.rows.take(train)
            scaling = fit_scaling(rows.signals, rows.weights)
            p[test] = predict(fit_head(rows, scaling), scaling, drawn.rows.take(test))
    return p


def _figures(drawn: Draws, p: Floats, seed: int) -> str:
    rows = np.flatnonzero(~np.isnan(p))
    right, score = drawn.rows.correct[rows], p[rows]
    questions, where = np.unique(drawn.question[rows], return_inverse=True)
    own = [np.flatnonzero(where == index) for index in range(len(questions))]

    def of(chosen: npt.NDArray[np.int64]) -> float:
        index = np.concatenate([own[i] for i in chosen])
        return auroc(score[index], right[index])

    found: Interval = bootstrap_rows(of, len(own), seed=seed, rounds=ROUNDS)
    error = binary_calibration_error(score, right)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]  {error:.3f}"


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m lab.gate_transfer")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        values = recorded(read_lines(options.files))
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    table = build(values, sorted(PRICES))
    drawn = draw(table, options.seed)
    fold = folds(groups([v.prompt for v in values]), table.tasks, options.folds, seed=options.seed)
    everything = np.ones(len(drawn.rows), dtype=np.bool_)
    known = held_out(drawn, fold, options.folds, everything, everything)
    sys.stdout.write(f"questions {len(table)}, answers {len(everything)}, seed {options.seed}, {options.folds} folds\n")
    sys.stdout.write(f"\n{'left out':30} unseen: AUROC, ECE              seen: AUROC, ECE\n")
    for number, model in enumerate(table.models):
        mine = drawn.answerer == number
        p = held_out(drawn, fold, options.folds, ~mine & ~drawn.asked[:, number], mine)
        seen = np.where(mine, known, np.nan)
        sys.stdout.write(f"{model:30} {_figures(drawn, p, options.seed)}  {_figures(drawn, seen, options.seed)}\n")
    tasks = np.asarray(table.tasks)[drawn.question]
    for task in sorted(set(table.tasks)):
        mine = tasks == task
        p = held_out(drawn, fold, options.folds, ~mine, mine)
        seen = np.where(mine, known, np.nan)
        sys.stdout.write(f"{task:30} {_figures(drawn, p, options.seed)}  {_figures(drawn, seen, options.seed)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
