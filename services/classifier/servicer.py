"""ClassifierService: protobuf in, protobuf out, and what the server span and the metrics say of each judgement.

Promises: a request is checked before it is judged; a judgement needs no model; an embedding without a model is
FAILED_PRECONDITION; of a list of outcomes all are counted or, if one is invalid, none.
"""

from __future__ import annotations

from typing import Final

import grpc
import numpy as np
import numpy.typing as npt

from services.classifier.complexity import Classifier, Judgement
from services.classifier.embedder import EmbedderClosedError, EmbedderError, EmbedderOverloadedError
from services.classifier.memory import ClusterMemory
from services.classifier.metrics import ClassifierMetrics
from services.runtime import telemetry
from services.runtime.channel import remaining_s
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, Internal, InvalidRequest, Overloaded, Unavailable
from spillway import wire
from spillway.chat import Embedding
from spillway.routing import TierOutcome
from spillway.v1 import chat_pb2, classifier_pb2_grpc
from spillway.v1 import classifier_pb2 as pb

__all__ = ["OUTCOMES_MAX", "TEXTS_MAX", "ClassifierServicer"]

# As EmbedRequest says.
TEXTS_MAX: Final = 256
# As RecordOutcomesRequest says.
OUTCOMES_MAX: Final = 1_000
VIOLATIONS_MAX: Final = 10
NAME_CHARACTERS_MAX: Final = 256
# By then the batch that fills the queue has gone.
OVERLOADED_RETRY_AFTER_S: Final = 0.5

Context = grpc.aio.ServicerContext[object, object]


class ClassifierServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Judges prompts. `deadline_s` is for callers that set none. `memory`: None where nothing is remembered."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        memory: ClusterMemory | None,
        metrics: ClassifierMetrics,
        clock: Clock,
        deadline_s: float,
    ) -> None:
        self._classifier = classifier
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        self._deadline_s = deadline_s

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        messages = wire.messages_from_proto(request.messages, "messages")
        # Looser than the front door, on purpose: whoever asks may have left pictures out.
        if not messages:
            raise InvalidRequest([("messages", "must have at least one message")])
        judgement = await self._classifier.classify(
            messages,
            has_tools=request.has_tools,
            want_embedding=request.want_embedding,
            time_s=remaining_s(context, self._deadline_s),
        )
        self._metrics.judged(judgement)
        _describe(judgement)
        response = pb.ClassifyResponse(classification=wire.classification_to_proto(judgement.classification))
        if request.want_embedding and judgement.vector is not None:
            response.embedding.CopyFrom(_embedding(judgement.vector, judgement.model_id))
        return response

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        if not 1 <= len(request.texts) <= TEXTS_MAX:
            raise InvalidRequest([("texts", f"1 to {TEXTS_MAX} texts are needed")])
        embedder = self._classifier.embedder
        if embedder is None:
            raise FailedPrecondition("EMBEDDING_UNAVAILABLE", "no embedding model is loaded")
        try:
            vectors = await embedder.embed(list(request.texts))
        except EmbedderOverloadedError as error:
            raise Overloaded(OVERLOADED_RETRY_AFTER_S) from error
        except EmbedderClosedError as error:
            raise Unavailable() from error
        except EmbedderError as error:
            raise Internal(detail=str(error)) from error
        return pb.EmbedResponse(embeddings=[_embedding(vector, embedder.model_id) for vector in vectors])

    async def RecordOutcomes(self, request: pb.RecordOutcomesRequest, context: Context) -> pb.RecordOutcomesResponse:
        outcomes = _outcomes(request)
        counted = self._memory.record(outcomes, self._clock.unix()) if self._memory is not None else 0
        self._metrics.recorded(outcomes, counted)
        telemetry.set_attributes(
            {"spillway.classifier.outcomes": len(outcomes), "spillway.classifier.outcomes.counted": counted}
        )
        return pb.RecordOutcomesResponse(counted=counted)


def _outcomes(request: pb.RecordOutcomesRequest) -> list[TierOutcome]:
    """Those of a request. Raises InvalidRequest, WireError."""
    if not 1 <= len(request.outcomes) <= OUTCOMES_MAX:
        raise InvalidRequest([("outcomes", f"1 to {OUTCOMES_MAX} outcomes are needed")])
    violations = [
        (f"outcomes[{index}].{field}", f"must have 1 to {NAME_CHARACTERS_MAX} characters")
        for index, outcome in enumerate(request.outcomes)
        for field, text in (("cluster", outcome.cluster), ("tier", outcome.tier))
        if not 1 <= len(text) <= NAME_CHARACTERS_MAX
    ]
    if violations:
        raise InvalidRequest(violations[:VIOLATIONS_MAX])
    return [
        wire.tier_outcome_from_proto(outcome, f"outcomes[{index}]") for index, outcome in enumerate(request.outcomes)
    ]


def _embedding(vector: npt.NDArray[np.float32], model_id: str) -> chat_pb2.Embedding:
    return wire.embedding_to_proto(Embedding(values=vector.astype("<f4").tobytes(), model=model_id))


def _describe(judgement: Judgement) -> None:
    classification, asked = judgement.classification, judgement.asked
    simple, medium, complex_ = classification.probabilities
    telemetry.set_attributes(
        {
            "spillway.classifier.task_type": str(classification.task_type),
            "spillway.classifier.complexity": str(classification.complexity),
            "spillway.classifier.confidence": classification.confidence,
            "spillway.classifier.layer": str(classification.layer),
            "spillway.classifier.p_simple": simple,
            "spillway.classifier.p_medium": medium,
            "spillway.classifier.p_complex": complex_,
            "spillway.classifier.out_of_domain": classification.out_of_domain,
            "spillway.classifier.version": classification.version,
            "spillway.classifier.cluster": classification.cluster or None,
            "spillway.classifier.small_llm.outcome": str(asked.asking) if asked is not None else None,
            "spillway.classifier.small_llm.cost_nanousd": asked.cost_nanousd if asked and asked.was_sent else None,
        }
    )
