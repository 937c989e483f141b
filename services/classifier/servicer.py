"""ClassifierService: protobuf in, protobuf out, and what the server span says of each judgement.

Promises: a request is checked before it is judged; a judgement needs no model; an embedding without a model is
FAILED_PRECONDITION.
"""

from __future__ import annotations

from typing import Final

import grpc
import numpy as np
import numpy.typing as npt

from services.classifier.complexity import Classifier
from services.classifier.embedder import EmbedderClosedError, EmbedderError, EmbedderOverloadedError
from services.runtime import telemetry
from services.runtime.channel import remaining_s
from services.runtime.errors import (
    FailedPrecondition,
    Internal,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    Unavailable,
)
from spillway import wire
from spillway.chat import Embedding
from spillway.routing import Classification
from spillway.v1 import chat_pb2, classifier_pb2_grpc
from spillway.v1 import classifier_pb2 as pb

__all__ = ["TEXTS_MAX", "ClassifierServicer"]

# As EmbedRequest says.
TEXTS_MAX: Final = 256
# By then the batch that fills the queue has gone.
OVERLOADED_RETRY_AFTER_S: Final = 0.5

Context = grpc.aio.ServicerContext[object, object]


class ClassifierServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Judges prompts. `deadline_s` is for callers that set none."""

    def __init__(self, classifier: Classifier, *, deadline_s: float) -> None:
        self._classifier = classifier
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
        _describe(judgement.classification)
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
        raise NotImplementedYet("recording outcomes")


def _embedding(vector: npt.NDArray[np.float32], model_id: str) -> chat_pb2.Embedding:
    return wire.embedding_to_proto(Embedding(values=vector.astype("<f4").tobytes(), model=model_id))


def _describe(classification: Classification) -> None:
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
        }
    )
