"""A request id seen again gets the same answer again, and no model is called twice for it.

    begin ─► Replayed                     there was an answer, or another one just gave it
          └► Owner ─► finish(completion)  the answer is kept before it is returned
                   └► abandon()           no answer: the next duplicate tries

Promises: of duplicates at once, over all replicas that share a store, one owns the work and the others wait for it; if
it fails, leaves or dies, the next takes over. Another body under the same id is FAILED_PRECONDITION /
IDEMPOTENCY_CONFLICT. An answer is kept before anybody sees it. Errors are never kept. A store that does not answer
fails nobody: duplicates in one process still share, those in others do not, and it is counted.

A request costs one round trip to the store before its work and one after it; duplicates in one process cost none. For
one event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from services.orchestrator.replays.replay_store import Answered, Busy, Conflict, Owned, ReplayStore, ReplayStoreError
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, FailedPrecondition
from services.runtime.tasks import end_tasks
from spillway.routing import Completion, CompletionRequest
from spillway.v1 import orchestrator_pb2
from spillway.wire import (
    WireError,
    completion_from_proto,
    completion_request_to_proto,
    completion_to_proto,
)

__all__ = ["Owner", "ReplayEvent", "Replayed", "Replays", "request_digest"]

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

_DOMAIN: Final = b"spillway.CompleteRequest/1\0"

_Result = TypeVar("_Result")


class ReplayEvent(StrEnum):
    """What is counted, once each."""

    OWNED = "owned"
    TAKEN_OVER = "taken_over"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    WITHOUT_STORE = "without_store"
    NOT_KEPT = "not_kept"


def request_digest(request: CompletionRequest) -> bytes:
    """SHA-256 over everything that is asked: the request in its canonical protobuf form, without its id."""
    message = completion_request_to_proto(replace(request, request_id=""))
    return hashlib.sha256(_DOMAIN + message.SerializeToString(deterministic=True)).digest()


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer that this request id has."""

    completion: Completion


class _Flight:
    """Duplicates in this process: what the one that flies came back with; None when it did not."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.landed: asyncio.Future[Completion | None] = asyncio.get_running_loop().create_future()


class Owner:
    """The right to work on a request id. To be ended by `finish` or `abandon`; what comes after does nothing."""

    def __init__(self, replays: Replays, key: str, flight: _Flight, token: str) -> None:
        self._replays = replays
        self._key = key
        self._flight = flight
        self._token = token
        self._renewal = replays.start_owning(key, token)

    async def finish(self, completion: Completion) -> Completion:
        """Keeps the answer, and says which one counts: another one's, if it was kept before.

        Raises nothing of its own. It is kept even if who waits for it is cancelled.
        """
        kept = completion
        keeping = self._replays.start(self._replays.keep(self._key, self._flight.digest, self._token, completion))
        try:
            kept = await asyncio.shield(keeping)
        finally:
            self._end(kept)
        return kept

    def abandon(self) -> None:
        """There is no answer. Returns at once; may be called in a cancelled task, and more than once."""
        if not self._flight.landed.done():
            self._replays.release(self._key, self._token)
            self._end(None)

    def _end(self, completion: Completion | None) -> None:
        self._renewal.cancel()
        self._replays.land(self._key, self._flight, completion)


class Replays:
    """`window_s` is how long an answer is replayed. `on_event` counts. `close` at the end."""

    def __init__(
        self,
        store: ReplayStore,
        *,
        window_s: float,
        clock: Clock,
        lease_s: float = LEASE_S,
        rng: random.Random | None = None,
        on_event: Callable[[ReplayEvent], None] = lambda event: None,
    ) -> None:
        self._store = store
        self._window_s = window_s
        self._lease_s = lease_s
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_event = on_event
        self._flights: dict[str, _Flight] = {}
        self._telling: set[asyncio.Task[Any]] = set()
        self._renewals: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(
        self,
        tenant: str,
        request_id: str,
        digest: bytes,
        answer: Callable[[], Awaitable[Completion]],
        *,
        timeout_s: float | None = None,
    ) -> Completion:
        """The answer of `answer`, or of the duplicate that called its own first. `timeout_s` is for waiting alone.

        Raises FailedPrecondition, DeadlineExceeded, and what `answer` raises.
        """
        begun = await self.begin(tenant, request_id, digest, timeout_s=timeout_s)
        if isinstance(begun, Replayed):
            return begun.completion
        try:
            completion = await answer()
        except BaseException:
            begun.abandon()
            raise
        return await begun.finish(completion)

    async def begin(
        self, tenant: str, request_id: str, digest: bytes, *, timeout_s: float | None = None
    ) -> Replayed | Owner:
        """Waits while another one works on it. Raises FailedPrecondition, and DeadlineExceeded after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._begin(_key(tenant, request_id), digest)
        except TimeoutError as error:
            raise DeadlineExceeded(detail="waited for a duplicate") from error

    async def close(self) -> None:
        """Waits for what is to be told to the store, `CLOSE_S` at most. What is still owned is left to its lease."""
        self._closed = True
        await end_tasks(self._renewals)
        if self._telling:
            await asyncio.wait(self._telling, timeout=CLOSE_S)
        await end_tasks(self._telling)

    async def _begin(self, key: str, digest: bytes) -> Replayed | Owner:
        while (flight := self._flights.get(key)) is not None:
            if flight.digest != digest:
                raise self._conflict()
            await asyncio.wait({flight.landed})
            completion = flight.landed.result()
            if completion is not None:
                self._on_event(ReplayEvent.REPLAYED)
                return Replayed(completion)
        flight = self._flights[key] = _Flight(digest)
        token = secrets.token_hex(8)
        try:
            earlier = await self._claim(key, digest, token)
        except BaseException:
            self.release(key, token)  # the claim may have arrived
            self.land(key, flight, None)
            raise
        if earlier is None:
            return Owner(self, key, flight, token)
        self.land(key, flight, earlier)
        self._on_event(ReplayEvent.REPLAYED)
        return Replayed(earlier)

    async def _claim(self, key: str, digest: bytes, token: str) -> Completion | None:
        """The answer that there is; None when the work is the claimant's."""
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
                    raise self._conflict()
                case Busy(remaining_s):
                    jitter = 0.5 + self._rng.random() / 2
                    await self._clock.sleep(min(pause_s * jitter, remaining_s + POLL_MIN_S))
                    pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)

    def start(self, telling: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Tells the store something, whoever waits for it."""
        task = asyncio.create_task(telling, name="replay-tell")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task

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

    async def keep(self, key: str, digest: bytes, token: str, completion: Completion) -> Completion:
        """The answer that counts."""
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
        """Tells the store in the background."""
        if not self._closed:
            self.start(self._release(key, token))

    def land(self, key: str, flight: _Flight, completion: Completion | None) -> None:
        """Ends a flight; those that wait for it learn how."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(completion)

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

    def _conflict(self) -> FailedPrecondition:
        self._on_event(ReplayEvent.CONFLICT)
        return FailedPrecondition("IDEMPOTENCY_CONFLICT", "the request id was used for another request")


def _key(tenant: str, request_id: str) -> str:
    """Neither tenant nor id can be read from it; the part before the colon is the tenant's."""
    return f"{_hash(tenant)}:{_hash(request_id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _read(answer: bytes) -> Completion | None:
    """None for what this version cannot read."""
    try:
        return completion_from_proto(orchestrator_pb2.Completion.FromString(answer))
    except (DecodeError, WireError):
        return None
