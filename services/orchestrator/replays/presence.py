"""Whether a process is there, as Redis sees it: a subscription that ends with the process, and asks for nothing.

Promises: within moments of `begin`, and for as long as the process and its connection live, the channel `name` has a
subscriber; kill -9 ends that at once, which no lease does. A process that is only slow keeps it. A connection that
breaks, or that says nothing any more, is made anew. Nobody waits for any of it. For one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.runtime.tasks import end_tasks

__all__ = ["Presence"]

PING_S: Final = 1.0
"""After so long a silence Redis is asked whether it is there, and after as long again it is not."""
AGAIN_S: Final = 0.1
_GONE: Final = (RedisError, TimeoutError, OSError)


class Presence:
    """This process. `redis` is closed by who made it, after `close`."""

    def __init__(self, redis: Redis) -> None:
        self.name: Final = f"spillway:alive:1:{secrets.token_hex(8)}"
        self._redis = redis
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Subscribes in the background; of no effect the second time."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="presence")

    async def close(self) -> None:
        """The process is gone, for the others."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(*_GONE):
                async with self._redis.pubsub() as subscription:
                    await self._listen(subscription)
            await asyncio.sleep(AGAIN_S)

    async def _listen(self, subscription: Any) -> None:
        """Returns when Redis is silent. Raises what its client raises."""
        await subscription.subscribe(self.name)
        is_asked = False
        while True:
            message = await subscription.get_message(timeout=PING_S)
            if message is None and is_asked:
                return
            is_asked = message is None
            if is_asked:
                await subscription.ping()
