"""What each judge says of the same prompts: trained heads, the built-in one, heuristics, and the baselines. Pure.

A judge's `need` orders prompts by how much they need the dearest tier; `probabilities` are its P(tier suffices). Both
are as the service would say them, the pull towards the floor far from home included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.router_outcomes import RouterData, gains_of
from services.classifier.head import Head
from services.classifier.heuristics import judge
from services.classifier.sufficiency import SufficiencyModel
from services.classifier.tiers import Tiers
from spillway.chat import Message, Role

__all__ = [
    "LENGTH",
    "HeuristicRows",
    "Scores",
    "baselines",
    "by_builtin",
    "by_heuristics",
    "by_trained",
    "read_heuristics",
]

LENGTH = "length alone"
"""The name of the baseline that orders prompts by their length."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one judge: `need` [n, t - 1], a column for each tier but the dearest; `probabilities` alike, or None."""

    name: str
    need: Floats
    probabilities: Floats | None = None

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Scores:
        """These rows alone."""
        said = None if self.probabilities is None else self.probabilities[chosen]
        return Scores(self.name, self.need[chosen], said)


@dataclass(frozen=True, slots=True)
class HeuristicRows:
    """What the heuristics say of each prompt: P(complexity) [n, 3] and P(task type) [n, 12]."""

    complexity: Floats
    task: Floats


def read_heuristics(prompts: Sequence[str]) -> HeuristicRows:
    """The heuristics' judgement of each prompt, alone in its conversation."""
    found = [judge((Message.of(Role.USER, prompt),), has_tools=False) for prompt in prompts]
    return HeuristicRows(
        np.asarray([each.probabilities for each in found], dtype=np.float64).reshape(len(found), -1),
        np.asarray([each.task_probabilities for each in found], dtype=np.float64).reshape(len(found), -1),
    )


def by_trained(name: str, model: SufficiencyModel, data: RouterData, ladder: Tiers) -> Scores:
    """A trained head. It may know other tiers than the data's; the service's rule says what it thinks of those."""
    _, said, _ = model.judge_many(data.vectors, data.lexical)
    whole = np.concatenate([said, np.ones((len(data), 1))], axis=1)
    return _by_probability(name, ladder.by_tier(model.tiers, whole), ladder, data.tiers)


def by_heuristics(rows: HeuristicRows, ladder: Tiers, tiers: Sequence[str]) -> Scores:
    """The heuristics alone."""
    return _by_probability("heuristics alone", ladder.by_complexity(rows.complexity), ladder, tiers)


def by_builtin(head: Head, rows: HeuristicRows, data: RouterData, ladder: Tiers) -> Scores:
    """What the service says without a trained head."""
    complexity, *_ = head.judge_many(data.vectors.astype(np.float64), rows.complexity, rows.task)
    return _by_probability("builtin", ladder.by_complexity(complexity), ladder, data.tiers)


def baselines(data: RouterData, seed: int) -> tuple[Scores, ...]:
    """Prompt length, random order, and the oracle that knows the outcomes."""
    wide = (1, len(data.tiers) - 1)
    length = np.asarray([float(len(text)) for text in data.texts])
    chance = np.random.default_rng(seed).random(len(data))
    best = np.nan_to_num(gains_of(data.outcomes))
    return (
        Scores(LENGTH, np.tile(length[:, None], wide)),
        Scores("random", np.tile(chance[:, None], wide)),
        Scores("oracle", best),
    )


def _by_probability(name: str, said: Floats, ladder: Tiers, tiers: Sequence[str]) -> Scores:
    chosen = said[:, [ladder.names.index(tier) for tier in tiers[:-1]]]
    return Scores(name, 1.0 - chosen, chosen)
