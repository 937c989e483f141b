"""What a prompt was judged to be, and how answers to prompts like it turned out. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Classification",
    "Complexity",
    "Layer",
    "OutcomeSource",
    "Signal",
    "TaskType",
    "TierOutcome",
    "TierSufficiency",
]


class TaskType(StrEnum):
    """What kind of work a prompt asks for."""

    CHITCHAT = "chitchat"
    FACTUAL_QA = "factual_qa"
    SUMMARIZATION = "summarization"
    EXTRACTION = "extraction"
    CLASSIFICATION = "classification"
    REWRITING = "rewriting"
    TRANSLATION = "translation"
    CODE = "code"
    MATH = "math"
    REASONING = "reasoning"
    CREATIVE = "creative"
    OTHER = "other"


class Complexity(StrEnum):
    """How hard a prompt is."""

    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"


class Layer(StrEnum):
    """Which layer of the classifier decided."""

    HEURISTICS = "heuristics"
    EMBEDDING = "embedding"
    SMALL_LLM = "small_llm"


@dataclass(frozen=True, slots=True)
class Signal:
    """One observation: `value` in [0, 1], `contribution` is what it added to the score for complex."""

    name: str
    value: float
    contribution: float
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class TierSufficiency:
    """How likely it is, 0 to 1, that an answer of `tier` is good enough."""

    tier: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """How hard a prompt was judged to be. `probabilities` are P(simple), P(medium), P(complex); they sum to 1.

    `sufficiency` is of every configured tier, cheapest first; it never falls, and is 1 for the last.
    Empty where a trained head is in use and had nothing to judge by. `language` is ISO 639-1, empty when not known.
    """

    task_type: TaskType
    complexity: Complexity
    probabilities: tuple[float, float, float]
    confidence: float
    layer: Layer
    signals: tuple[Signal, ...] = ()
    reason: str = ""
    version: str = ""
    out_of_domain: float | None = None
    sufficiency: tuple[TierSufficiency, ...] = ()
    cluster: str = ""
    language: str = ""


class OutcomeSource(StrEnum):
    """Who says how an answer turned out."""

    GATES = "gates"
    FEEDBACK = "feedback"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class TierOutcome:
    """How an answer of `tier` to a prompt of `cluster` turned out."""

    cluster: str
    tier: str
    sufficed: bool
    source: OutcomeSource
