"""Answers are embedded by the classifier, over a real socket, when it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from services.cache.matching.answer_judge import FAILURES_MAX, PAUSE_S, ClassifierEmbedder
from services.runtime.clock import FakeClock
from spillway.v1 import chat_pb2, classifier_pb2
from spillway.v1.classifier_pb2_grpc import ClassifierServiceServicer, add_ClassifierServiceServicer_to_server
from tests.support.cache_parts import MODEL, vector
from tests.support.fake_services import serving


class Classifier(ClassifierServiceServicer):
    """Embeds each text by its name, unless it is `ill`."""

    def __init__(self) -> None:
        self.calls = 0
        self.ill = False

    async def Embed(  # noqa: N802 - the contract names it
        self, request: classifier_pb2.EmbedRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> classifier_pb2.EmbedResponse:
        self.calls += 1
        if self.ill:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no model")
        vectors = [chat_pb2.Embedding(values=vector(text).tobytes(), model=MODEL) for text in request.texts]
        return classifier_pb2.EmbedResponse(embeddings=vectors)


@pytest.fixture
async def classifier() -> AsyncIterator[tuple[Classifier, grpc.aio.Channel]]:
    made = Classifier()  # type: ignore[abstract]
    async with (
        serving(made, add_ClassifierServiceServicer_to_server) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield made, channel


async def test_texts_come_back_as_unit_vectors_in_their_order(
    classifier: tuple[Classifier, grpc.aio.Channel],
) -> None:
    found = await ClassifierEmbedder(classifier[1], clock=FakeClock()).embed(["one", "two"])
    assert found is not None
    assert [float(a @ vector(name)) for a, name in zip(found, ("one", "two"), strict=True)] == pytest.approx([1.0, 1.0])


async def test_a_classifier_that_fails_is_left_alone_for_a_while(
    classifier: tuple[Classifier, grpc.aio.Channel],
) -> None:
    made, channel = classifier
    clock = FakeClock()
    embedder = ClassifierEmbedder(channel, clock=clock)
    made.ill = True
    for _ in range(FAILURES_MAX + 2):
        assert await embedder.embed(["one"]) is None
    assert made.calls == FAILURES_MAX
    made.ill = False
    clock.advance(PAUSE_S)
    assert await embedder.embed(["one"]) is not None
    assert await embedder.embed(["one"]) is not None
