"""Which layer decides, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from services.classifier.complexity import Classifier, Judgement
from services.classifier.embedder import EmbedderError, EmbedderOverloadedError, HashEmbedder
from services.classifier.head import Head, HeadError
from services.classifier.startup import BUILTIN_HEAD, open_head
from spillway.chat import ImagePart, Message, Role
from spillway.routing import Layer, TaskType

UNSURE = "Explain how a heat pump warms a house in winter"


@pytest.fixture(scope="module")
def head() -> Head:
    return replace(open_head(BUILTIN_HEAD), embedding_model=HashEmbedder.model_id)


class CountingEmbedder(HashEmbedder):
    """Counts its texts, and fails or hangs when told to."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False, value: float | None = None) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._error = error
        self._hangs = hangs
        self._value = value

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> npt.NDArray[np.float32]:
        self.texts.extend(texts)
        if self._error is not None:
            raise self._error
        if self._hangs:
            await asyncio.Event().wait()
        if self._value is not None:
            return np.full((len(texts), 384), self._value, dtype=np.float32)
        return await super().embed(texts)


async def classify(classifier: Classifier, text: str, *, want: bool = False, time_s: float | None = None) -> Judgement:
    return await classifier.classify(
        (Message.of(Role.USER, text),), has_tools=False, want_embedding=want, time_s=time_s
    )


def classifier(embedder: HashEmbedder | None, head: Head | None) -> Classifier:
    made = Classifier(heuristics_confidence_min=0.9)
    if embedder is not None:
        made.attach(embedder, head)
    return made


async def test_sure_heuristics_decide_alone_and_no_embedding_is_made(head: Head) -> None:
    embedder = CountingEmbedder()
    judgement = await classify(classifier(embedder, head), "hello!")
    assert judgement.classification.layer is Layer.HEURISTICS
    assert judgement.classification.version == "heuristics-2"
    assert judgement.classification.out_of_domain is None
    assert judgement.vector is None
    assert embedder.texts == []


async def test_unsure_heuristics_leave_it_to_the_embedding(head: Head) -> None:
    judgement = await classify(classifier(HashEmbedder(), head), UNSURE)
    found = judgement.classification
    assert found.layer is Layer.EMBEDDING
    assert found.version == "builtin-1"
    assert found.out_of_domain is not None
    assert "embedding" in {signal.name for signal in found.signals}
    assert "cosine" in found.reason


async def test_a_wanted_embedding_is_made_once_and_then_used_to_decide(head: Head) -> None:
    embedder = CountingEmbedder()
    judgement = await classify(classifier(embedder, head), "hello!", want=True)
    assert judgement.classification.layer is Layer.EMBEDDING
    assert judgement.classification.task_type is TaskType.CHITCHAT
    assert judgement.vector is not None
    assert judgement.model_id == "hash/1"
    assert embedder.texts == ["hello!"]


async def test_without_a_model_the_heuristics_decide_and_say_so() -> None:
    found = (await classify(classifier(None, None), UNSURE, want=True)).classification
    assert found.layer is Layer.HEURISTICS
    assert "no embedding model" in found.reason


async def test_without_a_head_the_heuristics_decide_but_the_embedding_is_given() -> None:
    judgement = await classify(classifier(HashEmbedder(), None), UNSURE, want=True)
    assert judgement.classification.layer is Layer.HEURISTICS
    assert "no head" in judgement.classification.reason
    assert judgement.vector is not None


@pytest.mark.parametrize(
    ("embedder", "why"),
    [
        (CountingEmbedder(EmbedderOverloadedError()), "too many texts"),
        (CountingEmbedder(EmbedderError()), "failed"),
        (CountingEmbedder(value=float("nan")), "not finite"),
        (CountingEmbedder(hangs=True), "too long"),
    ],
)
async def test_a_failing_embedder_is_done_without(head: Head, embedder: CountingEmbedder, why: str) -> None:
    judgement = await classify(classifier(embedder, head), UNSURE, want=True, time_s=0.01)
    assert judgement.classification.layer is Layer.HEURISTICS
    assert why in judgement.classification.reason
    assert judgement.vector is None


async def test_a_turn_without_text_is_left_to_the_heuristics(head: Head) -> None:
    message = Message(Role.USER, (ImagePart(url="https://example.org/a.png"),))
    judgement = await classifier(HashEmbedder(), head).classify((message,), has_tools=False, want_embedding=True)
    assert judgement.classification.layer is Layer.HEURISTICS
    assert "no text" in judgement.classification.reason


def test_a_head_of_another_model_is_refused(head: Head) -> None:
    with pytest.raises(HeadError):
        classifier(HashEmbedder(), replace(head, embedding_model="other/2"))


async def test_the_prompt_is_in_no_part_of_the_answer(head: Head) -> None:
    for embedder in (None, HashEmbedder()):
        found = (
            await classify(classifier(embedder, head), "Tell zanzibar-4711 why it matters", want=True)
        ).classification
        assert "zanzibar" not in repr(found)


async def test_the_confidence_is_the_probability_of_the_named_complexity(head: Head) -> None:
    for text in ("hi", UNSURE, "Prove the theorem and analyse every trade-off"):
        found = (await classify(classifier(HashEmbedder(), head), text, want=True)).classification
        order = ("simple", "medium", "complex")
        assert found.confidence == pytest.approx(found.probabilities[order.index(found.complexity)])
        assert found.confidence == pytest.approx(max(found.probabilities))
