"""Scripts on a Redis that may be gone at any time.

Promises: a call is one script, so it happens as a whole or not at all; it takes `timeout_s` at most, with connecting,
and is never repeated; after a failure Redis is left alone for `PAUSE_S`, then one call finds out whether it is back.
What does not come back in time may have happened all the same: scripts are written so that it does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown

__all__ = ["GuardedRedis", "RedisGoneError"]

PAUSE_S: Final = 0.5
FAILURES_MAX: Final = 2  # in a row; one late reply of a busy machine is no outage


class RedisGoneError(Exception):
    """Redis did not do it in time, or not at all."""


class GuardedRedis:
    """`redis` decodes no responses and repeats nothing. Belongs to one event loop; who made `redis` closes it."""

    def __init__(self, redis: Redis, *, timeout_s: float, clock: Clock) -> None:
        self._redis = redis
        self._timeout_s = timeout_s
        self._clock = clock
        self._cooldown = Cooldown(pause_s=PAUSE_S, failures_max=FAILURES_MAX)

    def script(self, text: str) -> AsyncScript:
        """A script to be run by `run`; sent once, and then only named."""
        script: AsyncScript = self._redis.register_script(text)
        return script

    async def run(self, script: AsyncScript, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The script's reply. Raises RedisGoneError."""
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            raise RedisGoneError("left alone after a failure")
        try:
            async with asyncio.timeout(self._timeout_s):
                reply: Any = await script(keys=list(keys), args=list(args))
        except (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError) as error:
            self._cooldown.failed(ticket, self._clock.monotonic())
            raise RedisGoneError(type(error).__name__) from error
        except RedisError as error:
            self._cooldown.succeeded(ticket)  # it answers, only not this: out of memory, read-only, moved
            raise RedisGoneError(type(error).__name__) from error
        except BaseException:
            self._cooldown.abandoned(ticket)
            raise
        self._cooldown.succeeded(ticket)
        return reply
