"""Whether a fresh answer says the same as stored ones: by their texts, and where that leaves it open, by embeddings.

Promises: never fails and never takes longer than `EMBED_S_MAX`: an embedder that is away, slow or absent makes
"unknown", and is left alone for a while. Texts are embedded together, at most `EMBEDDED_MAX` of them. The texts go to
the classifier of the same installation, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, Protocol

import grpc

from services.cache.index.vector_index import InvalidVectorError, Vector, unit_vector
from services.cache.matching.answer_comparison import Comparison, compare, compare_prose
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown
from spillway.v1 import classifier_pb2
from spillway.v1.classifier_pb2_grpc import ClassifierServiceStub

__all__ = ["AnswerJudge", "ClassifierEmbedder", "TextEmbedder"]

EMBED_S_MAX: Final = 0.2
"""Nobody waits for it but those who wait for the very answer that is being stored."""

EMBEDDED_MAX: Final = 4
"""Texts of one call: the fresh answer and the nearest three that are open."""

EMBEDDED_CHARS_MAX: Final = 4_000
"""Of each text; the models' windows are shorter."""

PAUSE_S: Final = 5.0
FAILURES_MAX: Final = 3


class TextEmbedder(Protocol):
    """Texts as vectors."""

    async def embed(self, texts: Sequence[str]) -> list[Vector] | None:
        """A unit vector for each text, in order; None when that is not to be had now. Never raises."""
        ...


class AnswerJudge:
    """With no embedder, by texts alone. `threads` compare the texts; without any that is done at once."""

    def __init__(self, embedder: TextEmbedder | None = None, *, threads: Executor | None = None) -> None:
        self._embedder = embedder
        self._threads = threads

    async def compare(self, fresh: str, stored: Sequence[str]) -> list[Comparison]:
        """The fresh answer against each of the stored ones, the most important first."""
        found = [await self._run(partial(compare, fresh, text)) for text in stored]
        still_open = [at for at, each in enumerate(found) if each is Comparison.UNKNOWN][: EMBEDDED_MAX - 1]
        if self._embedder is None or not still_open or not fresh.strip():
            return found
        vectors = await self._embedder.embed([fresh, *(stored[at] for at in still_open)])
        if vectors is None:
            return found
        for at, vector in zip(still_open, vectors[1:], strict=True):
            found[at] = await self._run(partial(compare_prose, fresh, stored[at], float(vectors[0] @ vector)))
        return found

    async def _run(self, comparing: Callable[[], Comparison]) -> Comparison:
        if self._threads is None:
            return comparing()
        return await asyncio.get_running_loop().run_in_executor(self._threads, comparing)


class ClassifierEmbedder:
    """The classifier behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, clock: Clock) -> None:
        self._stub = ClassifierServiceStub(channel)
        self._clock = clock
        self._cooldown = Cooldown(pause_s=PAUSE_S, failures_max=FAILURES_MAX)

    async def embed(self, texts: Sequence[str]) -> list[Vector] | None:
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            return None
        request = classifier_pb2.EmbedRequest(texts=[text[:EMBEDDED_CHARS_MAX] for text in texts])
        try:
            async with asyncio.timeout(EMBED_S_MAX):
                response = await self._stub.Embed(request, timeout=EMBED_S_MAX)
            vectors = [unit_vector(embedding.values) for embedding in response.embeddings]
        except (grpc.aio.AioRpcError, TimeoutError, InvalidVectorError):
            self._cooldown.failed(ticket, self._clock.monotonic())
            return None
        except BaseException:
            self._cooldown.abandoned(ticket)
            raise
        self._cooldown.succeeded(ticket)
        same = len(vectors) == len(texts) and len({len(vector) for vector in vectors}) == 1
        return vectors if same else None
