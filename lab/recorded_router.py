"""The router on recorded answers of several tasks: in domain, and on a task that it was never shown.

    python -m lab.recorded_router FILE... [--weak MODEL] [--strong MODEL] [--threshold P] [--seeds N] [--json FILE]

FILE: recorded answers (`lab.recorded`), one task or several. In domain: 5 folds over all tasks, near duplicates
together. Out: each task by a model fitted to the other tasks. A prompt goes to the weak model where P(it suffices)
reaches the threshold. Printed beside "always strong": accuracy kept, strong calls, with 95 % intervals over rows
(rows of the first seed), with and without the pull of the out-of-domain score; calibration; and the bump, which asks
for more confidence before the weak model is used. Costs are shares of strong calls, so no price is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.embeddings import embed_cached
from lab.metrics import Interval, bootstrap_rows
from lab.near_duplicates import group_near_duplicates, grouped_folds
from lab.recorded import RecordError, read_lines, recorded
from lab.routellm import heuristic_need
from lab.router_fit import fit_router
from lab.router_outcomes import RouterData, gains_of
from lab.router_report import RouterReport, evaluate_router
from services.classifier.encoder import Encoder
from services.classifier.model import load_verified, model_directory

__all__ = ["Decision", "decide"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

FOLDS: Final = 5
FIRST_SEED: Final = 1
ROUNDS: Final = 1_000
# Below this confidence the policy takes the next tier up (product: 0.75 for simple); without a bump, what is likelier.
BUMP_BELOW: Final = 0.75
NO_BUMP: Final = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """What a threshold did: share of strong calls, accuracy, and accuracy less that of always calling strong."""

    rows: int
    strong_share: Interval
    accuracy: Interval
    kept: Interval


@dataclass(frozen=True, slots=True)
class _Held:
    """Held-out scores of all rows: gains, P before the pull, P after it, out-of-domain."""

    gain: Floats
    plain: Floats
    pulled: Floats
    strange: Floats


def decide(probabilities: Floats, outcomes: Floats, threshold: float, *, seed: int) -> Decision:
    """Rows go to the first tier where P reaches the threshold, else to the last. `outcomes` [n, 2]."""
    up = probabilities < threshold
    answered = np.where(up, outcomes[:, -1], outcomes[:, 0])

    def interval(values: Floats) -> Interval:
        return bootstrap_rows(lambda rows: float(values[rows].mean()), len(values), seed=seed, rounds=ROUNDS)

    return Decision(len(up), interval(up.astype(float)), interval(answered), interval(answered - outcomes[:, -1]))


def _held(data: RouterData, splits: Sequence[tuple[Flags, Flags]], seed: int) -> _Held:
    gain, plain, pulled, strange = (np.zeros(len(data)) for _ in range(4))
    for train, test in splits:
        model = fit_router(data.rows(train), version="lab", embedding_model="lab", seed=seed)
        rows = data.rows(test)
        gains, served, far = model.judge_many(rows.vectors, rows.lexical)
        gain[test], plain[test], pulled[test], strange[test] = (
            gains[:, 0],
            model.probabilities(gains)[:, 0],
            served[:, 0],
            far,
        )
    return _Held(gain, plain, pulled, strange)


def _order(name: str, report: RouterReport) -> None:
    ece = (
        ""
        if np.isnan(report.ece.value)
        else f"  ECE {report.ece.value:.3f} ({report.ece.low:.3f}-{report.ece.high:.3f})"
    )
    print(
        f"  {name:<20}APGR {report.apgr.value:.3f} ({report.apgr.low:.3f}-{report.apgr.high:.3f})  "
        f"CPT50 {report.cpt50.value:5.1f}  CPT80 {report.cpt80.value:5.1f}{ece}"
    )


def _said(name: str, decision: Decision) -> None:
    share, kept = decision.strong_share, decision.kept
    print(
        f"  {name:<34}strong calls {share.value:6.1%} ({share.low:.1%}-{share.high:.1%})  accuracy "
        f"{decision.accuracy.value:.3f}, against always strong {100 * kept.value:+.2f} points "
        f"({100 * kept.low:+.2f} to {100 * kept.high:+.2f})"
    )


def _section(
    title: str, data: RouterData, held: _Held, rows: Flags, tasks: Sequence[str], threshold: float, seed: int
) -> dict[str, object]:
    outcomes = data.outcomes[rows]
    texts = [text for text, chosen in zip(data.texts, rows.tolist(), strict=True) if chosen]
    kinds = [task for task, chosen in zip(tasks, rows.tolist(), strict=True) if chosen]
    weak, strong = outcomes.mean(axis=0).tolist()
    far = held.strange[rows].mean()
    print(f"\n{title}: n {len(texts)}, weak {weak:.3f}, strong {strong:.3f}, out-of-domain {far:.2f}")
    reports = {
        "model": evaluate_router(held.gain[rows], outcomes, probabilities=held.plain[rows], kinds=kinds, seed=seed),
        "model, pulled": evaluate_router(1.0 - held.pulled[rows], outcomes, probabilities=held.pulled[rows], seed=seed),
        "prompt length": evaluate_router(np.asarray([float(len(text)) for text in texts]), outcomes, seed=seed),
        "heuristics": evaluate_router(heuristic_need(texts), outcomes, seed=seed),
        "random": evaluate_router(np.random.default_rng(seed).random(len(texts)), outcomes, seed=seed),
        "oracle": evaluate_router(gains_of(outcomes)[:, 0], outcomes, seed=seed),
    }
    for name, report in reports.items():
        _order(name, report)
    decisions = {
        f"P ≥ {threshold:g}, without the pull": decide(held.plain[rows], outcomes, threshold, seed=seed),
        f"P ≥ {threshold:g}, served": decide(held.pulled[rows], outcomes, threshold, seed=seed),
        "no bump (P ≥ 0.5), served": decide(held.pulled[rows], outcomes, NO_BUMP, seed=seed),
        f"bump below {BUMP_BELOW:g}, served": decide(held.pulled[rows], outcomes, BUMP_BELOW, seed=seed),
    }
    for name, decision in decisions.items():
        _said(name, decision)
    print("  reliability, said → was (rows), before the pull: ", end="")
    print("  ".join(f"{row.said:.2f}→{row.was:.2f} ({row.rows})" for row in reports["model"].reliability), flush=True)
    return {
        "order": {name: asdict(report) for name, report in reports.items()},
        "decisions": {name: asdict(decision) for name, decision in decisions.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures; 0, or 2 when a file or the model cannot be read."""
    parser = argparse.ArgumentParser(prog="lab.recorded_router", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--weak", default="claude-3-haiku-20240307")
    parser.add_argument("--strong", default="claude-3-5-sonnet-20241022")
    parser.add_argument("--threshold", type=float, default=0.9, help="P(weak suffices) from which it is asked")
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        help="splits in domain; all figures but the first one's APGR spread are of the first",
    )
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        answers = recorded(read_lines(options.files))
    except (OSError, RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    pair = (options.weak, options.strong)
    answers = [row for row in answers if all(model in row.correct for model in pair)]
    if not answers:
        print(f"no row has answers of both {pair[0]} and {pair[1]}", file=sys.stderr)
        return 2
    texts, tasks = [row.prompt for row in answers], [row.task for row in answers]
    encoder = Encoder(load_verified(model_directory(os.environ)), threads=os.cpu_count() or 1)
    outcomes = np.asarray([[float(row.correct[model]) for model in pair] for row in answers])
    data = RouterData.of(texts, embed_cached(texts, encoder), pair, outcomes)
    group = group_near_duplicates(texts, data.vectors)
    print(f"{pair[0]} against {pair[1]}: n {len(data)}, {len(set(group.tolist()))} groups, seed {options.first_seed}")

    spread: list[float] = []
    found: dict[str, object] = {}
    names = np.asarray(tasks)
    everything = np.ones(len(data), dtype=bool)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        fold = grouped_folds(group, FOLDS, seed=seed, strata=tasks)
        held = _held(data, [(fold != part, fold == part) for part in range(FOLDS)], seed)
        if seed == options.first_seed:
            found["in domain"] = _section("in domain", data, held, everything, tasks, options.threshold, seed)
            for task in sorted(set(tasks)):
                title = f"in domain, {task} alone"
                found[title] = _section(title, data, held, names == task, tasks, options.threshold, seed)
        spread.append(evaluate_router(held.gain, outcomes, seed=seed, rounds=1).apgr.value)
    print(f"\nin domain, APGR over {options.seeds} seeds: mean {np.mean(spread):.3f}, deviation {np.std(spread):.3f}")
    if len(set(tasks)) > 1:
        splits = [
            (~np.isin(group, group[names == task]) & (names != task), names == task) for task in sorted(set(tasks))
        ]
        held = _held(data, splits, options.first_seed)
        for task in sorted(set(tasks)):
            title = f"left out: {task}"
            found[title] = _section(title, data, held, names == task, tasks, options.threshold, options.first_seed)
        title = "left out, all tasks"
        found[title] = _section(title, data, held, everything, tasks, options.threshold, options.first_seed)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
