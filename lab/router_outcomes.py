"""Prompts and how each tier did on them, as arrays, and what the dearest tier adds to each other one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classifier.lexical import Lexical, read

__all__ = ["RouterData", "gains_of", "sufficed_of"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RouterData:
    """Prompts and how each tier did. n rows, t tiers, cheapest first.

    `vectors`: unit length, float32 [n, d], of the embedding model that will serve. `outcomes`: [n, t], 1 where the
    tier's answer was good, 0 where not, anything between for a grade, nan where the tier was not asked.
    """

    texts: tuple[str, ...]
    vectors: Singles
    tiers: tuple[str, ...]
    outcomes: Floats
    lexical: tuple[Lexical, ...]

    @classmethod
    def of(
        cls, texts: Sequence[str], vectors: npt.NDArray[np.float32], tiers: Sequence[str], outcomes: Floats
    ) -> RouterData:
        """Checks the shapes and reads the texts (0.3 ms each). Raises ValueError."""
        vectors = np.asarray(vectors, dtype=np.float32)
        outcomes = np.asarray(outcomes, dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(texts) or outcomes.shape != (len(texts), len(tiers)):
            message = "texts, vectors and outcomes must have the same rows, and outcomes a column for each tier"
            raise ValueError(message)
        known = outcomes[~np.isnan(outcomes)]
        if len(tiers) < 2 or not np.isfinite(vectors).all() or bool(((known < 0.0) | (known > 1.0)).any()):
            message = "there must be two tiers or more, finite vectors, and outcomes from 0 to 1"
            raise ValueError(message)
        return cls(tuple(texts), vectors, tuple(tiers), outcomes, tuple(read(text) for text in texts))

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, chosen: npt.NDArray[np.bool_] | Labels) -> RouterData:
        """The chosen rows, by mask or by index."""
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        picked = index.tolist()
        return RouterData(
            tuple(self.texts[row] for row in picked),
            self.vectors[index],
            self.tiers,
            self.outcomes[index],
            tuple(self.lexical[row] for row in picked),
        )


def gains_of(outcomes: Floats) -> Floats:
    """What the dearest tier adds to each tier but itself, [n, t - 1] from -1 to 1; nan where nothing is known.

    Where the dearest tier was not asked, it is taken to be good; where a tier was not asked but a cheaper one's answer
    was good, the tier is taken to suffice.
    """
    last = np.where(np.isnan(outcomes[:, -1]), 1.0, outcomes[:, -1])
    gains = last[:, None] - outcomes[:, :-1]
    sufficed = np.zeros(len(outcomes), dtype=bool)
    for tier in range(gains.shape[1]):
        unknown = np.isnan(gains[:, tier])
        gains[unknown & sufficed, tier] = 0.0
        sufficed |= ~unknown & (outcomes[:, tier] >= 1.0)
    return gains


def sufficed_of(outcomes: Floats) -> Floats:
    """How far each tier but the dearest sufficed: 1 where the dearest adds nothing, [n, t - 1]; nan where unknown."""
    return np.asarray(1.0 - np.maximum(gains_of(outcomes), 0.0), dtype=np.float64)
