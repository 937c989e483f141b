"""Opens the embedder that the configuration names.

Promises: an embedder that is returned from this machine has computed a vector already, and the built-in one has been
checked against its reference vectors; what cannot be opened is an EmbeddingSourceError whose text names the remedy.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from services.classifier.batched_embedder import BatchedEmbedder, ThreadedEncoder
from services.classifier.batching import BatchLimits
from services.classifier.cpus import read_cpus
from services.classifier.embedder import Embedder, EmbedderError
from services.classifier.encoder import Encoder
from services.classifier.endpoint_embedder import CALLS_MAX, Endpoint, EndpointBackend
from services.classifier.model import ModelError, model_directory
from services.classifier.sentence_export import open_export
from services.classifier.startup import open_encoder
from services.runtime.clock import SystemClock
from services.runtime.config import SecretError, read_api_key
from spillway.settings.classifier import Classifier, EmbeddingEndpoint

__all__ = ["EmbeddingSourceError", "endpoint_limits", "open_embedder"]

# A server pads as it likes and has its own cores: only the number of texts is bounded, and what is sent at once.
ENDPOINT_BATCH_TOKENS_MAX = 65_536
# In one answer: texts times dimensions. While it is read as JSON, some 30 ms for so many, nothing else goes on.
ENDPOINT_NUMBERS_MAX = 131_072
# About 100 tokens: of a short text a token costs more than of most.
PACE_TEXT = "how long does one text take " * 16


class EmbeddingSourceError(Exception):
    """No embedder as configured. The message names the remedy and holds neither prompt nor key."""


async def open_embedder(settings: Classifier, environment: Mapping[str, str] = os.environ) -> Embedder:
    """The embedder of `settings.embedding_provider`; the caller closes it. Loads in a thread (about 0.5 s).

    Raises EmbeddingSourceError.
    """
    try:
        if settings.embedding_provider == "endpoint":
            return _endpoint(settings.embedding_endpoint)
        workers = settings.threads or read_cpus()
        encoder = await asyncio.to_thread(_open_encoder, settings, environment)
    except (ModelError, SecretError, ValueError) as error:
        raise EmbeddingSourceError(str(error)) from error
    # One core for one batch: several workers use several cores better than one batch does.
    embedder = BatchedEmbedder(ThreadedEncoder(encoder, workers=workers), workers=workers)
    try:
        # So that the first callers too are told how long the queue is.
        await embedder.embed([PACE_TEXT])
    except EmbedderError as error:
        await embedder.close()
        raise EmbeddingSourceError(str(error)) from error
    return embedder


def _open_encoder(settings: Classifier, environment: Mapping[str, str]) -> Encoder:
    configured = Path(settings.model_dir).expanduser() if settings.model_dir else None
    if settings.embedding_provider == "builtin":
        return open_encoder(configured or model_directory(environment))
    if configured is None:
        message = "the embedding provider onnx needs classifier.model_dir: the directory of the export"
        raise ModelError(message)
    return Encoder(open_export(configured), threads=1)


def _endpoint(settings: EmbeddingEndpoint | None) -> Embedder:
    if settings is None:
        message = "the embedding provider endpoint needs classifier.embedding_endpoint"
        raise ValueError(message)
    endpoint = Endpoint(
        base_url=settings.base_url,
        model=settings.model,
        dimensions=settings.dimensions,
        timeout_s=settings.timeout_s,
        failures_max=settings.failures_max,
        open_s=settings.open_s,
    )
    key = read_api_key(settings.api_key_env, settings.api_key_file)
    backend = EndpointBackend(endpoint, api_key=key, clock=SystemClock())
    return BatchedEmbedder(backend, workers=CALLS_MAX, limits=endpoint_limits(settings))


def endpoint_limits(settings: EmbeddingEndpoint) -> BatchLimits:
    """Of one call of a server."""
    texts_max = max(1, min(settings.texts_max, ENDPOINT_NUMBERS_MAX // settings.dimensions))
    return BatchLimits(items_max=texts_max, tokens_max=ENDPOINT_BATCH_TOKENS_MAX)
