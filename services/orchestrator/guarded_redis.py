"""Scripts on a Redis that may be gone at any time.

Promises: a call is one script, so it happens as a whole or not at all; it takes `timeout_s` at most, with connecting
and with waiting for one of the `CONNECTIONS_MAX` places, and is never repeated; after failures Redis is left alone for
`pause_s`, then one call finds out whether it is back. Calls that wait for a place say nothing of Redis: a crowd is no
outage, and a call that had less than half of its time left when it began is none either.
What does not come back in time may have happened all the same: scripts are written so that it does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown

__all__ = ["CONNECTIONS_MAX", "GuardedRedis", "RedisGoneError"]

CONNECTIONS_MAX: Final = 32
"""Calls under way at once. Redis does one after the other anyway; more would only make a cold start slower."""
PAUSE_S: Final = 0.5
FAILURES_MAX: Final = 2  # in a row; one late reply of a busy machine is no outage


class RedisGoneError(Exception):
    """Redis did not do it in time, or not at all."""


class GuardedRedis:
    """`redis` decodes no responses, repeats nothing, has `CONNECTIONS_MAX` connections and no other user; who made it
    closes it. Belongs to one event loop.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        timeout_s: float,
        clock: Clock,
        pause_s: float = PAUSE_S,
        failures_max: int = FAILURES_MAX,
    ) -> None:
        self._redis = redis
        self._timeout_s = timeout_s
        self._clock = clock
        self._cooldown = Cooldown(pause_s=pause_s, failures_max=failures_max)
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)

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
            async with asyncio.timeout_at(ends_at_s), self._places:
                is_telling = ends_at_s - loop.time() >= self._timeout_s / 2
                reply: Any = await script(keys=list(keys), args=list(args))
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
