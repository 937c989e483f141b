"""What this process claims of request ids at the store, and what it tells it of them.

Promises: a claim is kept alive until it is ended, and let go of as soon as the store hears of it; what the store does
not hear is left to the lease. A store that does not answer fails nobody, and it is counted. For one event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from services.orchestrator.replays.replay_store import Answered, Busy, Conflict, Owned, ReplayStore, ReplayStoreError
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition
from services.runtime.tasks import end_tasks
from spillway.routing import Completion
from spillway.v1 import orchestrator_pb2
from spillway.wire import WireError, completion_from_proto, completion_to_proto

__all__ = ["LEASE_S", "Claims", "ReplayEvent"]

LEASE_S: Final = 10.0
"""An owner that is silent for so long is dead; so long its duplicates wait, where nothing says sooner that its process
is gone (`presence`). Renewed three times in it."""

ANSWER_BYTES_MAX: Final = 1_048_576
"""Longer answers are returned, and not kept."""

POLL_MIN_S: Final = 0.02
POLL_MAX_S: Final = 0.25
POLL_GROWTH: Final = 1.5
RELEASE_PAUSE_S: Final = 0.5
"""Before a store that did not answer is told once more that a claim is given up, at most; half of it at least."""

TELLING_MAX: Final = 1_000
"""When more is under way to the store, nothing is told once more: what is claimed is left to its lease."""

CLOSE_S: Final = 1.0
"""How long closing waits for answers to be kept, and for what was abandoned to be let go."""

_Result = TypeVar("_Result")


class ReplayEvent(StrEnum):
    """What is counted, once each."""

    OWNED = "owned"
    TAKEN_OVER = "taken_over"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    WITHOUT_STORE = "without_store"
    NOT_KEPT = "not_kept"


class Claims:
    """`window_s` is how long the store keeps an answer, `lease_s` how long a claim lives without being renewed.
    `on_event` counts. `close` at the end.
    """

    def __init__(
        self,
        store: ReplayStore,
        *,
        window_s: float,
        lease_s: float,
        clock: Clock,
        rng: random.Random,
        on_event: Callable[[ReplayEvent], None],
    ) -> None:
        self._store = store
        self._window_s = window_s
        self._lease_s = lease_s
        self._clock = clock
        self._rng = rng
        self._on_event = on_event
        self._telling: set[asyncio.Task[Any]] = set()
        self._renewals: set[asyncio.Task[None]] = set()
        self._closed = False

    async def claim(self, key: str, digest: bytes, token: str) -> Completion | None:
        """The answer that there is; None when the work is the claimant's. Waits while it is another one's.

        Raises FailedPrecondition.
        """
        pause_s = POLL_MIN_S
        while True:
            try:
                claim = await self._store.claim(key, digest, token, lease_s=self._lease_s, window_s=self._window_s)
            except ReplayStoreError:
                self._on_event(ReplayEvent.WITHOUT_STORE)
                return None
            match claim:
                case Owned(taken_over):
                    self._on_event(ReplayEvent.TAKEN_OVER if taken_over else ReplayEvent.OWNED)
                    return None
                case Answered(answer):
                    earlier = _read(answer)
                    if earlier is None:
                        self._on_event(ReplayEvent.WITHOUT_STORE)
                    return earlier
                case Conflict():
                    raise self.conflict()
                case Busy(remaining_s):
                    jitter = 0.5 + self._rng.random() / 2
                    await self._clock.sleep(min(pause_s * jitter, remaining_s + POLL_MIN_S))
                    pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)

    def start_owning(self, key: str, token: str) -> asyncio.Task[None]:
        """Keeps the lease from now on."""
        task = asyncio.create_task(self._keep_owning(key, token), name="replay-lease")
        self._renewals.add(task)
        task.add_done_callback(self._renewals.discard)
        return task

    async def _keep_owning(self, key: str, token: str) -> None:
        """Renews the lease until it is cancelled, or lost."""
        while True:
            await self._clock.sleep(self._lease_s / 3)
            try:
                if not await self._store.renew(key, token, lease_s=self._lease_s):
                    return
            except ReplayStoreError:
                continue

    def keep(self, key: str, digest: bytes, token: str, completion: Completion) -> asyncio.Task[Completion]:
        """Keeps the answer, whoever waits for it, and gives the one that counts."""
        return self._start(self._keep(key, digest, token, completion))

    async def _keep(self, key: str, digest: bytes, token: str, completion: Completion) -> Completion:
        answer = completion_to_proto(completion).SerializeToString()
        if len(answer) > ANSWER_BYTES_MAX:
            self._on_event(ReplayEvent.NOT_KEPT)
            self.release(key, token)
            return completion
        try:
            kept = await self._store.keep(key, digest, answer, window_s=self._window_s)
        except ReplayStoreError:
            self._on_event(ReplayEvent.NOT_KEPT)
            self.release(key, token)
            return completion
        return completion if kept == answer else _read(kept) or completion

    def release(self, key: str, token: str) -> None:
        """Tells the store in the background that the claim is given up; not after `close` any more."""
        if not self._closed:
            self._start(self._release(key, token))

    async def _release(self, key: str, token: str) -> None:
        """Again and again until the store was told, or the lease has ended by itself."""
        ends_at_s = self._clock.monotonic() + self._lease_s
        while True:
            try:
                await self._store.release(key, token)
            except ReplayStoreError:
                is_over = self._clock.monotonic() >= ends_at_s
                if self._closed or is_over or len(self._telling) > TELLING_MAX:
                    return
                await self._clock.sleep(RELEASE_PAUSE_S * (0.5 + self._rng.random() / 2))
            else:
                return

    def _start(self, telling: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(telling, name="replay-tell")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task

    def conflict(self) -> FailedPrecondition:
        """The error of a request id that was used for another request; it is counted."""
        self._on_event(ReplayEvent.CONFLICT)
        return FailedPrecondition("IDEMPOTENCY_CONFLICT", "the request id was used for another request")

    async def close(self) -> None:
        """Waits for what is to be told to the store, `CLOSE_S` at most. What is still owned is left to its lease."""
        self._closed = True
        await end_tasks(self._renewals)
        if self._telling:
            await asyncio.wait(self._telling, timeout=CLOSE_S)
        await end_tasks(self._telling)


def _read(answer: bytes) -> Completion | None:
    """None for what this version cannot read."""
    try:
        return completion_from_proto(orchestrator_pb2.Completion.FromString(answer))
    except (DecodeError, WireError):
        return None
