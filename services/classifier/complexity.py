"""The layers of the classifier: heuristics, the embedding with the learned head, and a small LLM for what stays open.

Promises: always an answer. The heuristics decide alone when they are sure and no embedding is wanted; else the
embedding layer decides, blended with the heuristics; when there is no model, or it fails or takes too long, the
heuristics decide after all. Where the embedding layer is unsure a small LLM may be asked; if that fails, the layer
below stands. Every answer says which layer decided and why. The prompt appears in none of it.

P(tier suffices) comes from the trained head while one is in use, which then judges every prompt that can be embedded;
of one that cannot there is none: a threshold means one thing, and policy goes by complexity. Without a trained head it
is derived from the probabilities of complexity. What is remembered of the
prompt's cluster adjusts it last. The version of an answer is that of the trained head if it spoke, and an answer rests
on one version of it, whatever is exchanged meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.classifier.clusters import Clusters, builtin_clusters, cluster_name
from services.classifier.conversation import judged_text
from services.classifier.embedder import Embedder, EmbedderError, EmbedderOverloadedError
from services.classifier.head import Head, HeadError
from services.classifier.heuristics import HeuristicJudgement, judge
from services.classifier.memory import ClusterMemory, nearness
from services.classifier.small_llm_layer import Asked, Asking, SmallLlmLayer
from services.classifier.sufficiency import SufficiencyError, SufficiencyModel
from services.classifier.tiers import DEFAULT_TIERS, Tiers
from services.classifier.verdicts import Verdict, by_embedding, by_heuristics, by_small_llm
from services.runtime.clock import Clock, SystemClock
from spillway.chat import Message, Role
from spillway.routing import Classification, Layer, Signal

__all__ = ["Classifier", "Judgement", "LayerTimes"]

# Heuristics that are sure of the complexity but not of the kind of work do not decide alone: policy uses both.
TASK_CONFIDENCE_MIN = 0.5
# The rest of the caller's time is for the answer's way back.
EMBEDDING_TIME_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """How long each layer took, in seconds; None where it was not asked."""

    heuristics_s: float
    embedding_s: float | None = None
    small_llm_s: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A classification, and the embedding of the last user turn if one was made: unit vector and its model.

    `asked`: what became of the question to a small LLM; None without that layer.
    """

    classification: Classification
    vector: npt.NDArray[np.float32] | None = None
    model_id: str = ""
    times: LayerTimes = LayerTimes(0.0)
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class _Embedded:
    """The vectors of the last turn and of what a trained head judges, or why there are none."""

    vector: npt.NDArray[np.float32] | None
    whole: npt.NDArray[np.float32] | None = None
    trouble: str = ""


def _last_user_text(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role is Role.USER), "")


def _row(probabilities: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray([probabilities], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What judges. Exchanged as a whole, so that no call sees parts of two times."""

    heuristics_confidence_min: float
    tiers: Tiers
    small_llm: SmallLlmLayer | None
    embedder: Embedder | None = None
    head: Head | None = None
    clusters: Clusters | None = None
    trained: SufficiencyModel | None = None


@dataclass(frozen=True, slots=True)
class _Layered:
    """What the layers up to the embedding came to; `whole`: what a trained head judges, and its vector."""

    verdict: Verdict
    vector: npt.NDArray[np.float32] | None = None
    whole: str = ""
    whole_vector: npt.NDArray[np.float32] | None = None


class Classifier:
    """Judges conversations. `attach` gives it a model; until then, and without one, the heuristics decide.

    Belongs to one event loop.
    """

    def __init__(
        self,
        *,
        heuristics_confidence_min: float,
        tiers: Tiers = DEFAULT_TIERS,
        memory: ClusterMemory | None = None,
        small_llm: SmallLlmLayer | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._memory = memory
        self._clock = clock or SystemClock()
        self._parts = _Parts(heuristics_confidence_min, tiers, small_llm)

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
        clusters = builtin_clusters(head) if head is not None else None
        self._parts = replace(self._parts, embedder=embedder, head=head, clusters=clusters, trained=None)
        self._follow()

    def use(self, trained: SufficiencyModel | None) -> None:
        """Uses this trained head from the next call on; None: none. Raises SufficiencyError where it does not fit."""
        if trained is not None:
            self._check(trained)
        self._parts = replace(self._parts, trained=trained)
        self._follow()

    def reconfigure(self, *, heuristics_confidence_min: float, tiers: Tiers, small_llm: SmallLlmLayer | None) -> None:
        """Goes by these from the next call on. A trained head that does not know the tiers is not used any more."""
        trained = self._parts.trained
        if trained is not None and not tiers.learned(trained.tiers):
            trained = None
        self._parts = replace(
            self._parts,
            heuristics_confidence_min=heuristics_confidence_min,
            tiers=tiers,
            small_llm=small_llm,
            trained=trained,
        )
        if self._memory is not None:
            self._memory.retier(tiers.names)
        self._follow()

    def _follow(self) -> None:
        """Tells the memory whose clusters prompts are in from now on."""
        if self._memory is None:
            return
        clusters, trained = self._parts.clusters, self._parts.trained
        if trained is not None:
            self._memory.follow(trained.version, len(trained.centroids))
        elif clusters is not None:
            self._memory.follow(clusters.version, len(clusters))

    def _check(self, trained: SufficiencyModel) -> None:
        embedder = self._parts.embedder
        if embedder is None or trained.embedding_model != embedder.model_id:
            here = embedder.model_id if embedder is not None else "none"
            message = f"the head was trained on {trained.embedding_model}, and the embedding model here is {here}"
            raise SufficiencyError(message)
        if trained.landmarks.shape[1] != embedder.dimensions:
            message = f"the head takes vectors of {trained.landmarks.shape[1]}, not of {embedder.dimensions} numbers"
            raise SufficiencyError(message)
        if not self._parts.tiers.learned(trained.tiers):
            message = f"the head knows of {', '.join(trained.tiers)}, none of which can spare the dearest tier here"
            raise SufficiencyError(message)

    async def classify(
        self, messages: Sequence[Message], *, has_tools: bool, want_embedding: bool, time_s: float | None = None
    ) -> Judgement:
        """Judges `messages`. `time_s`: how long the caller waits; the embedding is given up a little before.

        Raises nothing of its own; cancellation passes through.
        """
        started_s = self._clock.monotonic()
        words = judge(messages, has_tools=has_tools)
        heuristics_s = self._clock.monotonic() - started_s
        text = _last_user_text(messages)
        # Read once: `attach`, `use` and `reconfigure` may exchange them while this call waits.
        parts = self._parts
        sure = words.confidence >= parts.heuristics_confidence_min and words.task_confidence >= TASK_CONFIDENCE_MIN
        if parts.embedder is None or (sure and not want_embedding and parts.trained is None):
            why = "sure enough to decide alone" if parts.embedder is not None else "as no embedding model is loaded"
            layered, embedding_s = _Layered(by_heuristics(words, why)), None
        else:
            whole = judged_text(messages) if parts.trained is not None else text
            layered = await self._by_embedding(parts, parts.embedder, words, (text, whole), time_s)
            embedding_s = self._clock.monotonic() - started_s - heuristics_s
        verdict, asked = layered.verdict, None
        if parts.small_llm is not None:
            left_s = None if time_s is None else time_s - (self._clock.monotonic() - started_s)
            verdict, asked = await _second_opinion(parts.small_llm, messages, verdict, left_s)
        found = self._remembered(self._with_sufficiency(parts, verdict.classification, layered, text))
        return Judgement(
            found,
            layered.vector,
            parts.embedder.model_id if parts.embedder is not None and layered.vector is not None else "",
            LayerTimes(heuristics_s, embedding_s, asked.took_s if asked is not None and asked.was_sent else None),
            asked,
        )

    async def _by_embedding(
        self, parts: _Parts, embedder: Embedder, words: HeuristicJudgement, texts: tuple[str, str], time_s: float | None
    ) -> _Layered:
        """The embedding layer's verdict, or that of the heuristics where there can be none.

        `texts`: the last turn's, and what a trained head judges.
        """
        text, whole = texts
        embedded = await self._embed(embedder, texts, time_s)
        if embedded.vector is None:
            return _Layered(by_heuristics(words, embedded.trouble))
        if parts.head is None:
            verdict = by_heuristics(words, "as no head is loaded")
        elif not text.strip():
            verdict = by_heuristics(words, "as the last turn has no text")
        else:
            learned = parts.head.judge(embedded.vector, words.probabilities, words.task_probabilities)
            verdict = by_embedding(words, learned, parts.head.version)
        return _Layered(verdict, embedded.vector, whole, embedded.whole)

    def _with_sufficiency(self, parts: _Parts, found: Classification, layered: _Layered, text: str) -> Classification:
        """The classification with P(tier suffices), from the trained head or, if none is in use, from P(complexity)."""
        trained, vector = parts.trained, layered.vector
        if trained is None:
            sufficiency = parts.tiers.named(parts.tiers.by_complexity(_row(found.probabilities))[0])
            clusters = parts.clusters if text.strip() else None
            cluster = clusters.name(vector) if clusters is not None and vector is not None else ""
            return replace(found, sufficiency=sufficiency, cluster=cluster)
        if layered.whole_vector is None or not text.strip():
            return replace(found, reason=f"{found.reason}; nothing for head {trained.version} to judge")
        try:
            judged = trained.judge(layered.whole_vector, layered.whole)
        except SufficiencyError:
            # An embedder that breaks its word about its own dimensions.
            return replace(found, reason=f"{found.reason}; head {trained.version} does not fit the embedding")
        tier = parts.tiers.learned(trained.tiers)[0]
        sufficiency = parts.tiers.named(parts.tiers.by_tier(trained.tiers, _row(judged.probabilities))[0])
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
            cluster=cluster_name(trained.version, judged.cluster) if judged.cluster is not None else "",
            version=trained.version,
            out_of_domain=judged.out_of_domain,
            signals=(*found.signals, signal),
            reason=f"{found.reason}; head {trained.version} says {tier} suffices ({probability:.2f})",
        )

    def _remembered(self, found: Classification) -> Classification:
        """With what became of answers to prompts of the same cluster."""
        near = nearness(found.out_of_domain)
        if near <= 0.0 or self._memory is None or not found.cluster:
            # Far from all clusters it is of none: neither does it learn from one, nor is what becomes of it told there.
            return replace(found, cluster=found.cluster if near > 0.0 else "")
        sufficiency, signal = self._memory.adjust(found.cluster, found.sufficiency, self._clock.unix(), nearness=near)
        if signal is None:
            return found
        return replace(
            found,
            sufficiency=sufficiency,
            signals=(*found.signals, signal),
            reason=f"{found.reason}; {signal.evidence}",
        )

    @staticmethod
    async def _embed(embedder: Embedder, texts: tuple[str, str], time_s: float | None) -> _Embedded:
        limit_s = None if time_s is None else time_s * EMBEDDING_TIME_SHARE
        try:
            async with asyncio.timeout(limit_s):
                # Mostly one text; of a turn that goes on, two.
                vectors = await embedder.embed(list(dict.fromkeys(texts)), within_s=limit_s)
        except TimeoutError:
            return _Embedded(None, trouble="as the embedding took too long")
        except EmbedderOverloadedError:
            return _Embedded(None, trouble="as too many texts wait to be embedded")
        except EmbedderError:
            return _Embedded(None, trouble="as the embedding failed")
        if not np.isfinite(vectors).all():
            return _Embedded(None, trouble="as the embedding was not finite")
        return _Embedded(vectors[0], vectors[-1])


async def _second_opinion(
    small_llm: SmallLlmLayer, messages: Sequence[Message], below: Verdict, time_s: float | None
) -> tuple[Verdict, Asked]:
    """The small LLM's, if the embedding layer decided and is unsure; else, and on any failure, the verdict below."""
    found = below.classification
    open_case = found.layer is Layer.EMBEDDING
    asked = await small_llm.judge(messages, confidence=found.confidence if open_case else 1.0, time_s=time_s)
    if asked.opinion is not None:
        return by_small_llm(below, asked.opinion), asked
    if asked.asking is Asking.SURE:
        return below, asked
    return replace(below, classification=replace(found, reason=f"{found.reason}; {asked.reason}")), asked
