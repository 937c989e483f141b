"""Unit vectors for many callers at once: batches what arrives together, computes the same text once.

Promises: an idle embedder starts at once; while its workers run, what arrives waits and goes together in the next
batch; the queue is bounded and a full one refuses (load shedding), as does one that is too long for a caller who says
how long he waits, when he comes or once the batches before him have taken longer than was to be expected; a caller who
leaves disturbs nobody; a vector that is not finite reaches nobody and is not remembered. One event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.classifier.batching import BatchLimits, BatchQueue, Pace, tokens_estimate
from services.classifier.embedder import EmbedderClosedError, EmbedderError, EmbedderOverloadedError, Vectors
from services.runtime.clock import Clock, SystemClock

__all__ = ["Backend", "BatchedEmbedder", "TextEncoder", "ThreadedEncoder"]

# Four full calls of EmbedRequest; about 2 s of work on one core at 20 tokens each.
QUEUE_ITEMS_MAX = 1_024
# 1.5 KB each, with 384 dimensions.
CACHE_ITEMS_MAX = 1_024
# A call of more texts waits behind those of fewer: a judgement has one, and somebody waits for it.
BULK_TEXTS_MIN = 9

Digest = bytes


class TextEncoder(Protocol):
    """What ThreadedEncoder runs; `encoder.Encoder` is the real one."""

    model_id: str
    dimensions: int
    tokens_max: int

    def cut(self, text: str) -> str:
        """What is read of a text: bounded, and fit for UTF-8."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [len(texts), dimensions]. Blocking, thread-safe."""


class Backend(Protocol):
    """Computes the batches."""

    model_id: str
    dimensions: int
    tokens_max: int

    def cut(self, text: str) -> str:
        """What is read of a text: bounded, and fit for UTF-8."""

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts that were cut, float32 [len(texts), dimensions]. Raises EmbedderError."""

    async def close(self) -> None:
        """Called once, when nothing runs any more."""


class ThreadedEncoder:
    """A Backend of an encoder on this machine, in `workers` threads."""

    def __init__(self, encoder: TextEncoder, *, workers: int) -> None:
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="embed")
        self.model_id = encoder.model_id
        self.dimensions = encoder.dimensions
        self.tokens_max = encoder.tokens_max
        self.cut = encoder.cut

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._encoder.encode, texts)

    async def close(self) -> None:
        # Nothing runs any more, so this does not block.
        self._pool.shutdown()


@dataclass(slots=True)
class _Pending:
    """A text that waits or runs, how many callers want it, and until when the most patient of them does (monotonic)."""

    text: str
    tokens: int
    result: asyncio.Future[Vectors]
    callers: int = 0
    until_s: float = -math.inf


class BatchedEmbedder:
    """An Embedder over a Backend, of which at most `workers` batches run at once."""

    def __init__(
        self,
        backend: Backend,
        *,
        workers: int,
        limits: BatchLimits | None = None,
        queue_items_max: int = QUEUE_ITEMS_MAX,
        cache_items_max: int = CACHE_ITEMS_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._backend = backend
        self._clock = clock or SystemClock()
        self._workers = workers
        self._queue: BatchQueue[Digest] = BatchQueue(queue_items_max, limits)
        self._pending: dict[Digest, _Pending] = {}
        self._cache: OrderedDict[Digest, Vectors] = OrderedDict()
        self._cache_items_max = cache_items_max
        # Each with its tokens and when it began (monotonic).
        self._running: dict[asyncio.Task[None], tuple[int, float]] = {}
        self._pace = Pace()
        self._start_scheduled = False
        self._closed = False

    @property
    def model_id(self) -> str:
        return self._backend.model_id

    @property
    def dimensions(self) -> int:
        return self._backend.dimensions

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> Vectors:
        if self._closed:
            message = "the embedder is closed"
            raise EmbedderClosedError(message)
        cut = [self._backend.cut(text) for text in texts]
        encoded = [text.encode() for text in cut]
        # The digest, not the text: prompts are not kept in memory for longer than they are worked on.
        digests = [hashlib.sha256(data).digest() for data in encoded]
        found = {digest: self._cached(digest) for digest in digests}
        missing = {
            digest: (text, tokens_estimate(len(data), self._backend.tokens_max))
            for digest, text, data in zip(digests, cut, encoded, strict=True)
            if found[digest] is None
        }
        waited = self._enqueue(missing, within_s)
        try:
            computed = {digest: await asyncio.shield(pending.result) for digest, pending in waited.items()}
        finally:
            for digest, pending in waited.items():
                self._leave(digest, pending)
        rows = [vector if (vector := found[digest]) is not None else computed[digest] for digest in digests]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), dtype=np.float32)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while batch := self._queue.take():
            for digest in batch:
                self._fail(digest, EmbedderClosedError("the embedder is closed"))
        if self._running:
            await asyncio.wait(set(self._running))
        await self._backend.close()

    def _cached(self, digest: Digest) -> Vectors | None:
        vector = self._cache.get(digest)
        if vector is not None:
            self._cache.move_to_end(digest)
        return vector

    def _enqueue(self, missing: dict[Digest, tuple[str, int]], within_s: float | None) -> dict[Digest, _Pending]:
        """Has the texts computed, each with its tokens. Raises EmbedderOverloadedError, and then adds none."""
        new = [digest for digest in missing if digest not in self._pending]
        if not self._queue.has_room_for(len(new)):
            message = "too many texts are waiting to be embedded"
            raise EmbedderOverloadedError(message)
        bulk = len(missing) >= BULK_TEXTS_MIN
        if new and within_s is not None and self._needed_s([missing[digest][1] for digest in new], bulk) > within_s:
            raise _too_long()
        loop = asyncio.get_running_loop()
        for digest in new:
            text, tokens = missing[digest]
            self._pending[digest] = _Pending(text, tokens, loop.create_future())
            self._queue.add(digest, tokens, bulk=bulk)
        if new and not self._start_scheduled:
            # At the end of this turn of the loop: requests that were read together are one batch; nobody waits for it.
            self._start_scheduled = True
            loop.call_soon(self._start)
        waited = {digest: self._pending[digest] for digest in missing}
        until_s = math.inf if within_s is None else self._clock.monotonic() + within_s
        for digest, pending in waited.items():
            pending.callers += 1
            pending.until_s = max(pending.until_s, until_s)
            if not bulk:
                self._queue.hurry(digest)
        return waited

    def _needed_s(self, tokens: Sequence[int], bulk: bool) -> float:
        """Until these texts are done, if all goes on as it does; 0 when nothing is before them."""
        before = self._running_half() + self._queue.tokens_before(max(tokens), bulk=bulk)
        return self._for_tokens_s(before + sum(tokens)) if before else 0.0

    def _running_half(self) -> float:
        # What runs is half done, on average.
        return sum(tokens for tokens, _ in self._running.values()) / 2

    def _for_tokens_s(self, tokens: float) -> float:
        """For so many, by all workers, at the pace of late or at that of the batch that runs, if it is slower."""
        now_s = self._clock.monotonic()
        slowest = max(((now_s - began_s) / count for count, began_s in self._running.values()), default=0.0)
        return self._pace.needed_s(tokens, token_s_min=slowest) / self._workers

    def _refuse_late(self) -> None:
        """Tells those who can no longer have their vectors in time, while they have time for something else."""
        now_s, before = self._clock.monotonic(), self._running_half()
        for digest, tokens in self._queue.in_turn():
            before += tokens
            if now_s + self._for_tokens_s(before) > self._pending[digest].until_s:
                before -= tokens
                self._queue.remove(digest)
                self._fail(digest, _too_long())

    def _leave(self, digest: Digest, pending: _Pending) -> None:
        pending.callers -= 1
        if pending.callers == 0 and self._queue.remove(digest):
            # Nobody waits and no thread has begun: not worth computing.
            del self._pending[digest]
            pending.result.cancel()

    def _start(self) -> None:
        self._start_scheduled = False
        while len(self._running) < self._workers and (batch := self._queue.take()):
            task = asyncio.get_running_loop().create_task(self._compute(batch))
            tokens = sum(self._pending[digest].tokens for digest in batch)
            self._running[task] = tokens, self._clock.monotonic()
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._refuse_late()
        self._start()

    async def _compute(self, batch: Sequence[Digest]) -> None:
        texts = [self._pending[digest].text for digest in batch]
        tokens = sum(self._pending[digest].tokens for digest in batch)
        began_s = self._clock.monotonic()
        try:
            vectors = await self._backend.encode(texts)
            self._pace.observe(tokens, self._clock.monotonic() - began_s)
        except EmbedderError as error:
            for digest in batch:
                self._fail(digest, error)
            return
        # Whatever the native library raised, the callers must hear of it, or they wait for ever.
        except Exception as error:  # noqa: BLE001
            for digest in batch:
                failure = EmbedderError(f"the embedding model failed ({type(error).__name__})")
                failure.__cause__ = error
                self._fail(digest, failure)
            return
        for digest, row in zip(batch, vectors, strict=True):
            if not np.isfinite(row).all():
                self._fail(digest, EmbedderError("the embedding model's vector is not finite"))
                continue
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


def _too_long() -> EmbedderOverloadedError:
    return EmbedderOverloadedError("the texts that wait leave too little time for another")
