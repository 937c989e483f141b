"""A trained head's card, and reports as plain values for JSON. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lab.metrics import Interval
from lab.router_data import FileFacts
from lab.router_exam import Comparison, Exam
from lab.router_report import RouterReport
from services.classifier.sufficiency import SufficiencyModel

__all__ = ["comparisons_values", "exam_values", "files_values", "head_card"]

NOTES = (
    "All figures are of prompts that the head was not fitted to, as it is served: rounded, and drawn to the floor far "
    "from its training. Intervals are 95 % bootstraps over prompts.",
    "Of a decision log only prompts are known whose cheap tier was asked: what policy sent elsewhere is not in these "
    "figures. Where the dearest tier was not asked it is taken to be good.",
    "A head learns what the prompts of its log are about more than how hard they are: on other prompts expect less.",
)


def head_card(
    model: SufficiencyModel,
    artifact: bytes,
    *,
    date: str,
    data: Mapping[str, Any],
    split: Mapping[str, Any],
    exam: Exam,
    in_use: str,
    comparisons: Sequence[Comparison],
    seed: int,
    forced: bool,
) -> dict[str, Any]:
    """The card that goes with the artifact."""
    return {
        "version": model.version,
        "date": date,
        "seed": seed,
        "embedding_model": model.embedding_model,
        "tiers": list(model.tiers),
        "artifact_sha256": hashlib.sha256(artifact).hexdigest(),
        "artifact_bytes": len(artifact),
        "data": dict(data),
        "split": dict(split),
        "figures": exam_values(exam),
        "in_use_then": in_use,
        "against_it": comparisons_values(comparisons),
        "forced": forced,
        "notes": list(NOTES),
    }


def files_values(files: Sequence[FileFacts]) -> list[dict[str, Any]]:
    """Each file: its name, its hash, what became of its lines."""
    return [asdict(facts) for facts in files]


def comparisons_values(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Paired differences, new minus old."""
    return [
        {
            "tier": each.tier,
            "rows": each.rows,
            "apgr_difference": _interval(each.apgr),
            "ece_difference": _interval(each.ece),
            "worse": each.worse,
        }
        for each in comparisons
    ]


def exam_values(exam: Exam) -> dict[str, Any]:
    """Figures of each judge by tier."""
    return {
        "rows": exam.rows,
        "dearest_assumed_good": exam.assumed,
        "left_out": list(exam.left_out),
        "judges": {
            judge.name: {tier: _report(report) for tier, report in judge.reports.items()} for judge in exam.judges
        },
    }


def _report(report: RouterReport) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "accuracy_of_tier": _number(report.weak_accuracy),
        "accuracy_of_dearest": _number(report.strong_accuracy),
        "apgr": _interval(report.apgr),
        "cpt50_percent": _interval(report.cpt50),
        "cpt80_percent": _interval(report.cpt80),
        "ece": _interval(report.ece),
        "curve": [{name: _number(value) for name, value in asdict(point).items()} for point in report.curve],
        "reliability": [{name: _number(value) for name, value in asdict(row).items()} for row in report.reliability],
        "kinds": {
            kind.kind: {
                "rows": kind.rows,
                "accuracy_of_tier": _number(kind.weak_accuracy),
                "accuracy_of_dearest": _number(kind.strong_accuracy),
                "apgr": _interval(kind.apgr),
                "ece": _number(kind.ece),
            }
            for kind in report.kinds
        },
    }


def _number(value: float) -> float | None:
    """Rounded; None for what is no number, which JSON lacks."""
    return round(value, 4) if math.isfinite(value) else None


def _interval(found: Interval) -> dict[str, float | None]:
    return {"value": _number(found.value), "low": _number(found.low), "high": _number(found.high)}
