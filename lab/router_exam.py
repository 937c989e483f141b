"""Examines judges on prompts that none of them was fitted to, side by side, and says whether a new one is worse. Pure.

Promises: a prompt's side of the split depends on its own near duplicates, the seed and the share alone: it stays while
no new near duplicate joins them, and may change when one does. Near duplicates are on one side. Where the dearest tier
was not asked it is taken to be good, and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.metrics import Interval, binary_calibration_error
from lab.router_outcomes import RouterData, gains_of, sufficed_of
from lab.router_report import RouterReport, evaluate_router, order_figures
from lab.router_scores import Scores

__all__ = ["ROWS_MIN", "Comparison", "Exam", "ExamError", "Examined", "compare", "examine", "held_out", "lacking"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

ROUNDS = 500
# With fewer held-out rows no figure says anything.
ROWS_MIN = 30
# A calibration error that is greater by less than this is no reason to refuse a head.
ECE_WORSE_MIN = 0.02
# The APGR of random order.
CHANCE = 0.5


class ExamError(Exception):
    """There is nothing to examine by. The message says why."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One judge's reports, by tier (all but the dearest)."""

    name: str
    reports: dict[str, RouterReport]


@dataclass(frozen=True, slots=True)
class Exam:
    """All judges on the same rows. `assumed`: rows whose dearest tier was not asked and is taken to be good.

    `left_out`: a sentence for each tier of which the rows cannot tell good routing from bad.
    """

    rows: int
    assumed: int
    judges: tuple[Examined, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The new judge minus the old one on the same rows: paired differences, and why the new one is worse, if it is."""

    tier: str
    rows: int
    apgr: Interval
    ece: Interval
    worse: str


def held_out(group: Labels, prints: npt.NDArray[np.uint64], share: float, *, seed: int) -> npt.NDArray[np.bool_]:
    """Marks the rows that are held out: about `share` of the groups of near duplicates, whole.

    A group's least fingerprint decides, not its place in the file or how many others there are.
    """
    names, where = np.unique(group, return_inverse=True)
    least = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, where, prints)
    out = np.asarray([_draw(int(each), seed) < share for each in least], dtype=np.bool_)
    return np.asarray(out[where], dtype=np.bool_)


def _draw(print_: int, seed: int) -> float:
    digest = hashlib.blake2b(print_.to_bytes(8, "little"), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return float(int.from_bytes(digest, "little")) / 2.0**64


def _with_dearest(outcomes: Floats) -> Floats:
    found = outcomes.copy()
    found[np.isnan(found[:, -1]), -1] = 1.0
    return found


def examine(
    judges: Sequence[Scores], data: RouterData, kinds: Sequence[str], *, costs: Floats | None, seed: int
) -> Exam:
    """Reports of all judges on `data`; `costs` [t]: what a call of each tier costs. Raises ExamError without any."""
    outcomes = _with_dearest(data.outcomes)
    spread = None if costs is None else np.tile(costs, (len(data), 1))
    silent = {tier: why for index, tier in enumerate(data.tiers[:-1]) if (why := _silent(outcomes, index, data.tiers))}
    if len(silent) == len(data.tiers) - 1:
        raise ExamError("; ".join(silent.values()))
    return Exam(
        rows=len(data),
        assumed=int(np.isnan(data.outcomes[:, -1]).sum()),
        judges=tuple(
            Examined(
                judge.name,
                {
                    tier: evaluate_router(
                        judge.need[:, index],
                        outcomes,
                        probabilities=None if judge.probabilities is None else judge.probabilities[:, index],
                        costs=spread,
                        kinds=kinds,
                        tier=index,
                        seed=seed,
                        rounds=ROUNDS,
                    )
                    for index, tier in enumerate(data.tiers[:-1])
                    if tier not in silent
                },
            )
            for judge in judges
        ),
        left_out=tuple(silent.values()),
    )


def _silent(outcomes: Floats, index: int, tiers: Sequence[str]) -> str:
    """Why the rows tell nothing of routing between a tier and the dearest; empty when they do."""
    pair = outcomes[:, [index, -1]]
    pair = pair[~np.isnan(pair[:, 0])]
    if len(pair) < ROWS_MIN:
        return f"{len(pair)} held-out prompts have an outcome of tier {tiers[index]}; {ROWS_MIN} are needed"
    if float(gains_of(pair).sum()) <= 0.0:
        return f"on the held-out prompts tier {tiers[-1]} is no better than {tiers[index]}: there is nothing to route"
    return ""


def lacking(judge: Examined, against_length: Sequence[Comparison]) -> str:
    """Why a judge is of no use on rows that it has not seen, whatever it is compared with; empty when it is.

    Of one tier at least it must be shown to order prompts better than chance, of none worse than their length does.
    """
    found = {tier: report.apgr for tier, report in judge.reports.items()}
    reasons = []
    if not any(apgr.low > CHANCE for apgr in found.values()):
        figures = ", ".join(
            f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f}), {tier}" for tier, each in found.items()
        )
        reasons.append(f"it is not shown to order prompts better than chance: APGR {figures}")
    reasons += [
        f"prompt length orders them better: APGR of tier {each.tier} is lower by {-each.apgr.value:.3f} "
        f"(95 %: {-each.apgr.high:.3f} to {-each.apgr.low:.3f})"
        for each in against_length
        if each.apgr.high < 0.0
    ]
    return "; ".join(reasons)


def compare(new: Scores, old: Scores, data: RouterData, *, seed: int) -> tuple[Comparison, ...]:
    """A comparison for each tier but the dearest, by a paired bootstrap over the rows where its outcome is known."""
    outcomes = _with_dearest(data.outcomes)
    return tuple(_compare(new, old, outcomes, index, tier, seed) for index, tier in enumerate(data.tiers[:-1]))


def _compare(new: Scores, old: Scores, outcomes: Floats, index: int, tier: str, seed: int) -> Comparison:
    known = ~np.isnan(outcomes[:, index])
    pair = outcomes[known][:, [index, -1]]
    gain, sufficed = gains_of(pair)[:, 0], sufficed_of(pair)[:, 0]
    needs = [judge.need[known, index] for judge in (new, old)]
    said = [None if judge.probabilities is None else judge.probabilities[known, index] for judge in (new, old)]

    def differences(rows: Labels) -> tuple[float, float]:
        order = [order_figures(need[rows], gain[rows])[0] if gain[rows].sum() > 0.0 else np.nan for need in needs]
        errors = [np.nan if p is None else binary_calibration_error(p[rows], sufficed[rows]) for p in said]
        return order[0] - order[1], errors[0] - errors[1]

    generator = np.random.default_rng(seed)
    drawn = np.asarray(
        [differences(generator.integers(0, len(gain), size=len(gain))) for _ in range(ROUNDS if len(gain) else 0)]
    ).reshape(-1, 2)
    found = differences(np.arange(len(gain))) if len(gain) else (float("nan"), float("nan"))
    apgr, ece = (_interval(found[column], drawn[:, column]) for column in range(2))
    worse = ""
    if apgr.high < 0.0:
        worse = f"APGR of tier {tier} is lower by {-apgr.value:.3f} (95 %: {-apgr.high:.3f} to {-apgr.low:.3f})"
    elif ece.low > 0.0 and ece.value >= ECE_WORSE_MIN:
        worse = f"ECE of tier {tier} is greater by {ece.value:.3f} (95 %: {ece.low:.3f} to {ece.high:.3f})"
    return Comparison(tier, len(gain), apgr, ece, worse)


def _interval(value: float, drawn: Floats) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(value, float(low), float(high))
