"""The embedder that a configuration names, and what stands in its way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.classifier.complexity import Classifier
from services.classifier.embedder import EmbedderOverloadedError
from services.classifier.embedding_source import EmbeddingSourceError, open_embedder
from services.classifier.head import HeadError
from services.classifier.model import MODEL_ID, model_directory
from services.classifier.startup import BUILTIN_HEAD, open_head
from spillway.chat import Message, Role
from spillway.routing import Layer
from spillway.settings.classifier import Classifier as Settings
from spillway.settings.classifier import EmbeddingEndpoint
from tests.support.embedding_model import EXPORT_DIMENSIONS, real_encoder, write_export


async def test_the_built_in_model_is_the_default() -> None:
    real_encoder()
    embedder = await open_embedder(Settings(), {"SPILLWAY_MODEL_DIR": str(model_directory({}))})
    assert (embedder.model_id, embedder.dimensions) == (MODEL_ID, 384)
    await embedder.close()


async def test_the_first_callers_too_are_told_that_they_would_wait_in_vain(tmp_path: Path) -> None:
    write_export(tmp_path, config={"_name_or_path": "other"})
    embedder = await open_embedder(Settings(embedding_provider="onnx", model_dir=str(tmp_path), threads=1), {})
    found = await asyncio.gather(
        embedder.embed(["before it"]), embedder.embed(["a little longer"], within_s=1e-9), return_exceptions=True
    )
    assert [isinstance(each, EmbedderOverloadedError) for each in found] == [False, True]
    await embedder.close()


async def test_another_model_is_used_without_the_head_of_the_built_in_one(tmp_path: Path) -> None:
    write_export(tmp_path, config={"_name_or_path": "other"})
    embedder = await open_embedder(Settings(embedding_provider="onnx", model_dir=str(tmp_path)), {})
    assert embedder.dimensions == EXPORT_DIMENSIONS
    classifier = Classifier(heuristics_confidence_min=0.9)
    with pytest.raises(HeadError):
        classifier.attach(embedder, open_head(BUILTIN_HEAD))
    assert classifier.embedder is None
    classifier.attach(embedder, None)
    judgement = await classifier.classify([Message.of(Role.USER, "hi")], has_tools=False, want_embedding=True)
    assert judgement.classification.layer is Layer.HEURISTICS
    assert judgement.model_id == embedder.model_id
    assert judgement.vector is not None
    assert judgement.vector.shape == (EXPORT_DIMENSIONS,)
    await embedder.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(embedding_provider="onnx"), "model_dir"),
        (Settings(embedding_provider="onnx", model_dir="/nonexistent"), "/nonexistent"),
        (Settings(embedding_provider="endpoint"), "embedding_endpoint"),
        (
            Settings(
                embedding_provider="endpoint",
                embedding_endpoint=EmbeddingEndpoint(
                    base_url="http://127.0.0.1:1/v1", model="m", dimensions=3, api_key_file="/nonexistent-key"
                ),
            ),
            "/nonexistent-key",
        ),
    ],
)
async def test_what_is_missing_is_named(settings: Settings, told: str) -> None:
    with pytest.raises(EmbeddingSourceError, match=told):
        await open_embedder(settings, {})
