"""What each layer's findings come to, as a classification with its reason. Pure.

Promises: probabilities sum to 1, the confidence is that of the most probable complexity, signals come strongest first,
and the prompt appears in none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.classifier.head import HeadJudgement, log_odds
from services.classifier.heuristics import HEURISTICS_VERSION, TASK_TYPES, HeuristicJudgement
from services.classifier.small_llm import Opinion, blend
from spillway.routing import Classification, Complexity, Layer, Signal

__all__ = ["Verdict", "by_embedding", "by_heuristics", "by_small_llm", "strongest_first"]

REASON_SIGNALS_MAX = 3
COMPLEXITY_ORDER = (Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A classification, and the probabilities of TASK_TYPES behind its task type."""

    classification: Classification
    task_probabilities: tuple[float, ...]


def strongest_first(signals: Sequence[Signal]) -> tuple[Signal, ...]:
    """In the order in which they are told."""
    return tuple(sorted(signals, key=lambda signal: -abs(signal.contribution)))


def by_heuristics(words: HeuristicJudgement, why: str) -> Verdict:
    """The words alone, and why there is no more."""
    best = _most_probable(words.probabilities)
    classification = Classification(
        task_type=TASK_TYPES[_most_probable(words.task_probabilities)],
        complexity=COMPLEXITY_ORDER[best],
        probabilities=_unit_sum(words.probabilities),
        confidence=words.confidence,
        layer=Layer.HEURISTICS,
        signals=words.signals,
        reason=f"heuristics say {COMPLEXITY_ORDER[best]} ({words.confidence:.2f}), {why}: {_named(words.signals)}",
        version=HEURISTICS_VERSION,
        language=words.language,
    )
    return Verdict(classification, words.task_probabilities)


def by_embedding(words: HeuristicJudgement, learned: HeadJudgement, version: str) -> Verdict:
    """The head's judgement, into which the words' is blended."""
    best = _most_probable(learned.complexity)
    confidence = learned.complexity[best]
    near = f"nearest labelled example at cosine {learned.nearest_similarity:.2f}"
    shift = Signal(
        name="embedding",
        value=max(0.0, min(1.0, learned.nearest_similarity)),
        contribution=log_odds(learned.complexity[2]) - log_odds(words.probabilities[2]),
        evidence=f"moves the log-odds of complex; {near}",
    )
    far = ", far from all of them" if learned.out_of_domain >= 0.5 else ""
    classification = Classification(
        task_type=TASK_TYPES[_most_probable(learned.task)],
        complexity=COMPLEXITY_ORDER[best],
        probabilities=_unit_sum(learned.complexity),
        confidence=confidence,
        layer=Layer.EMBEDDING,
        signals=strongest_first((*words.signals, shift)),
        reason=f"embedding and words say {COMPLEXITY_ORDER[best]} ({confidence:.2f}); {near}{far}; "
        f"words: {_named(words.signals)}",
        version=version,
        out_of_domain=learned.out_of_domain,
        language=words.language,
    )
    return Verdict(classification, learned.task)


def by_small_llm(below: Verdict, opinion: Opinion) -> Verdict:
    """The verdict below with a small LLM's opinion blended in."""
    found = below.classification
    probabilities, task = blend(found.probabilities, below.task_probabilities, opinion)
    best = _most_probable(probabilities)
    shift = Signal(
        name="small_llm",
        value=opinion.confidence,
        contribution=log_odds(probabilities[2]) - log_odds(found.probabilities[2]),
        evidence=f"says {opinion.complexity}, {opinion.confidence:.2f} sure; moves the log-odds of complex",
    )
    classification = replace(
        found,
        task_type=TASK_TYPES[_most_probable(task)],
        complexity=COMPLEXITY_ORDER[best],
        probabilities=probabilities,
        confidence=probabilities[best],
        layer=Layer.SMALL_LLM,
        signals=strongest_first((*found.signals, shift)),
        reason=f"with a small LLM that says {opinion.complexity}, {COMPLEXITY_ORDER[best]} "
        f"({probabilities[best]:.2f}); below it: {found.reason}",
    )
    return Verdict(classification, task)


def _most_probable(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def _unit_sum(values: Sequence[float]) -> tuple[float, float, float]:
    simple, medium, complex_ = values
    total = simple + medium + complex_
    return simple / total, medium / total, complex_ / total


def _named(signals: Sequence[Signal]) -> str:
    telling = [signal.name for signal in signals if signal.contribution != 0.0][:REASON_SIGNALS_MAX]
    return ", ".join(telling) if telling else "no telling signal"
