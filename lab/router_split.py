"""Which prompts a head is fitted to and which it is examined on, and of which tiers enough is known for both.

Promises: near duplicates are on one side. A group's side follows from its prompts and the seed, not from their place in
the files; it can change when a new near duplicate joins the group, or two groups become one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.near_duplicates import group_near_duplicates
from lab.router_data import RouterRows
from lab.router_exam import ROWS_MIN as EXAMINED_MIN
from lab.router_exam import held_out
from lab.router_fit import ROWS_MIN
from lab.router_inputs import InputError, Inputs, remark
from lab.router_outcomes import gains_of
from lab.router_prepare import Prepared

__all__ = ["Split", "split_of", "without_thin_tiers"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are fitted, which are examined, and the card's words on it."""

    fit: Mask
    exam: Mask
    words: dict[str, Any]


def split_of(inputs: Inputs, rows: RouterRows, prepared: Prepared, options: argparse.Namespace) -> Split:
    """By files of their own, or a share of the groups of near duplicates."""
    group = group_near_duplicates(prepared.data.texts, prepared.data.vectors)
    if options.held_out:
        own = set(inputs.read(options.held_out).prompts)
        exam = np.asarray([prompt in own for prompt in rows.prompts])
        fit, rule = ~np.isin(group, group[exam]), "files of their own; what is near them was not fitted"
    else:
        exam = held_out(group, prepared.prints, options.test_share, seed=options.seed)
        fit, rule = ~exam, f"{options.test_share:g} of the groups of near duplicates, chosen by content and seed"
    counts = {"groups": len(np.unique(group)), "fitted": int(fit.sum()), "held_out": int(exam.sum())}
    return Split(fit, exam, {"rule": rule, "seed": options.seed, **counts})


def without_thin_tiers(prepared: Prepared, split: Split) -> Prepared:
    """Without the tiers of which too little is known to fit and to examine. Raises InputError when none is left."""
    fitted = (~np.isnan(gains_of(prepared.data.outcomes[split.fit]))).sum(axis=0)
    examined = (~np.isnan(prepared.data.outcomes[split.exam, :-1])).sum(axis=0)
    kept = np.flatnonzero((fitted >= ROWS_MIN) & (examined >= EXAMINED_MIN)).tolist()
    for index in sorted(set(range(len(fitted))) - set(kept)):
        remark(
            f"tier {prepared.data.tiers[index]}: {fitted[index]} outcomes to fit and {examined[index]} held out, "
            f"{ROWS_MIN} and {EXAMINED_MIN} are needed; the head leaves it out, and its P is the next cheaper tier's"
        )
    if not kept:
        raise InputError("no tier but the dearest has enough outcomes")
    return prepared.tiers([*kept, len(prepared.data.tiers) - 1])
