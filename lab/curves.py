"""Draws the curves of a router: accuracy over the share (or cost) of strong calls, and how true its probabilities are.

Promises: in the terminal with plain characters, always, one letter a curve; as PNG where matplotlib is installed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from lab.router_exam import Exam
from lab.router_report import BinRow, CurvePoint

__all__ = ["can_draw", "curves_png", "curves_text", "exam_png", "reliability_text"]

COLUMNS = 61
LINES = 15
BAR_COLUMNS = 40
PNG_DPI = 110

Curves = Mapping[str, Sequence[CurvePoint]]


def can_draw() -> bool:
    """Whether PNGs can be drawn here."""
    return find_spec("matplotlib") is not None


def curves_text(curves: Curves) -> str:
    """Accuracy (up) over the share of strong calls (right); where curves meet, the one named first is seen."""
    points = [point for curve in curves.values() for point in curve]
    low, high = min(point.accuracy for point in points), max(point.accuracy for point in points)
    height = max(high - low, 1e-9)
    grid = [[" "] * COLUMNS for _ in range(LINES)]
    letters = {name: chr(ord("a") + index) for index, name in enumerate(curves)}
    for name, curve in reversed(list(curves.items())):
        columns = np.arange(COLUMNS)
        at = np.interp(
            columns / (COLUMNS - 1), [point.strong_share for point in curve], [point.accuracy for point in curve]
        )
        for column, accuracy in zip(columns.tolist(), at.tolist(), strict=True):
            grid[LINES - 1 - round((accuracy - low) / height * (LINES - 1))][column] = letters[name]
    lines = [
        f"{high - index * height / (LINES - 1):6.3f} |{''.join(line).rstrip()}" if index % 2 == 0 else
        f"       |{''.join(line).rstrip()}"
        for index, line in enumerate(grid)
    ]  # fmt: skip
    axis = "       +" + "-" * COLUMNS
    scale = "        0 %" + "50 %".center(COLUMNS - 8) + "100 %"
    legend = "  ".join(f"{letter} {name}" for name, letter in letters.items())
    return "\n".join(
        ["accuracy", *lines, axis, scale, "        share of prompts sent to the dearest tier", f"        {legend}"]
    )


def reliability_text(rows: Sequence[BinRow]) -> str:
    """A bar for each bin: how often the tier sufficed, with a mark at what was said."""
    lines = ["P(suffices) said   prompts   sufficed (bar), said (|)"]
    for row in rows:
        bar = list(("=" * round(row.was * BAR_COLUMNS)).ljust(BAR_COLUMNS + 1))
        bar[round(row.said * BAR_COLUMNS)] = "|"
        said = f"{row.low:.1f} to {row.high:.1f}"
        lines.append(f"{said:<16} {row.rows:9d}   {''.join(bar).rstrip():<{BAR_COLUMNS + 1}} {row.was:.2f}")
    return "\n".join(lines)


def exam_png(exam: Exam, dearest: str, subject: str) -> bytes:
    """Both diagrams of the cheapest tier that was examined, all judges in one. Needs matplotlib (`can_draw`)."""
    tier = next(iter(exam.judges[0].reports))
    found = {judge.name: judge.reports[tier] for judge in exam.judges}
    curves = {name: report.curve for name, report in found.items()}
    bars = {name: report.reliability for name, report in found.items() if report.reliability}
    return curves_png(curves, bars, f"{subject}: {tier} or {dearest}, {exam.rows} held-out prompts")


def curves_png(curves: Curves, reliability: Mapping[str, Sequence[BinRow]], title: str) -> bytes:
    """Both diagrams side by side. Needs matplotlib (`can_draw`)."""
    # Heavy, and of the extra `lab` alone.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    costs = all(np.isfinite(point.cost) for curve in curves.values() for point in curve)
    for name, curve in curves.items():
        across = [point.cost if costs else 100.0 * point.strong_share for point in curve]
        left.plot(across, [point.accuracy for point in curve], marker=".", label=name)
    left.set_xlabel("mean cost of a call" if costs else "prompts sent to the dearest tier, %")
    left.set_ylabel("accuracy")
    left.legend(fontsize=8)
    left.set_title(title, fontsize=10)
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, rows in reliability.items():
        right.plot([row.said for row in rows], [row.was for row in rows], marker="o", label=name)
    right.set_xlabel("P(suffices) said")
    right.set_ylabel("share that sufficed")
    right.legend(fontsize=8)
    right.set_title("reliability, on held-out prompts", fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=PNG_DPI)
    return stream.getvalue()
