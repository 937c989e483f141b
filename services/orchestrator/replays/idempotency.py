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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from services.orchestrator.replays.claims import LEASE_S, Claims, ReplayEvent
from services.orchestrator.replays.replay_store import ReplayStore
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded
from spillway.routing import Completion, CompletionRequest
from spillway.wire import completion_request_to_proto

__all__ = ["Owner", "Replayed", "Replays", "request_digest"]

_DOMAIN: Final = b"spillway.CompleteRequest/1\0"


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

    def __init__(self, replays: Replays, claims: Claims, key: str, flight: _Flight, token: str) -> None:
        self._replays = replays
        self._claims = claims
        self._key = key
        self._flight = flight
        self._token = token
        self._renewal = claims.start_owning(key, token)

    async def finish(self, completion: Completion) -> Completion:
        """Keeps the answer, and says which one counts: another one's, if it was kept before.

        Raises nothing of its own. It is kept even if who waits for it is cancelled.
        """
        kept = completion
        keeping = self._claims.keep(self._key, self._flight.digest, self._token, completion)
        try:
            kept = await asyncio.shield(keeping)
        finally:
            self._end(kept)
        return kept

    def abandon(self) -> None:
        """There is no answer. Returns at once; may be called in a cancelled task, and more than once."""
        if not self._flight.landed.done():
            self._claims.release(self._key, self._token)
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
        on_event: Callable[[ReplayEvent], None] = lambda event: None,
    ) -> None:
        self._on_event = on_event
        self._claims = Claims(
            store, window_s=window_s, lease_s=lease_s, clock=clock, rng=random.Random(), on_event=on_event
        )
        self._flights: dict[str, _Flight] = {}

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
        """Waits, for a moment, for what is to be told to the store. What is still owned is left to its lease."""
        await self._claims.close()

    async def _begin(self, key: str, digest: bytes) -> Replayed | Owner:
        while (flight := self._flights.get(key)) is not None:
            if flight.digest != digest:
                raise self._claims.conflict()
            await asyncio.wait({flight.landed})
            completion = flight.landed.result()
            if completion is not None:
                self._on_event(ReplayEvent.REPLAYED)
                return Replayed(completion)
        flight = self._flights[key] = _Flight(digest)
        token = secrets.token_hex(8)
        try:
            earlier = await self._claims.claim(key, digest, token)
        except BaseException:
            self._claims.release(key, token)  # the claim may have arrived
            self.land(key, flight, None)
            raise
        if earlier is None:
            return Owner(self, self._claims, key, flight, token)
        self.land(key, flight, earlier)
        self._on_event(ReplayEvent.REPLAYED)
        return Replayed(earlier)

    def land(self, key: str, flight: _Flight, completion: Completion | None) -> None:
        """Ends a flight; those that wait for it learn how."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(completion)


def _key(tenant: str, request_id: str) -> str:
    """Neither tenant nor id can be read from it; the part before the colon is the tenant's."""
    return f"{_hash(tenant)}:{_hash(request_id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
