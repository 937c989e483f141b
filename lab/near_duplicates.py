"""Puts near duplicates on one side of a split, so that no test row is a reworded training row. Pure and deterministic.

Two prompts are near duplicates when they share half of their rare word sequences (`lab.recorded.groups`, numbers
blanked) or when their embeddings are closer than COSINE_MIN; groups are closed under that relation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lab.joined import Joined
from lab.recorded import folds, groups

__all__ = ["COSINE_MIN", "group_near_duplicates", "grouped_folds", "grouped_split"]

COSINE_MIN = 0.95
# Prompts compared at once with all others: 1,000 x 100,000 similarities are 400 MB.
BLOCK_ROWS = 1_000

Labels = npt.NDArray[np.int64]


def group_near_duplicates(texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> Labels:
    """A number for each text, the same for near duplicates. `vectors`: unit length, [n, d]."""
    near = Joined(range(len(texts)))
    for index, number in enumerate(groups(texts).tolist() if len(texts) else []):
        near.join(index, number)
    for start in range(0, len(texts), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS]
        # The upper triangle is enough.
        rows, columns = np.nonzero(block @ vectors[start:].T >= COSINE_MIN)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column > row:
                near.join(start + row, start + column)
    return np.asarray([near.root(index) for index in range(len(texts))], dtype=np.int64)


def grouped_folds(group: Labels, count: int, *, seed: int, strata: Sequence[str] | None = None) -> Labels:
    """A fold, 0 to count - 1, for each row: groups whole, each stratum spread evenly."""
    return folds(group, ["all"] * len(group) if strata is None else strata, count, seed=seed)


def grouped_split(group: Labels, train_rows: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Marks the rows to train on: whole groups in random order, until there are `train_rows` or just more."""
    generator = np.random.default_rng(seed)
    names, where, counts = np.unique(group, return_inverse=True, return_counts=True)
    order = generator.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order] = before < train_rows
    return np.asarray(chosen[where], dtype=np.bool_)
