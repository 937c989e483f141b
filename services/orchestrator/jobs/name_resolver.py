"""Resolves the names of webhooks, in threads, since nothing can break off a lookup that has begun.

Promises: at most `THREADS` lookups at once, and of one tenant `TENANT_THREADS`, those counted that nobody waits for any
more; so a tenant whose names are slow to resolve holds up itself alone. Who gets no thread within `WAIT_S`, or finds
`TENANT_WAITING` others waiting, is told so (ResolversBusyError): that says nothing of the name. For one event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

__all__ = ["TENANT_THREADS", "TENANT_WAITING", "THREADS", "NameResolver", "ResolversBusyError"]

THREADS: Final = 32
TENANT_THREADS: Final = 4
TENANT_WAITING: Final = 4
WAIT_S: Final = 2.0


class ResolversBusyError(Exception):
    """The name was not looked up: try later."""


class NameResolver:
    """`ask` blocks, and raises OSError or UnicodeError for a name without addresses. `close` at the end."""

    def __init__(self, ask: Callable[[str, int], Sequence[str]] | None = None, *, wait_s: float = WAIT_S) -> None:
        self._ask = ask or _addresses
        self._wait_s = wait_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-dns")
        self._under_way: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._freed = asyncio.Event()

    async def resolve(self, tenant: str, host: str, port: int) -> Sequence[str]:
        """The addresses. Raises ResolversBusyError, OSError, UnicodeError."""
        await self._enter(tenant)
        loop = asyncio.get_running_loop()
        looking = loop.run_in_executor(self._threads, self._ask, host, port)
        looking.add_done_callback(lambda ended: self._leave(tenant, ended))
        return await asyncio.shield(looking)  # the thread is taken until it ends, whoever waits for it

    def close(self) -> None:
        """Lets go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _enter(self, tenant: str) -> None:
        if self._has_room(tenant):
            self._under_way[tenant] += 1
            return
        if self._waiting[tenant] >= TENANT_WAITING:
            raise ResolversBusyError
        self._waiting[tenant] += 1
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(tenant):
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise ResolversBusyError from None
        finally:
            self._waiting -= Counter({tenant: 1})
        self._under_way[tenant] += 1

    def _has_room(self, tenant: str) -> bool:
        return self._under_way[tenant] < TENANT_THREADS and self._under_way.total() < THREADS

    def _leave(self, tenant: str, ended: asyncio.Future[Sequence[str]]) -> None:
        self._under_way -= Counter({tenant: 1})
        if not ended.cancelled():
            ended.exception()  # seen, should nobody wait for it any more
        self._freed.set()


def _addresses(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
