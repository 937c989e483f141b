"""How good a router is on prompts that it was not fitted to: order, cost, calibration, with intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.metrics import APGR_STEPS as CURVE_STEPS
from lab.metrics import (
    CALIBRATION_BINS,
    Interval,
    binary_calibration_error,
    bootstrap_rows,
    recovered_gap,
)
from lab.router_outcomes import gains_of, sufficed_of

__all__ = ["BinRow", "CurvePoint", "KindRow", "RouterReport", "evaluate_router", "order_figures", "reliability"]

Floats = npt.NDArray[np.float64]

ROUNDS = 500
# A kind of work with fewer rows has no figure worth printing.
KIND_ROWS_MIN = 30


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """At a share of prompts sent to the dearest tier: accuracy of what is answered, and mean cost (nan if unknown)."""

    strong_share: float
    accuracy: float
    cost: float


@dataclass(frozen=True, slots=True)
class BinRow:
    """One bar of a reliability diagram: rows whose P lies in [low, high), their mean P and how many sufficed."""

    low: float
    high: float
    rows: int
    said: float
    was: float


@dataclass(frozen=True, slots=True)
class KindRow:
    """The figures of one kind of work. `ece` is nan without probabilities."""

    kind: str
    rows: int
    weak_accuracy: float
    strong_accuracy: float
    apgr: Interval
    ece: float


@dataclass(frozen=True, slots=True)
class RouterReport:
    """Figures of one score on held-out rows. CPT in percent of strong calls; intervals are 95 %, over rows."""

    rows: int
    weak_accuracy: float
    strong_accuracy: float
    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    ece: Interval
    curve: tuple[CurvePoint, ...]
    reliability: tuple[BinRow, ...]
    kinds: tuple[KindRow, ...]


def order_figures(need: Floats, gain: Floats) -> tuple[float, float, float]:
    """APGR, CPT(50 %), CPT(80 %) of sending prompts to the dearer model in falling order of `need`; `gain` is what that
    adds to each, -1 to 1. As `lab.metrics` has them, from one pass over the curve."""
    curve = recovered_gap(need, np.zeros_like(gain), gain)
    places = np.arange(len(curve))
    at = np.interp(np.linspace(0, len(need), CURVE_STEPS + 1), places, curve)
    reached = [np.flatnonzero(curve >= share - 1e-12) for share in (0.5, 0.8)]
    thresholds = [100.0 * found[0] / len(need) if len(found) else float("nan") for found in reached]
    return float((at[:-1] + at[1:]).mean() / 2.0), float(thresholds[0]), float(thresholds[1])


def reliability(probabilities: Floats, sufficed: Floats) -> tuple[BinRow, ...]:
    """Rows by what was said of them, in bins of equal width; empty bins are left out."""
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows = []
    for index in range(CALIBRATION_BINS):
        inside = bins == index
        if inside.any():
            said, was = float(probabilities[inside].mean()), float(sufficed[inside].mean())
            low = index / CALIBRATION_BINS
            rows.append(BinRow(low, low + 1.0 / CALIBRATION_BINS, int(inside.sum()), said, was))
    return tuple(rows)


def _curve(need: Floats, weak: Floats, strong: Floats, costs: Floats | None) -> tuple[CurvePoint, ...]:
    order = np.argsort(-need, kind="stable")
    points = []
    for step in range(CURVE_STEPS + 1):
        up = np.zeros(len(need), dtype=bool)
        up[order[: round(step / CURVE_STEPS * len(need))]] = True
        cost = float("nan") if costs is None else float(np.where(up, costs[:, -1], costs[:, 0]).mean())
        points.append(CurvePoint(float(up.mean()), float(np.where(up, strong, weak).mean()), cost))
    return tuple(points)


def evaluate_router(
    need: Floats,
    outcomes: Floats,
    *,
    probabilities: Floats | None = None,
    costs: Floats | None = None,
    kinds: Sequence[str] | None = None,
    tier: int = 0,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> RouterReport:
    """Figures of a score that says how much each prompt needs the dearest tier rather than `tier`.

    `need` [n]: the model's gain of that tier, or 1 - P, or a prompt's length. `outcomes` [n, t] as in RouterData; rows
    where `tier` or the dearest is unknown are left out. `probabilities` [n]: P(`tier` suffices), for calibration.
    `costs` [n, t] in any unit. `kinds`: the kind of work of each row. Raises ValueError when no row is known.
    """
    pair = outcomes[:, [tier, -1]]
    known = ~np.isnan(pair).any(axis=1)
    if not known.any():
        message = "no row has an outcome of both tiers"
        raise ValueError(message)
    need, pair = need[known], pair[known]
    weak, strong = pair[:, 0], pair[:, 1]
    gain, sufficed = gains_of(pair)[:, 0], sufficed_of(pair)[:, 0]
    said = None if probabilities is None else probabilities[known]
    paid = None if costs is None else costs[known][:, [tier, -1]]

    drawn = np.asarray(
        [
            order_figures(need[rows], gain[rows])
            for rows in np.random.default_rng(seed).integers(0, len(need), size=(rounds, len(need)))
        ]
    )
    figures = order_figures(need, gain)
    low, high = np.nanquantile(drawn, 0.025, axis=0), np.nanquantile(drawn, 0.975, axis=0)
    apgr, cpt50, cpt80 = (Interval(figures[i], float(low[i]), float(high[i])) for i in range(3))

    def calibration(rows: npt.NDArray[np.int64]) -> float:
        return float("nan") if said is None else binary_calibration_error(said[rows], sufficed[rows])

    named = np.asarray(list(kinds) if kinds is not None else [], dtype=object)
    rows_of = {} if kinds is None else {kind: np.flatnonzero(named[known] == kind) for kind in sorted(set(kinds))}
    return RouterReport(
        rows=len(need),
        weak_accuracy=float(weak.mean()),
        strong_accuracy=float(strong.mean()),
        apgr=apgr,
        cpt50=cpt50,
        cpt80=cpt80,
        ece=bootstrap_rows(calibration, len(need), seed=seed, rounds=rounds),
        curve=_curve(need, weak, strong, paid),
        reliability=() if said is None else reliability(said, sufficed),
        kinds=tuple(
            KindRow(
                kind=kind,
                rows=len(rows),
                weak_accuracy=float(weak[rows].mean()),
                strong_accuracy=float(strong[rows].mean()),
                apgr=bootstrap_rows(
                    lambda drawn_, rows=rows: order_figures(need[rows[drawn_]], gain[rows[drawn_]])[0],  # type: ignore[misc]
                    len(rows),
                    seed=seed,
                    rounds=rounds,
                ),
                ece=calibration(rows),
            )
            for kind, rows in rows_of.items()
            if len(rows) >= KIND_ROWS_MIN
        ),
    )
