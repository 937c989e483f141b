"""Scripts on a Redis that may be gone at any time.

Promises: a call is one script, so it happens as a whole or not at all; it takes `timeout_s` at most, with connecting
and with waiting for one of the `CONNECTIONS_MAX` places, and is never repeated; after failures Redis is left alone for
`pause_s`, then one call finds out whether it is back. Calls that wait for a place say nothing of Redis: a crowd is no
outage, and a call that had less than half of its time left when it began is none either. With `places` a reply comes
when one replica has what the script wrote, so that a failover to that replica loses nothing which was replied to; it
comes all the same after `COPY_SHARE` of the time, or `COPY_S_MAX`: then the primary may have been replaced, which is
found out, and while no replica follows none is waited for. Nor does the one call wait that finds out whether Redis is
back.
What does not come back in time may have happened all the same: scripts are written so that it does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown, Ticket
from services.runtime.logs import get_logger
from services.runtime.redis_client import open_redis
from services.runtime.redis_places import RedisPlaces

__all__ = ["CONNECTIONS_MAX", "GuardedRedis", "RedisGoneError", "connect"]

CONNECTIONS_MAX: Final = 32
"""Calls under way at once. Redis does one after the other anyway; more would only make a cold start slower."""
PAUSE_S: Final = 0.5
FAILURES_MAX: Final = 2  # in a row; one late reply of a busy machine is no outage
COPY_SHARE: Final = 0.25
"""Of a call's time: so long it waits for a replica, at most `COPY_S_MAX`."""
COPY_S_MAX: Final = 0.5
COPY_PAUSE_S: Final = 5.0
"""How long replicas are not waited for when none has answered."""

_log = get_logger(__name__)


class RedisGoneError(Exception):
    """Redis did not do it in time, or not at all."""


def connect(url: str, *, password: str, timeout_s: float, places: RedisPlaces | None = None) -> Redis:
    """A client for one GuardedRedis. `places` as of `open_redis`. ValueError for another URL."""
    return open_redis(
        url,
        setting="orchestrator.redis_url",
        password=password,
        timeout_s=timeout_s,
        connections_max=CONNECTIONS_MAX,
        places=places,
    )


class GuardedRedis:
    """`redis` decodes no responses, repeats nothing, has `CONNECTIONS_MAX` connections and no other user; who made it
    closes it. `places`: those that it was made with, where the primary may be replaced by its replica. Belongs to one
    event loop.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        timeout_s: float,
        clock: Clock,
        pause_s: float = PAUSE_S,
        failures_max: int = FAILURES_MAX,
        places: RedisPlaces | None = None,
    ) -> None:
        self._redis = redis
        self._timeout_s = timeout_s
        self._clock = clock
        self._cooldown = Cooldown(pause_s=pause_s, failures_max=failures_max)
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._places = places
        self._copies_wanted_at_s = float("-inf")  # from when on a replica is waited for
        self._is_followed = True

    def script(self, text: str) -> AsyncScript:
        """A script to be run by `run`; sent once, and then only named."""
        script: AsyncScript = self._redis.register_script(text)
        return script

    async def run(self, script: AsyncScript, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The script's reply. Raises RedisGoneError."""
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            raise RedisGoneError("left alone after a failure")
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + self._timeout_s
        is_telling = False  # whether the call has had the time that Redis needs
        try:
            async with asyncio.timeout_at(ends_at_s), self._free:
                is_telling = ends_at_s - loop.time() >= self._timeout_s / 2
                if self._is_copied(ticket):
                    reply: Any = await self._run_copied(script, keys, args)
                else:
                    reply = await script(keys=list(keys), args=list(args))
        except (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError) as error:
            is_late = isinstance(error, TimeoutError | RedisTimeoutError)
            if isinstance(error, MaxConnectionsError) or (is_late and not is_telling):
                self._cooldown.abandoned(ticket)
            else:
                self._cooldown.failed(ticket, self._clock.monotonic())
            raise RedisGoneError(type(error).__name__) from error
        except RedisError as error:
            self._cooldown.succeeded(ticket)  # it answers, only not this: out of memory, read-only, moved
            raise RedisGoneError(f"{type(error).__name__}: {str(error)[:200]}") from error
        except BaseException:
            self._cooldown.abandoned(ticket)
            raise
        self._cooldown.succeeded(ticket)
        return reply

    def _is_copied(self, ticket: Ticket) -> bool:
        is_due = self._clock.monotonic() >= self._copies_wanted_at_s
        return self._places is not None and not ticket.probe and is_due

    async def _run_copied(self, script: AsyncScript, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The reply, once a replica has what was written, or it has taken too long. Raises RedisError."""
        wait_ms = max(1, round(min(self._timeout_s * COPY_SHARE, COPY_S_MAX) * 1_000))
        reply, is_copied = await self._with_wait("EVALSHA", script.sha, keys, args, wait_ms)
        if isinstance(reply, NoScriptError):  # a server that has just become the primary
            wait_ms = wait_ms if is_copied else 1
            reply, is_copied = await self._with_wait("EVAL", script.script, keys, args, wait_ms)
        if isinstance(reply, RedisError):
            raise reply
        if not is_copied:
            self._copies_wanted_at_s = self._clock.monotonic() + COPY_PAUSE_S
            if self._places is not None:
                self._places.suspect()
        if is_copied is not self._is_followed:
            self._is_followed = is_copied
            _log.warning("redis_replica_follows_again" if is_copied else "redis_replica_not_following")
        return reply

    async def _with_wait(
        self, command: str, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int], wait_ms: int
    ) -> tuple[Any, bool]:
        """The reply, and whether a replica has it. Errors are values: redis-py would raise with arguments."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command(command, script, len(keys), *keys, *args)
            pipe.execute_command("WAIT", 1, wait_ms)
            reply, copies = await pipe.execute(raise_on_error=False)
        return reply, isinstance(copies, int) and copies > 0
