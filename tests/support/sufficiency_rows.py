"""Prompts made up for tests of the model of sufficient tiers: words, counts and vector all tell how hard one is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lab.router_outcomes import RouterData

__all__ = ["DIMENSIONS", "TIERS", "easy_and_hard", "unit"]

DIMENSIONS = 16
TIERS = ("small", "middle", "large")
_EASY = ("Name a fruit that is {}", "What is the colour of a {} ball?", "Say hello to {} in one word")
_HARD = (
    "Prove that every {} group of order {} is solvable, and derive the bound $x^2 \\leq {}$ in full",
    "Implement a lock-free {} queue with {} writers; explain why no {} is lost",
)
_WORDS = ("red", "green", "lime", "plum", "sour", "bright", "round", "finite", "nested", "ordered", "sparse", "dense")


def unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def easy_and_hard(count: int, *, seed: int) -> RouterData:
    """`count` prompts, every second one hard. The small tier answers nine easy ones in ten and one hard one in ten, the
    middle tier six hard ones in ten, the large tier all."""
    generator = np.random.default_rng(seed)
    texts, outcomes, vectors = [], [], []
    for row in range(count):
        hard = row % 2
        words = [_WORDS[index] for index in generator.integers(0, len(_WORDS), size=3)]
        forms = _HARD if hard else _EASY
        texts.append(forms[int(generator.integers(0, len(forms)))].format(*words) + f" ({row})")
        luck = generator.random()
        outcomes.append([float(luck < (0.1 if hard else 0.9)), float(luck < (0.6 if hard else 0.98)), 1.0])
        centre = np.zeros(DIMENSIONS)
        centre[hard] = 2.0
        vectors.append(centre + generator.normal(scale=0.5, size=DIMENSIONS))
    return RouterData.of(texts, unit(np.asarray(vectors)), TIERS, np.asarray(outcomes))
