"""Prompts with outcomes, made up: chores that a cheap tier manages, and proofs that it does not."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lab.router_fit import fit_router
from lab.router_outcomes import RouterData
from services.classifier.embedder import HashEmbedder
from services.classifier.sufficiency import SufficiencyModel

__all__ = ["fitted", "made_up", "write_outcomes"]

_CHORES = """
bread kettle towel bucket garden broom window carpet candle drawer kitchen laundry curtain pillow shelf lamp spoon apron
basket blanket bottle button cupboard fence hammer ladder mirror needle oven pantry ribbon saucer
"""
_PROOFS = """
lemma converge manifold eigenvalue isomorphism cohomology bounded measurable functor kernel compact topology integral
operator spectrum holomorphic lattice ideal quotient monoid theorem corollary homotopy tensor ergodic martingale sheaf
curvature simplex orbit stabiliser cardinal
"""


def made_up(count: int, seed: int, *, noise: float = 0.1) -> list[tuple[str, bool]]:
    """Prompts, and whether the cheap tier managed; no two share a run of four words."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        hard = number % 2 == 1
        words = [chance.choice((_PROOFS if hard else _CHORES).split()) for _ in range(chance.randrange(8, 14))]
        rows.append((" ".join(words), (not hard) != (chance.random() < noise)))
    return rows


def write_outcomes(path: Path, rows: Iterable[tuple[str, bool]]) -> Path:
    """JSON lines of them; the tier `complex` manages all."""
    lines = [
        json.dumps({"prompt": prompt, "task_type": "other", "outcomes": {"simple": managed, "complex": True}})
        for prompt, managed in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fitted(version: str, *, seed: int = 1, inverted: bool = False) -> SufficiencyModel:
    """A head of tiers simple and complex over HashEmbedder's vectors; `inverted`: it believes the opposite."""
    rows = made_up(160, seed)
    texts = [prompt for prompt, _ in rows]
    vectors = asyncio.run(HashEmbedder().embed(texts))
    managed = np.asarray([outcome != inverted for _, outcome in rows], dtype=np.float64)
    outcomes = np.stack([managed, np.ones(len(rows))], axis=1)
    data = RouterData.of(texts, vectors, ("simple", "complex"), outcomes)
    return fit_router(data, version=version, embedding_model=HashEmbedder.model_id, seed=seed)
