"""Ways to decide a semantic hit that others use, over one order of a stream: what online control is held against.

Promises: pure; each way stores what missed, with its right answer; only the truth counted in the tally knows of hits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lab.cache_runs import Run, Tally

__all__ = ["Judge", "exact_run", "per_entry_run", "threshold_run", "verifier_run"]

Vectors = npt.NDArray[np.float32]
Answers = npt.NDArray[np.int64]

# The per-entry rule's posterior over where an entry's answers stop being right, and how sharply.
_MIDDLES: Final = np.linspace(0.4, 1.1, 36)
_SLOPES: Final = np.asarray((5.0, 10.0, 20.0, 40.0, 80.0))


class Judge(Protocol):
    """What is known of two questions, by their rows."""

    def logit(self, a: int, b: int, similarity: float) -> float:
        """Log odds that they have one answer."""

    def refusal(self, asked: int, stored: Sequence[int], aliases: int) -> str:
        """Why a guard refuses; empty when none does."""


def exact_run(texts: Sequence[str], answers: Answers, order: Sequence[int]) -> Run:
    """The same text, but for case and spacing."""
    known: dict[str, int] = {}
    tally = Tally()
    for row in order:
        key = " ".join(texts[row].casefold().split())
        hit = key in known
        tally.add(hit=hit, wrong=hit and known[key] != int(answers[row]))
        known.setdefault(key, int(answers[row]))
    return tally.run()


def threshold_run(similarities: Vectors, answers: Answers, order: Sequence[int], threshold: float) -> Run:
    """The nearest stored question's answer, from a similarity on."""
    return _nearest_run(similarities, answers, order, lambda row, best, similarity: bool(similarity >= threshold))


def verifier_run(similarities: Vectors, answers: Answers, order: Sequence[int], bar: float, judge: Judge) -> Run:
    """The nearest stored question's answer, when no guard speaks and the pair model's log odds reach a fixed bar."""

    def serves(row: int, best: int, similarity: np.float32) -> bool:
        return judge.logit(row, best, float(similarity)) >= bar and not judge.refusal(row, [best], 1)

    return _nearest_run(similarities, answers, order, serves)


def _nearest_run(
    similarities: Vectors, answers: Answers, order: Sequence[int], serves: Callable[[int, int, np.float32], bool]
) -> Run:
    """The nearest stored question's answer, where `serves` (rows of the two questions, their similarity) says so."""
    tally = Tally()
    stored = np.zeros(len(order), dtype=np.int64)
    count = 0
    for row in order:
        hit = wrong = False
        if count:
            found = similarities[row, stored[:count]]
            nearest = int(found.argmax())
            best = int(stored[nearest])
            hit = serves(row, best, found[nearest])
            wrong = hit and bool(answers[best] != answers[row])
        tally.add(hit=hit, wrong=wrong)
        if not hit:
            stored[count] = row
            count += 1
    return tally.run()


def per_entry_run(similarities: Vectors, answers: Answers, order: Sequence[int], error: float, random: Random) -> Run:
    """A logistic rule of similarity for each entry, after vCache: posterior over its two parameters, uniform prior.

    The nearest entry's answer is served with a chance such that P(served and wrong), by the posterior mean, is at most
    `error`; otherwise the model is asked, which tells the entry one more outcome. The right answer, when it is another,
    becomes an entry.
    """
    tally = Tally()
    grid = len(_MIDDLES) * len(_SLOPES)
    stored = np.zeros(len(order), dtype=np.int64)
    posterior = np.zeros((len(order), grid))
    middles, slopes = (part.ravel() for part in np.meshgrid(_MIDDLES, _SLOPES, indexing="ij"))
    count = 0
    for row in order:
        hit = wrong = same = False
        if count:
            found = similarities[row, stored[:count]]
            best = int(found.argmax())
            same = bool(answers[stored[best]] == answers[row])
            right = 1.0 / (1.0 + np.exp(-slopes * (float(found[best]) - middles)))
            weight = np.exp(posterior[best] - posterior[best].max())
            doubt = 1.0 - float(weight @ right / weight.sum())
            hit = random.random() < min(1.0, error / max(doubt, 1e-9))
            wrong = hit and not same
            if not hit:
                posterior[best] += np.log(np.clip(right if same else 1.0 - right, 1e-12, 1.0))
        tally.add(hit=hit, wrong=wrong)
        if not hit and not same:
            stored[count] = row
            count += 1
    return tally.run()
