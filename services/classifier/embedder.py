"""Unit vectors for many callers at once: batches what arrives together, computes the same text once.

Promises: an idle embedder starts at once; while a batch runs, what arrives waits and goes together in the next one; the
queue is bounded and a full one refuses (load shedding); a caller who leaves disturbs nobody. One event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.classifier.batching import BatchQueue, tokens_estimate
from services.classifier.encoder import TOKENS_MAX, cut_text
from services.classifier.model import DIMENSIONS

__all__ = [
    "Embedder",
    "EmbedderClosedError",
    "EmbedderError",
    "EmbedderOverloadedError",
    "HashEmbedder",
    "OnnxEmbedder",
    "TextEncoder",
]

# Four full calls of EmbedRequest; about 2 s of work on one core at 20 tokens each.
QUEUE_ITEMS_MAX = 1_024
# 1.5 KB each.
CACHE_ITEMS_MAX = 1_024

Vector = npt.NDArray[np.float32]
Digest = bytes


class EmbedderError(Exception):
    """No vectors. The message holds no prompt."""


class EmbedderOverloadedError(EmbedderError):
    """The queue is full; the call may be retried later."""


class EmbedderClosedError(EmbedderError):
    """The embedder is shutting down."""


class TextEncoder(Protocol):
    """What OnnxEmbedder runs in its threads; `encoder.Encoder` is the real one."""

    model_id: str

    def encode(self, texts: Sequence[str]) -> Vector:
        """Unit vectors, float32 [len(texts), 384]. Blocking, thread-safe."""


class Embedder(Protocol):
    """Texts in, unit vectors out."""

    @property
    def model_id(self) -> str:
        """Names the vector space. Vectors of different spaces are never compared."""

    async def embed(self, texts: Sequence[str]) -> Vector:
        """Unit vectors, float32 [len(texts), 384], in order; the same text always has the same vector (to 1e-5).

        Any string is accepted; long ones are cut by `encoder`'s rule. Raises EmbedderError.
        """

    async def close(self) -> None:
        """Refuses new calls, ends waiting ones with EmbedderClosedError, frees the threads. May be called twice."""


@dataclass(slots=True)
class _Pending:
    """A text that waits or runs, and how many callers want it."""

    text: str
    result: asyncio.Future[Vector]
    callers: int = 0


class OnnxEmbedder:
    """Runs an encoder in a bounded pool of threads."""

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        workers: int = 1,
        queue_items_max: int = QUEUE_ITEMS_MAX,
        cache_items_max: int = CACHE_ITEMS_MAX,
    ) -> None:
        self._encoder = encoder
        self._workers = workers
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="embed")
        self._queue: BatchQueue[Digest] = BatchQueue(queue_items_max)
        self._pending: dict[Digest, _Pending] = {}
        self._cache: OrderedDict[Digest, Vector] = OrderedDict()
        self._cache_items_max = cache_items_max
        self._running: set[asyncio.Task[None]] = set()
        self._start_scheduled = False
        self._closed = False

    @property
    def model_id(self) -> str:
        return self._encoder.model_id

    async def embed(self, texts: Sequence[str]) -> Vector:
        if self._closed:
            message = "the embedder is closed"
            raise EmbedderClosedError(message)
        cut = [cut_text(text) for text in texts]
        encoded = [text.encode() for text in cut]
        # The digest, not the text: prompts are not kept in memory for longer than they are worked on.
        digests = [hashlib.sha256(data).digest() for data in encoded]
        found = {digest: self._cached(digest) for digest in digests}
        missing = {
            digest: (text, data)
            for digest, text, data in zip(digests, cut, encoded, strict=True)
            if found[digest] is None
        }
        new = [digest for digest in missing if digest not in self._pending]
        if not self._queue.has_room_for(len(new)):
            message = "too many texts are waiting to be embedded"
            raise EmbedderOverloadedError(message)
        loop = asyncio.get_running_loop()
        for digest in new:
            text, data = missing[digest]
            self._pending[digest] = _Pending(text, loop.create_future())
            self._queue.add(digest, tokens_estimate(len(data), TOKENS_MAX))
        waited = {digest: self._pending[digest] for digest in missing}
        for pending in waited.values():
            pending.callers += 1
        if new:
            self._schedule_start(loop)
        try:
            computed = {digest: await asyncio.shield(pending.result) for digest, pending in waited.items()}
        finally:
            for digest, pending in waited.items():
                self._leave(digest, pending)
        rows = [vector if (vector := found[digest]) is not None else computed[digest] for digest in digests]
        return np.stack(rows) if rows else np.zeros((0, DIMENSIONS), dtype=np.float32)

    async def close(self) -> None:
        self._closed = True
        while batch := self._queue.take():
            for digest in batch:
                self._fail(digest, EmbedderClosedError("the embedder is closed"))
        if self._running:
            await asyncio.wait(set(self._running))
        # Nothing runs any more, so this does not block.
        self._pool.shutdown()

    def _cached(self, digest: Digest) -> Vector | None:
        vector = self._cache.get(digest)
        if vector is not None:
            self._cache.move_to_end(digest)
        return vector

    def _leave(self, digest: Digest, pending: _Pending) -> None:
        pending.callers -= 1
        if pending.callers == 0 and self._queue.remove(digest):
            # Nobody waits and no thread has begun: not worth computing.
            del self._pending[digest]
            pending.result.cancel()

    def _schedule_start(self, loop: asyncio.AbstractEventLoop) -> None:
        # At the end of this turn of the loop: requests that were read together are one batch, and nobody waits for it.
        if not self._start_scheduled:
            self._start_scheduled = True
            loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_scheduled = False
        while len(self._running) < self._workers and (batch := self._queue.take()):
            task = asyncio.get_running_loop().create_task(self._compute(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _compute(self, batch: Sequence[Digest]) -> None:
        texts = [self._pending[digest].text for digest in batch]
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._pool, self._encoder.encode, texts)
        # Whatever the native library raised, the callers must hear of it, or they wait for ever.
        except Exception as error:  # noqa: BLE001
            for digest in batch:
                failure = EmbedderError(f"the embedding model failed ({type(error).__name__})")
                failure.__cause__ = error
                self._fail(digest, failure)
            return
        for digest, row in zip(batch, vectors, strict=True):
            # A copy: a view would keep the whole batch alive in the cache.
            vector = row.copy()
            self._cache[digest] = vector
            self._pending.pop(digest).result.set_result(vector)
        while len(self._cache) > self._cache_items_max:
            self._cache.popitem(last=False)

    def _fail(self, digest: Digest, error: EmbedderError) -> None:
        result = self._pending.pop(digest).result
        result.set_exception(error)
        # Marks the exception as seen even if every caller has left.
        with contextlib.suppress(EmbedderError):
            result.result()


class HashEmbedder:
    """A deterministic stand-in without a model: words and their neighbours hashed into 384 dimensions.

    Texts that share words are near each other, which is all that tests need. Never a replacement in production.
    """

    model_id = "hash/1"

    def __init__(self) -> None:
        self._closed = False

    async def embed(self, texts: Sequence[str]) -> Vector:
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
