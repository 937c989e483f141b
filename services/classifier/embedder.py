"""Texts in, unit vectors out: what an embedder is, how it fails, and a stand-in without a model."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.classifier.encoder import cut_text
from services.classifier.model import DIMENSIONS

__all__ = [
    "Embedder",
    "EmbedderClosedError",
    "EmbedderError",
    "EmbedderOverloadedError",
    "EmbedderUnavailableError",
    "HashEmbedder",
    "Vectors",
]

Vectors = npt.NDArray[np.float32]


class EmbedderError(Exception):
    """No vectors. The message holds no prompt and no key."""


class EmbedderOverloadedError(EmbedderError):
    """The queue is full, or too long for this caller; the call may be retried later."""


class EmbedderClosedError(EmbedderError):
    """The embedder is shutting down."""


class EmbedderUnavailableError(EmbedderError):
    """The server that computes the vectors does not; later it may."""


class Embedder(Protocol):
    """Texts in, unit vectors out."""

    @property
    def model_id(self) -> str:
        """Names the vector space. Vectors of different spaces are never compared."""

    @property
    def dimensions(self) -> int:
        """Of every vector."""

    @property
    def queued(self) -> int:
        """How many texts wait; any thread may ask."""

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> Vectors:
        """Unit vectors, float32 [len(texts), dimensions], in order; the same text always has the same (to 1e-5).

        Any string is accepted; long ones are cut by `encoder`'s rule. With `within_s` an embedder that can tell at once
        that it will take longer says so (EmbedderOverloadedError); it is no timeout. Raises EmbedderError.
        """

    async def close(self) -> None:
        """Refuses new calls, ends waiting ones with EmbedderClosedError, frees the threads. May be called twice."""


class HashEmbedder:
    """A deterministic stand-in without a model: words and their neighbours hashed into 384 dimensions.

    Texts that share words are near each other, which is all that tests need. Never a replacement in production.
    """

    model_id = "hash/1"
    dimensions = DIMENSIONS
    queued = 0

    def __init__(self) -> None:
        self._closed = False

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> Vectors:
        if self._closed:
            message = "the embedder is closed"
            raise EmbedderClosedError(message)
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for index, text in enumerate(texts):
            row = vectors[index]
            words = ["", *cut_text(text).lower().split()]
            for feature in (*words, *(" ".join(pair) for pair in itertools.pairwise(words))):
                digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
                row[int.from_bytes(digest[:4]) % DIMENSIONS] += 1.0 if digest[4] & 1 else -1.0
            length = float(np.linalg.norm(row))
            if length > 0.0:
                vectors[index] = row / length
            else:
                # Opposite features cancelled out.
                vectors[index, 0] = 1.0
        return vectors

    async def close(self) -> None:
        self._closed = True
