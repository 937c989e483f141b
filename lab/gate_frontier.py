"""The cost-accuracy curve of gated cascades on recorded answers, held-out, against what else could be done.

    python -m lab.gate_frontier FILE... [--seed N] [--folds K] [--json OUT]

Everything that is chosen (weights, what a wrong answer counts as at each rung, which ladder serves which task type) is
chosen on training folds; every figure is of the fold that was left out, pooled over folds. Near duplicates share a
fold. Costs are list prices on tokens of one tokenizer; every opinion is paid for, and so is what escalating adds to a
prompt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import PRICES, AnswerTable, build
from lab.ladder import Ladder, Outcome, Rung, fit_ladder, simulate
from lab.recorded import RecordError, folds, groups, read_lines, recorded
from spillway.routing import TaskType

__all__ = ["CANDIDATES", "Choice", "Curve", "choose", "frontier", "main"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MINI: Final = "gpt-4o-mini-2024-07-18"
LLAMA: Final = "Meta-Llama-3.1-70B-Instruct"
GEMMA: Final = "gemma-2-9b-it"
HAIKU: Final = "claude-3-5-haiku-20241022"
GPT4O: Final = "gpt-4o-2024-08-06"
FLAGSHIP: Final = "claude-3-5-sonnet-20241022"
# What a wrong answer counts as; None: the gate is agreement alone.
WRONG_USD: Final = (None, 0.004, 0.007, 0.012, 0.02, 0.035, 0.06, 0.11, 0.2)
TARGETS: Final = (0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.75)
MULTIPLIERS: Final = tuple(float(v) for v in np.geomspace(0.3, 300, 121))  # right answers per US dollar
BOOTSTRAP_ROUNDS: Final = 2_000

_LLAMA = Rung(MINI, (LLAMA,), 1)
_BOTH = Rung(MINI, (GEMMA, LLAMA), 1)
CANDIDATES: Final = tuple(
    Ladder(" > ".join(("4o-mini+" + name, *tops.values())), (rung, *(Rung(top) for top in tops)))
    for name, rung in (("llama", _LLAMA), ("gemma,llama", _BOTH))
    for tops in (
        {FLAGSHIP: "sonnet"},
        {GPT4O: "4o"},
        {GPT4O: "4o", FLAGSHIP: "sonnet"},
        {HAIKU: "haiku", FLAGSHIP: "sonnet"},
        {HAIKU: "haiku", GPT4O: "4o"},
    )
)


@dataclass(frozen=True, slots=True)
class Curve:
    """What a choice of ladders and thresholds did on held-out rows, at one target cost."""

    target: float
    correct: Bools
    cost_usd: Floats
    chosen: Counter[str]


@dataclass(frozen=True, slots=True)
class Option:
    """A ladder with its thresholds, on training rows and on held-out rows."""

    name: str
    train: Outcome
    test: Outcome


def choose(
    options: Sequence[Sequence[Option]], parts: Sequence[Bools], flagship_usd: float, target: float
) -> list[int]:
    """For each task type's rows (masks over training rows) the option to run, so that the whole costs at most `target`
    of the flagship and is right as often as that allows.

    Only points of each type's convex hull are considered, which keeps luck on training rows out.
    """
    totals = [
        [(float(o.train.correct[part].sum()), float(o.train.cost_usd[part].sum())) for o in own]
        for own, part in zip(options, parts, strict=True)
    ]
    hulls = [
        sorted({max(range(len(own)), key=lambda i: own[i][0] - m * own[i][1]) for m in MULTIPLIERS}) for own in totals
    ]
    best: tuple[float, Sequence[int]] | None = None
    for picks in itertools.product(*hulls):
        right = sum(own[i][0] for own, i in zip(totals, picks, strict=True))
        cost = sum(own[i][1] for own, i in zip(totals, picks, strict=True))
        if cost <= target * flagship_usd and (best is None or right > best[0]):
            best = (right, picks)
    return [min(range(len(own)), key=lambda i: own[i][1]) for own in totals] if best is None else list(best[1])


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be chosen: which ladders, whether one for each task type, whether gates of agreement alone too."""

    ladders: tuple[Ladder, ...]
    per_task: bool = False
    composite: bool = True
    agreement: bool = True

    def allows(self, ladder: Ladder, wrong: Sequence[float | None]) -> bool:
        """Whether the ladder with these gates is among the choices."""
        kinds = {usd is None for usd in wrong}
        return (
            ladder in self.ladders and (self.agreement or True not in kinds) and (self.composite or False not in kinds)
        )


def frontier(
    table: AnswerTable, group: Ints, choices: Mapping[str, Choice], *, seed: int, count: int
) -> dict[str, list[Curve]]:
    """Held-out curves of each choice: for each target, ladders and thresholds chosen on training folds."""
    fold = folds(group, table.tasks, count, seed=seed)
    inner = folds(group, table.tasks, 4, seed=seed + 1)
    curves = {
        name: [Curve(t, np.zeros(len(table), dtype=np.bool_), np.zeros(len(table)), Counter()) for t in TARGETS]
        for name in choices
    }
    every = list(dict.fromkeys(ladder for choice in choices.values() for ladder in choice.ladders))
    for index in range(count):
        train, test = np.flatnonzero(fold != index), np.flatnonzero(fold == index)
        options = []
        for ladder in every:
            on_train, on_test = fit_ladder(table, ladder, train, test, inner)
            for wrong in itertools.product(WRONG_USD, repeat=len(ladder.rungs) - 1):
                name = f"{ladder.name} @ " + "/".join("agreement" if usd is None else f"{usd:g}" for usd in wrong)
                one = Option(name, simulate(table, on_train, wrong), simulate(table, on_test, wrong))
                options.append((ladder, wrong, one))
        for name, choice in choices.items():
            own = [option for ladder, wrong, option in options if choice.allows(ladder, wrong)]
            for curve in curves[name]:
                _decide(table, own, curve, choice, train, test)
    return curves


def _decide(
    table: AnswerTable, options: Sequence[Option], curve: Curve, choice: Choice, train: Ints, test: Ints
) -> None:
    """Fills the curve's rows of `test` by what is best on `train`."""
    types = sorted({t for t in table.task_types if t is not None}) if choice.per_task else [None]
    masks = [np.asarray([t is None or own is t for own in table.task_types]) for t in types]
    flagship = float(table.cost_usd(FLAGSHIP)[train].sum())
    picks = choose([options] * len(types), [mask[train] for mask in masks], flagship, curve.target)
    for task, mask, pick in zip(types, masks, picks, strict=True):
        mine = mask[test]
        curve.correct[test[mine]] = options[pick].test.correct[mine]
        curve.cost_usd[test[mine]] = options[pick].test.cost_usd[mine]
        curve.chosen[f"{task.value if isinstance(task, TaskType) else 'all'}: {options[pick].name}"] += 1


def summary(
    table: AnswerTable, correct: Floats, cost_usd: Floats, rows: Bools | None = None, *, seed: int = 1
) -> dict[str, float]:
    """Accuracy, cost as a share of the flagship's, and the difference to the flagship in points, with intervals."""
    chosen = np.arange(len(table)) if rows is None else np.flatnonzero(rows)
    right = correct[chosen].astype(float)
    flagship = table.correct[chosen, table.column(FLAGSHIP)].astype(float)
    cost, whole = cost_usd[chosen], table.cost_usd(FLAGSHIP)[chosen]
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(chosen), size=(BOOTSTRAP_ROUNDS, len(chosen)))
    difference = 100.0 * (right - flagship)
    spread = np.quantile(difference[draws].mean(axis=1), (0.025, 0.975))
    ratios = np.quantile(cost[draws].sum(axis=1) / whole[draws].sum(axis=1), (0.025, 0.975))
    return {
        "accuracy": round(float(right.mean()), 4),
        "cost": round(float(cost.sum() / whole.sum()), 4),
        "cost_low": round(float(ratios[0]), 4),
        "cost_high": round(float(ratios[1]), 4),
        "points": round(float(difference.mean()), 2),
        "points_low": round(float(spread[0]), 2),
        "points_high": round(float(spread[1]), 2),
    }


def rivals(table: AnswerTable, prompt_chars: Floats) -> dict[str, tuple[Floats, Floats]]:
    """What else could be done: (share right, cost) of each row. Random and prompt length know the costs beforehand."""
    mini, flagship = table.column(MINI), table.column(FLAGSHIP)
    cheap, dear = table.cost_usd(MINI), table.cost_usd(FLAGSHIP)
    weak, strong = table.correct[:, mini].astype(float), table.correct[:, flagship].astype(float)
    found = {
        "always flagship": (strong, dear),
        "always 4o-mini": (weak, cheap),
        "always 4o": (table.correct[:, table.column(GPT4O)].astype(float), table.cost_usd(GPT4O)),
    }
    differ = table.agrees[:, mini, table.column(LLAMA)] != 1
    both = cheap + table.cost_usd(LLAMA)
    found["4o-mini and llama-70b agree, else flagship"] = np.where(differ, strong, weak), both + differ * dear
    for target in (0.45, 0.65):
        share = (target * dear.sum() - cheap.sum()) / dear.sum()
        found[f"random escalation at {target:.0%}"] = weak + share * (strong - weak), cheap + share * dear
        # Routed before any call: the longest prompts go straight to the flagship.
        order = np.argsort(-prompt_chars, kind="stable")
        saved = np.cumsum(dear[order]) + cheap.sum() - np.cumsum(cheap[order])
        up = np.zeros(len(table), dtype=np.bool_)
        up[order[: int(np.searchsorted(saved, target * dear.sum()))]] = True
        found[f"prompt length alone at {target:.0%}"] = np.where(up, strong, weak), np.where(up, dear, cheap)
    priced = sorted(PRICES, key=lambda m: float(table.cost_usd(m).mean()))
    right = np.zeros(len(table), dtype=np.bool_)
    cost = table.cost_usd(priced[0]).copy()
    for model in priced:
        now = table.correct[:, table.column(model)] & ~right
        cost[now], right = table.cost_usd(model)[now], right | now
    found["oracle (the cheapest model that is right)"] = right.astype(float), cost
    pair = weak.astype(bool) | strong.astype(bool)
    found["oracle (4o-mini, flagship)"] = pair.astype(float), np.where(weak.astype(bool) | ~pair, cheap, dear)
    return found


def _line(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:46} {found['accuracy']:.4f}  {found['cost']:6.1%} [{found['cost_low']:.1%}, {found['cost_high']:.1%}]  "
        f"{found['points']:+.2f} [{found['points_low']:+.2f}, {found['points_high']:+.2f}]"
    )


def _details(table: AnswerTable, curve: Curve, count: int) -> str:
    lines = []
    for task in sorted(set(table.tasks)):
        rows = np.asarray([t == task for t in table.tasks])
        lines.append(_line(f"    {task}", summary(table, curve.correct.astype(float), curve.cost_usd, rows)))
    lines += [f"    {times} of {count} folds: {name}" for name, times in sorted(curve.chosen.items())]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m lab.gate_frontier")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    try:
        values = recorded(read_lines(options.files))
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    table = build(values, sorted(PRICES))
    group = groups([value.prompt for value in values])
    report: dict[str, object] = {"seed": options.seed, "folds": options.folds, "n": len(table)}
    sys.stdout.write(f"n {len(table)}, seed {options.seed}, {options.folds} folds\n\n")
    for name, (right, cost) in rivals(table, np.asarray([float(len(v.prompt)) for v in values])).items():
        report[name] = found = summary(table, right, cost)
        sys.stdout.write(_line(name, found) + "\n")
    choices = {
        "4o-mini+llama > sonnet, composite": Choice(CANDIDATES[:1], agreement=False),
        "any ladder, one for all": Choice(CANDIDATES),
        "any ladder by task type, agreement gates": Choice(CANDIDATES, per_task=True, composite=False),
        "any ladder by task type, composite gates": Choice(CANDIDATES, per_task=True, agreement=False),
        "any ladder by task type, both": Choice(CANDIDATES, per_task=True),
    }
    curves = frontier(table, group, choices, seed=options.seed, count=options.folds)
    for name, own in curves.items():
        sys.stdout.write(f"\n{name}\n")
        for curve in own:
            found = summary(table, curve.correct.astype(float), curve.cost_usd)
            report[f"{name} at {curve.target:.2f}"] = {**found, "chosen": dict(curve.chosen)}
            sys.stdout.write(_line(f"  aimed at {curve.target:.0%}", found) + "\n")
            if choices[name].per_task and curve.target in (0.45, 0.65):
                sys.stdout.write(_details(table, curve, options.folds))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
