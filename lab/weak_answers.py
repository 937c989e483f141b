"""The gate on a weak model's answer alone, against a strong model: APGR and CPT, cross-validated over several seeds.

    python -m lab.weak_answers FILE [--seeds N,N,...] [--folds K]

FILE has rows of "prompt", "gold", "weak_response", "strong_response" and the bits "weak" and "strong" that say which
was right. The gate sees the prompt and the weak answer, no bit and no strong answer. Reported for the file's bits, and
for outcomes found by comparing final answers with `gold` as numbers: bits that compare text call "18.00" wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.gate_fit import Rows, as_matrix, fit_head, fit_scaling, predict
from lab.metrics import apgr, auroc, bootstrap_rows, cpt
from lab.recorded import RecordError, folds, groups, read_lines
from services.executor.gates import canonical
from services.executor.gates.calibration import load
from services.executor.gates.final_answer import final_answer, last_number
from services.executor.gates.observation import Observed, observe
from spillway.routing import TaskType

__all__ = ["main", "same_number"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROUNDS = 1_000


def same_number(answer: str, gold: str) -> bool:
    """Whether the final answer, or else the last number, is the gold one in value."""
    one, other = _number(answer), _number(gold)
    return one is not None and other is not None and one.value == other.value


def _number(text: str) -> canonical.Number | None:
    marked = final_answer(text)
    found = None if marked is None else canonical.number(marked)
    if found is None:
        last = last_number(text if marked is None else marked)
        found = None if last is None else canonical.number(last)
    return found


def _scores(rows: Rows, group: npt.NDArray[np.int64], seed: int, count: int) -> Floats:
    """Held-out P(right) by the logistic model that the product has."""
    fold = folds(group, ["all"] * len(rows), count, seed=seed)
    p = np.zeros(len(rows))
    for index in range(count):
        seen = rows.take(fold != index)
        scaling = fit_scaling(seen.signals, seen.weights)
        p[fold == index] = predict(fit_head(seen, scaling), scaling, rows.take(fold == index))
    return p


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m lab.weak_answers")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        raw: list[dict[str, Any]] = read_lines([options.file])
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    seeds = [int(seed) for seed in options.seeds.split(",")]
    observed = [observe(Observed(r["prompt"], r["weak_response"], TaskType.MATH)) for r in raw]
    group = groups([r["prompt"] for r in raw])
    outcomes = {
        "bits of the file": tuple(np.asarray([bool(r[side]) for r in raw]) for side in ("weak", "strong")),
        "gold as numbers": tuple(
            np.asarray([same_number(r[f"{side}_response"], r["gold"]) for r in raw]) for side in ("weak", "strong")
        ),
    }
    length = np.asarray([float(len(r["prompt"])) for r in raw])
    shipped = np.asarray([-load().p_acceptable(s, TaskType.MATH)[0] for s in observed])
    sys.stdout.write(f"n {len(raw)}, {options.folds} folds, seeds {options.seeds}\n")
    for name, (weak, strong) in outcomes.items():
        sys.stdout.write(f"\n{name}: weak {weak.mean():.4f}, strong {strong.mean():.4f}\n")
        rows = Rows(as_matrix(observed), weak, [TaskType.MATH] * len(raw), np.ones(len(raw)))
        found = [_scores(rows, group, seed, options.folds) for seed in seeds]
        needs = {
            "prompt length alone": [length],
            "shipped artifact, never fitted to this data": [shipped],
            "logistic, cross-validated": [-p for p in found],
        }
        for label, scores in needs.items():
            sys.stdout.write(f"{label:44} {_line(scores, weak, strong)}\n")
    return 0


def _line(scores: Sequence[Floats], weak: Bools, strong: Bools) -> str:
    """Means over seeds; the interval is over rows, for the first seed."""
    figures = [
        (apgr(s, weak, strong), cpt(s, weak, strong, 0.5), cpt(s, weak, strong, 0.8), auroc(-s, weak)) for s in scores
    ]
    mean = np.mean(figures, axis=0)
    first = scores[0]
    spread = bootstrap_rows(lambda r: apgr(first[r], weak[r], strong[r]), len(first), seed=1, rounds=ROUNDS)
    return (
        f"APGR {mean[0]:.3f} [{spread.low:.3f}, {spread.high:.3f}]  CPT(50 %) {mean[1]:.1f}  CPT(80 %) {mean[2]:.1f}  "
        f"AUROC {mean[3]:.3f}"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
