"""Fits the composite gate to answers with outcomes and reports how good it is on answers it was not fitted to.

    python -m lab.calibrate_gates FILE... [--answer MODEL] [--opinions A,B] [--models A,B,...]
        [--seed N] [--folds K] [--holdout FILE] [--out ARTIFACT] [--version NAME] [--report text|json] [--date DAY]

FILEs are recorded runs or logs of gated answers (`lab.recorded`). Of recorded runs, --answer names the model whose
answers are gated, and --opinions the ones that were asked beside it; without --answer every model
takes its turn, with opinions drawn at random, so that the fit serves any pair of models.

Every figure is of held-out answers: rows are cut into folds, near duplicates together, and each fold is judged by a fit
to the others. The artifact is fitted to all rows; with --holdout FILE to all but the first fold, whose rows are written
to FILE, so that the artifact can be tried on them later.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import AnswerTable, build
from lab.gate_draws import draw
from lab.gate_fit import Rows, as_matrix, fit_calibration, predict
from lab.metrics import Interval, auroc, binary_calibration_error, bootstrap_rows
from lab.recorded import RecordError, folds, groups, is_recorded, place_of, read_lines, recorded, task_type_of
from services.executor.gates.calibration import DEFAULT_HEAD, Calibration, serialise
from services.executor.gates.observation import Observed, observe
from services.executor.gates.signals import NAMES

__all__ = ["Examples", "evaluate", "examples", "main"]

Floats = npt.NDArray[np.float64]

THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
BOOTSTRAP_ROUNDS: Final = 500
ROWS_LEAST: Final = 100


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to fit, and which question (line of the files) each one comes from."""

    rows: Rows
    question: npt.NDArray[np.int64]
    prompts: tuple[str, ...]
    strata: tuple[str, ...]


def examples(raw: Sequence[dict[str, Any]], options: argparse.Namespace) -> Examples:
    """The rows of the files. Raises RecordError."""
    return _from_recorded(raw, options) if is_recorded(raw) else _from_log(raw)


def _from_recorded(raw: Sequence[dict[str, Any]], options: argparse.Namespace) -> Examples:
    values = recorded(raw)
    asked = [m for m in options.models.split(",") if m] or sorted(set.intersection(*(set(v.texts) for v in values)))
    missing = [m for v in values for m in asked if m not in v.texts]
    if missing:
        raise RecordError(f"{missing[0]} has no answer in every row")
    table = build(values, asked)
    if options.answer:
        rows = _of_one(table, options.answer, [m for m in options.opinions.split(",") if m])
        question = np.arange(len(values))
    else:
        drawn = draw(table, options.seed)
        rows, question = drawn.rows, drawn.question
    return Examples(rows, question, tuple(v.prompt for v in values), table.tasks)


def _of_one(table: AnswerTable, answer: str, opinions: Sequence[str]) -> Rows:
    unknown = [m for m in (answer, *opinions) if m not in table.models]
    if unknown:
        raise RecordError(f"{unknown[0]} has no answers in these files")
    return Rows(
        table.matrix(answer, opinions),
        table.correct[:, table.column(answer)],
        table.task_types,
        np.ones(len(table)),
    )


def _from_log(raw: Sequence[dict[str, Any]]) -> Examples:
    observed, correct = [], []
    try:
        for row in raw:
            observed.append(
                Observed(
                    question=str(row["question"]),
                    answer=str(row["answer"]),
                    task_type=task_type_of(str(row.get("task_type", ""))),
                    opinions=tuple(str(text) for text in row.get("opinions", ())),
                    self_confidence=row.get("self_confidence"),
                    logprob_mean=row.get("logprob_mean"),
                    logprob_min=row.get("logprob_min"),
                )
            )
            correct.append(bool(row["correct"]))
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{place_of(row, len(observed) + 1)}: neither a recorded run (prompt, task, answers by model, each with "
            "text and correct) nor a logged answer (question, answer, correct)"
        ) from error
    types = [o.task_type for o in observed]
    rows = Rows(
        as_matrix([observe(o) for o in observed]),
        np.asarray(correct, dtype=np.bool_),
        types,
        np.ones(len(observed)),
    )
    strata = tuple("other" if t is None else t.value for t in types)
    return Examples(rows, np.arange(len(observed)), tuple(o.question for o in observed), strata)


def crossfit(found: Examples, fold: npt.NDArray[np.int64], *, count: int) -> Floats:
    """P(acceptable) of each row, by a fit to the other folds."""
    p = np.zeros(len(found.rows))
    of_row = fold[found.question]
    for index in range(count):
        fit = fit_calibration({DEFAULT_HEAD: found.rows.take(of_row != index)}, version="fold")
        held = of_row == index
        p[held] = predict(fit.heads[DEFAULT_HEAD], fit.scaling, found.rows.take(held))
    return p


def evaluate(found: Examples, p: Floats, *, seed: int, rounds: int) -> dict[str, object]:
    """Figures of held-out probabilities; intervals over questions, not over rows."""
    correct = found.rows.correct
    by_question = [np.flatnonzero(found.question == q) for q in range(len(found.prompts))]

    def interval(figure: Any, mask: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
        own = [rows[mask[rows]] if mask is not None else rows for rows in by_question]
        own = [rows for rows in own if len(rows)]
        if not own:
            return {key: float("nan") for key in ("value", "low", "high")}

        def of(chosen: npt.NDArray[np.int64]) -> float:
            return float(figure(np.concatenate([own[i] for i in chosen])))

        return _rounded(bootstrap_rows(of, len(own), seed=seed, rounds=rounds))

    table = []
    for threshold in THRESHOLDS:
        taken = p >= threshold
        table.append(
            {
                "threshold": threshold,
                "accepted": interval(lambda r, taken=taken: taken[r].mean()),
                "right_of_accepted": interval(lambda r: correct[r].mean(), taken),
                "right_of_escalated": interval(lambda r: correct[r].mean(), ~taken),
            }
        )
    signals, warnings = {}, []
    for index, name in enumerate(NAMES):
        values = found.rows.signals[:, index]
        seen = ~np.isnan(values)
        if seen.sum() < ROWS_LEAST or len(np.unique(values[seen])) < 2:
            signals[name] = {"seen": float(round(seen.mean(), 4))}
            continue
        figure = interval(lambda r, values=values: auroc(values[r], correct[r]), seen)
        signals[name] = {"seen": float(round(seen.mean(), 4)), **figure}
        if figure["low"] <= 0.5 <= figure["high"]:
            warnings.append(f"{name} does not discriminate: AUROC {figure['low']:.3f} to {figure['high']:.3f}")
    tasks = sorted({t for t in found.rows.task_types if t is not None})
    masks: dict[str, npt.NDArray[np.bool_] | None] = {"all": None}
    masks |= {t.value: np.asarray([x is t for x in found.rows.task_types]) for t in tasks}
    return {
        "questions": len(found.prompts),
        "answers": len(found.rows),
        "right": round(float(correct.mean()), 4),
        "auroc": {name: interval(lambda r: auroc(p[r], correct[r]), mask) for name, mask in masks.items()},
        "ece": {name: interval(lambda r: binary_calibration_error(p[r], correct[r]), m) for name, m in masks.items()},
        "table": table,
        "signals": signals,
        "warnings": warnings,
    }


def _rounded(interval: Interval) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(interval).items()}


def _text(report: dict[str, Any]) -> str:
    def show(figure: dict[str, float]) -> str:
        return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"

    lines = [
        f"{report['answers']} answers to {report['questions']} questions, {report['right']:.1%} right; "
        f"{report['folds']} folds, seed {report['seed']}; held-out figures with 95 % intervals",
        "",
        "composite           AUROC                    ECE",
        *(f"{name:18}  {show(f)}   {show(report['ece'][name])}" for name, f in report["auroc"].items()),
        "",
        "threshold  accepted                 right of accepted        right of escalated",
        *(
            f"{row['threshold']:<9}  {show(row['accepted'])}   {show(row['right_of_accepted'])}   "
            f"{show(row['right_of_escalated'])}"
            for row in report["table"]
        ),
        "",
        "signal alone            seen    AUROC",
        *(
            f"{name:22}  {figure['seen']:.3f}   {show(figure) if 'value' in figure else 'too few to tell'}"
            for name, figure in sorted(report["signals"].items(), key=lambda kv: -abs(kv[1].get("value", 0.5) - 0.5))
        ),
        "",
        *(f"warning: {warning}" for warning in report["warnings"]),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Fits, reports, writes. 0, or 1 when the files are of no use."""
    options = _options(arguments)
    try:
        raw = read_lines(options.files)
        found = examples(raw, options)
    except RecordError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    wrong = int((~found.rows.correct).sum())
    if len(found.rows) < ROWS_LEAST or min(wrong, len(found.rows) - wrong) < options.folds:
        sys.stderr.write(f"{len(found.rows)} answers, {wrong} of them wrong, are too few to fit and to hold out\n")
        return 1
    fold = folds(groups(found.prompts), found.strata, options.folds, seed=options.seed)
    report: dict[str, Any] = {"seed": options.seed, "folds": options.folds}
    report |= evaluate(found, crossfit(found, fold, count=options.folds), seed=options.seed, rounds=options.rounds)
    fitted_to = fold[found.question] != 0 if options.holdout else np.ones(len(found.rows), dtype=np.bool_)
    if options.holdout:
        _write_rows(options.holdout, [row for row, number in zip(raw, fold.tolist(), strict=True) if number == 0])
    fit = fit_calibration({DEFAULT_HEAD: found.rows.take(fitted_to)}, version=options.version)
    if options.out:
        options.out.write_bytes(serialise(fit, _card(options, report, fit, fitted_to)))
    sys.stdout.write(json.dumps(report, indent=1) + "\n" if options.report == "json" else _text(report))
    return 0


def _card(
    options: argparse.Namespace, report: dict[str, Any], fit: Calibration, fitted_to: npt.NDArray[np.bool_]
) -> dict[str, object]:
    return {
        "version": fit.version,
        "date": options.date,
        "data": {"files": [path.name for path in options.files], "note": options.data_note},
        "seed": options.seed,
        "split": f"{options.folds} folds, near duplicates together, each task spread evenly",
        "fitted_to": f"{int(fitted_to.sum())} of {len(fitted_to)} answers"
        + (" (all but the first fold)" if options.holdout else " (all folds; the figures are cross-fitted)"),
        "figures": {key: report[key] for key in ("questions", "answers", "right", "auroc", "ece", "table")},
        "unfitted": [name for name in NAMES if "value" not in report["signals"][name]],
    }


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.calibrate_gates")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--answer", default="", metavar="MODEL", help="whose recorded answers are gated")
    parser.add_argument("--opinions", default="", metavar="MODELS", help="asked beside it, the strongest first")
    parser.add_argument("--models", default="", metavar="MODELS", help="only these of the recorded models")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=BOOTSTRAP_ROUNDS, help="of the bootstrap")
    parser.add_argument("--holdout", type=Path, metavar="FILE", help="keep the first fold out of the artifact, here")
    parser.add_argument("--out", type=Path, metavar="ARTIFACT")
    parser.add_argument("--version", default="local-1")
    parser.add_argument("--data-note", default="", help="source and licence of the data, for the artifact's card")
    parser.add_argument("--report", choices=("text", "json"), default="text")
    parser.add_argument("--date", default=dt.datetime.now(tz=dt.UTC).date().isoformat())
    options = parser.parse_args(arguments)
    if options.folds < 2:
        parser.error("--folds: at least 2")
    return options


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
