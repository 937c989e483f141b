"""The layers of the classifier: heuristics, and above them the embedding with the learned head.

Promises: always an answer. The heuristics decide alone when they are sure and no embedding is wanted; else the
embedding layer decides, blended with the heuristics; when there is no model, or it fails or takes too long, the
heuristics decide after all. Every answer says which layer decided and why. The prompt appears in none of it.

P(tier suffices) comes from the trained head while one is in use, which then judges every prompt that can be embedded,
so that a threshold means one thing; else it is derived from the probabilities of complexity. The version of an answer
is that of the trained head if it spoke, and an answer rests on one version of it, whatever is exchanged meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.classifier.embedder import Embedder, EmbedderError, EmbedderOverloadedError
from services.classifier.head import Head, HeadError, HeadJudgement
from services.classifier.heuristics import HEURISTICS_VERSION, TASK_TYPES, HeuristicJudgement, judge
from services.classifier.sufficiency import SufficiencyError, SufficiencyModel
from services.classifier.tiers import DEFAULT_TIERS, Tiers
from spillway.chat import Message, Role
from spillway.routing import Classification, Complexity, Layer, Signal, TaskType

__all__ = ["Classifier", "Judgement"]

# Heuristics that are sure of the complexity but not of the kind of work do not decide alone: policy uses both.
TASK_CONFIDENCE_MIN = 0.5
# The rest of the caller's time is for the answer's way back.
EMBEDDING_TIME_SHARE = 0.8
REASON_SIGNALS_MAX = 3
COMPLEXITY_ORDER = (Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A classification, and the embedding of the last user turn if one was made: unit vector and its model."""

    classification: Classification
    vector: npt.NDArray[np.float32] | None = None
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class _Embedded:
    """The vector, or why there is none."""

    vector: npt.NDArray[np.float32] | None
    trouble: str = ""


def _last_user_text(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role is Role.USER), "")


def _most_probable(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1.0 - 1e-6)
    return float(np.log(bounded / (1.0 - bounded)))


def _unit_sum(values: Sequence[float]) -> tuple[float, float, float]:
    simple, medium, complex_ = values
    total = simple + medium + complex_
    return simple / total, medium / total, complex_ / total


def _row(probabilities: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray([probabilities], dtype=np.float64)


def _named(signals: Sequence[Signal]) -> str:
    telling = [signal.name for signal in signals if signal.contribution != 0.0][:REASON_SIGNALS_MAX]
    return ", ".join(telling) if telling else "no telling signal"


def _by_heuristics(words: HeuristicJudgement, why: str) -> Classification:
    best = _most_probable(words.probabilities)
    return Classification(
        task_type=TASK_TYPES[_most_probable(words.task_probabilities)],
        complexity=COMPLEXITY_ORDER[best],
        probabilities=_unit_sum(words.probabilities),
        confidence=words.confidence,
        layer=Layer.HEURISTICS,
        signals=words.signals,
        reason=f"heuristics say {COMPLEXITY_ORDER[best]} ({words.confidence:.2f}), {why}: {_named(words.signals)}",
        version=HEURISTICS_VERSION,
    )


def _by_embedding(words: HeuristicJudgement, learned: HeadJudgement, version: str) -> Classification:
    best = _most_probable(learned.complexity)
    task: TaskType = TASK_TYPES[_most_probable(learned.task)]
    confidence = learned.complexity[best]
    near = f"nearest labelled example at cosine {learned.nearest_similarity:.2f}"
    shift = Signal(
        name="embedding",
        value=max(0.0, min(1.0, learned.nearest_similarity)),
        contribution=_logit(learned.complexity[2]) - _logit(words.probabilities[2]),
        evidence=f"moves the log-odds of complex; {near}",
    )
    far = ", far from all of them" if learned.out_of_domain >= 0.5 else ""
    return Classification(
        task_type=task,
        complexity=COMPLEXITY_ORDER[best],
        probabilities=_unit_sum(learned.complexity),
        confidence=confidence,
        layer=Layer.EMBEDDING,
        signals=tuple(sorted((*words.signals, shift), key=lambda signal: -abs(signal.contribution))),
        reason=f"embedding and words say {COMPLEXITY_ORDER[best]} ({confidence:.2f}); {near}{far}; "
        f"words: {_named(words.signals)}",
        version=version,
        out_of_domain=learned.out_of_domain,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What judges. Exchanged as a whole, so that no call sees parts of two times."""

    embedder: Embedder | None = None
    head: Head | None = None
    trained: SufficiencyModel | None = None


class Classifier:
    """Judges conversations. `attach` gives it a model; until then, and without one, the heuristics decide."""

    def __init__(self, *, heuristics_confidence_min: float, tiers: Tiers = DEFAULT_TIERS) -> None:
        self._heuristics_confidence_min = heuristics_confidence_min
        self._tiers = tiers
        self._parts = _Parts()

    @property
    def embedder(self) -> Embedder | None:
        """The embedding model in use."""
        return self._parts.embedder

    @property
    def trained(self) -> SufficiencyModel | None:
        """The trained head in use."""
        return self._parts.trained

    def attach(self, embedder: Embedder, head: Head | None) -> None:
        """Uses these from the next call on, and no trained head. A head of another embedding model is a HeadError."""
        if head is not None and head.embedding_model != embedder.model_id:
            message = f"the head was trained on {head.embedding_model}, not on {embedder.model_id}"
            raise HeadError(message)
        self._parts = _Parts(embedder, head)

    def use(self, trained: SufficiencyModel | None) -> None:
        """Uses this trained head from the next call on; None: none. Raises SufficiencyError where it does not fit."""
        if trained is not None:
            self._check(trained)
        self._parts = replace(self._parts, trained=trained)

    def _check(self, trained: SufficiencyModel) -> None:
        embedder = self._parts.embedder
        if embedder is None or trained.embedding_model != embedder.model_id:
            here = embedder.model_id if embedder is not None else "none"
            message = f"the head was trained on {trained.embedding_model}, and the embedding model here is {here}"
            raise SufficiencyError(message)
        if trained.landmarks.shape[1] != embedder.dimensions:
            message = f"the head takes vectors of {trained.landmarks.shape[1]}, not of {embedder.dimensions} numbers"
            raise SufficiencyError(message)
        if not self._tiers.learned(trained.tiers):
            message = f"the head knows of {', '.join(trained.tiers)}, none of which can spare the dearest tier here"
            raise SufficiencyError(message)

    async def classify(
        self, messages: Sequence[Message], *, has_tools: bool, want_embedding: bool, time_s: float | None = None
    ) -> Judgement:
        """Judges `messages`. `time_s`: how long the caller waits; the embedding is given up a little before.

        Raises nothing of its own; cancellation passes through.
        """
        words = judge(messages, has_tools=has_tools)
        text = _last_user_text(messages)
        # Read once: `attach` and `use` may exchange them while this call waits.
        parts = self._parts
        sure = words.confidence >= self._heuristics_confidence_min and words.task_confidence >= TASK_CONFIDENCE_MIN
        if sure and not want_embedding and parts.trained is None:
            judgement = Judgement(_by_heuristics(words, "sure enough to decide alone"))
        else:
            judgement = await self._by_layers(parts, words, text, time_s)
        return replace(judgement, classification=self._with_sufficiency(parts, judgement, text))

    async def _by_layers(self, parts: _Parts, words: HeuristicJudgement, text: str, time_s: float | None) -> Judgement:
        """The embedding layer's verdict, or that of the heuristics where there can be none."""
        embedder, head = parts.embedder, parts.head
        if embedder is None:
            return Judgement(_by_heuristics(words, "as no embedding model is loaded"))
        embedded = await self._embed(embedder, text, time_s)
        if embedded.vector is None:
            return Judgement(_by_heuristics(words, embedded.trouble))
        if head is None:
            classification = _by_heuristics(words, "as no head is loaded")
        elif not text.strip():
            classification = _by_heuristics(words, "as the last turn has no text")
        else:
            learned = head.judge(embedded.vector, words.probabilities, words.task_probabilities)
            classification = _by_embedding(words, learned, head.version)
        return Judgement(classification, embedded.vector, embedder.model_id)

    def _with_sufficiency(self, parts: _Parts, judgement: Judgement, text: str) -> Classification:
        """The classification with P(tier suffices), from the trained head or else from P(complexity)."""
        found, trained = judgement.classification, parts.trained
        derived = replace(found, sufficiency=self._tiers.named(self._tiers.by_complexity(_row(found.probabilities))[0]))
        if trained is None or judgement.vector is None or not text.strip():
            return derived
        try:
            judged = trained.judge(judgement.vector, text)
        except SufficiencyError:
            # An embedder that breaks its word about its own dimensions.
            return replace(derived, reason=f"{found.reason}; head {trained.version} does not fit the embedding")
        tier = self._tiers.learned(trained.tiers)[0]
        sufficiency = self._tiers.named(self._tiers.by_tier(trained.tiers, _row(judged.probabilities))[0])
        probability = next(each.probability for each in sufficiency if each.tier == tier)
        signal = Signal(
            name="trained_head",
            value=probability,
            # It moves P(tier suffices), not the score for complex.
            contribution=0.0,
            evidence=f"P({tier} suffices) by head {trained.version}: {', '.join(judged.evidence)}",
        )
        return replace(
            found,
            sufficiency=sufficiency,
            cluster=trained.cluster_name(judged.cluster) if judged.cluster is not None else "",
            version=trained.version,
            out_of_domain=judged.out_of_domain,
            signals=(*found.signals, signal),
            reason=f"{found.reason}; head {trained.version} says {tier} suffices ({probability:.2f})",
        )

    @staticmethod
    async def _embed(embedder: Embedder, text: str, time_s: float | None) -> _Embedded:
        limit_s = None if time_s is None else time_s * EMBEDDING_TIME_SHARE
        try:
            async with asyncio.timeout(limit_s):
                vectors = await embedder.embed([text])
        except TimeoutError:
            return _Embedded(None, "as the embedding took too long")
        except EmbedderOverloadedError:
            return _Embedded(None, "as too many texts wait to be embedded")
        except EmbedderError:
            return _Embedded(None, "as the embedding failed")
        vector = vectors[0]
        if not np.isfinite(vector).all():
            return _Embedded(None, "as the embedding was not finite")
        return _Embedded(vector)
