"""What every embedder keeps, the real one and the stand-in alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.classifier.embedder import Embedder, EmbedderClosedError, HashEmbedder, OnnxEmbedder
from tests.support.embedding_model import real_encoder

AWKWARD = ["", " ", "\0", "\0\0a", "\ud800", "a\udfffb", "\u202e\u200d\ufeff", "🏳️‍🌈" * 50, "é" * 300, "\n" * 5_000]


@pytest.fixture(params=["onnx", "hash"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    made: Embedder = OnnxEmbedder(real_encoder()) if request.param == "onnx" else HashEmbedder()
    yield made
    await made.close()


async def test_vectors_have_one_row_for_each_text_and_unit_length(embedder: Embedder) -> None:
    vectors = await embedder.embed(["one", "two words", *AWKWARD, "x" * 200_000])
    assert vectors.shape == (3 + len(AWKWARD), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


async def test_no_text_gives_no_row(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, 384)


async def test_a_text_has_the_same_vector_alone_and_in_a_batch(embedder: Embedder) -> None:
    texts = ["short", "a somewhat longer text about batches", "short", *AWKWARD]
    batch = await embedder.embed(texts)
    fresh: Embedder = HashEmbedder() if isinstance(embedder, HashEmbedder) else OnnxEmbedder(real_encoder())
    single = np.concatenate([await fresh.embed([text]) for text in texts])
    await fresh.close()
    assert np.allclose(batch, single, atol=1e-5)


async def test_like_texts_are_nearer_than_unlike_ones(embedder: Embedder) -> None:
    vectors = await embedder.embed(
        ["how do I reset my password", "how can I reset my password", "a poem about the autumn sea"]
    )
    assert float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2])


async def test_the_model_has_a_name_with_a_version(embedder: Embedder) -> None:
    name, _, version = embedder.model_id.rpartition("/")
    assert name
    assert version.isdigit()


async def test_a_closed_embedder_refuses(embedder: Embedder) -> None:
    await embedder.close()
    with pytest.raises(EmbedderClosedError):
        await embedder.embed(["a"])
