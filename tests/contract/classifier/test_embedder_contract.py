"""What every embedder keeps, the real one and the stand-in alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.classifier.batched_embedder import BatchedEmbedder, ThreadedEncoder
from services.classifier.embedder import Embedder, EmbedderClosedError, HashEmbedder
from services.classifier.encoder import Encoder
from services.classifier.endpoint_embedder import Endpoint, EndpointBackend
from services.classifier.sentence_export import open_export
from services.runtime.clock import SystemClock
from services.sandbox.app import build_app
from services.sandbox.server import serving_in_thread
from tests.support.embedding_model import real_encoder, write_export

AWKWARD = ["", " ", "\0", "\0\0a", "\ud800", "a\udfffb", "\u202e\u200d\ufeff", "🏳️‍🌈" * 50, "é" * 300, "\n" * 5_000]


@pytest.fixture(scope="module")
def sandbox_url() -> Iterator[str]:
    """A server that speaks OpenAI's embeddings, on a free port."""
    with serving_in_thread(build_app((), len)) as addresses:
        yield f"{addresses.url}/v1"


@pytest.fixture(params=["builtin", "export", "endpoint", "hash"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Embedder]:
    """Makes embedders of one kind, each with nothing remembered."""

    def threaded(encoder: Encoder) -> Embedder:
        return BatchedEmbedder(ThreadedEncoder(encoder, workers=1), workers=1)

    def endpoint() -> Embedder:
        agreed = Endpoint(
            request.getfixturevalue("sandbox_url"), "m", dimensions=64, timeout_s=30.0, failures_max=1, open_s=60.0
        )
        return BatchedEmbedder(EndpointBackend(agreed, api_key="key", clock=SystemClock()), workers=2)

    def export() -> Embedder:
        write_export(tmp_path / "export")
        return threaded(Encoder(open_export(tmp_path / "export"), threads=1))

    kinds: dict[str, Callable[[], Embedder]] = {
        "builtin": lambda: threaded(real_encoder()),
        "export": export,
        "endpoint": endpoint,
        "hash": HashEmbedder,
    }
    kind: str = request.param
    return kinds[kind]


@pytest.fixture
async def embedder(make: Callable[[], Embedder]) -> AsyncIterator[Embedder]:
    made = make()
    yield made
    await made.close()


async def test_vectors_have_one_row_for_each_text_and_unit_length(embedder: Embedder) -> None:
    vectors = await embedder.embed(["one", "two words", *AWKWARD, "x" * 200_000])
    assert vectors.shape == (3 + len(AWKWARD), embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


async def test_no_text_gives_no_row(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimensions)


async def test_a_text_has_the_same_vector_alone_and_in_a_batch(
    embedder: Embedder, make: Callable[[], Embedder]
) -> None:
    texts = ["short", "a somewhat longer text about batches", "short", *AWKWARD]
    batch = await embedder.embed(texts)
    fresh = make()
    assert fresh.model_id == embedder.model_id
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
    assert version.isalnum()


async def test_a_closed_embedder_refuses_and_may_be_closed_again(embedder: Embedder) -> None:
    await embedder.close()
    await embedder.close()
    with pytest.raises(EmbedderClosedError):
        await embedder.embed(["a"])
