"""Where the primaries are: the one that sentinels name, or those of a cluster.

Promises: a place is looked up when it is first needed, and after `suspect`, in the background, by one task, at most
every `LOOKUP_PAUSE_S`; nobody's call is repeated because of it. The sentinels' primary is looked up again every
`LOOKUP_EVERY_S` while it is used, also when all is well: one that is cut off from its sentinels does not know it. Nodes
that were heard of are asked too when those of the URL are gone.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.runtime.clock import Clock
from services.runtime.redis_connections import node_options
from services.runtime.tasks import end_tasks
from spillway.configuration.redis_url import NODES_MAX, Address, RedisUrl, Topology

__all__ = ["LOOKUP_EVERY_S", "RedisPlaces", "disconnect"]

LOOKUP_TIMEOUT_S: Final = 0.5
"""For asking one sentinel or node where things are."""

LOOKUP_PAUSE_S: Final = 0.2
LOOKUP_EVERY_S: Final = 1.0

_GONE: Final = (RedisError, TimeoutError, OSError)


class RedisPlaces:
    """`tags`: of a cluster, for each place the hash tag, or the key, that lies there. Sentinels have one place.

    `looked_up` is awaited after each lookup. `close` at the end.
    """

    def __init__(
        self,
        url: RedisUrl,
        *,
        password: str,
        clock: Clock,
        tags: Sequence[str] = ("",),
        looked_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.url: Final = url
        self.password: Final = password
        self._clock = clock
        self._slots = [key_slot(tag.encode()) for tag in tags]
        self._looked_up = looked_up
        self._places: dict[int, Address] = {}
        self._nodes = url.nodes  # whom to ask, the one that answered last first
        self._lookup: asyncio.Task[None] | None = None
        self._looked_up_at_s = float("-inf")

    async def place(self, number: int = 0) -> Address:
        """Where it is, as far as is known. Raises RedisConnectionError when nobody knew."""
        if number not in self._places:
            await asyncio.wait({self._start()})
        elif self.url.topology is Topology.SENTINEL and self._age_s() >= LOOKUP_EVERY_S:
            self._start()
        place = self._places.get(number)
        if place is None:
            raise RedisConnectionError("no server is known to be the primary")
        return place

    def known(self) -> frozenset[Address]:
        """All places, as far as they are known."""
        return frozenset(self._places.values())

    def suspect(self) -> None:
        """A call failed: perhaps a server has moved."""
        if self._age_s() >= LOOKUP_PAUSE_S:
            self._start()

    async def close(self) -> None:
        """Ends a lookup that is under way."""
        if self._lookup is not None:
            await end_tasks([self._lookup])

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._looked_up_at_s

    def _start(self) -> asyncio.Task[None]:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(self._look_up(), name="redis-lookup")
        return self._lookup

    async def _look_up(self) -> None:
        """Asks one after the other until one knows. Never raises: what is not found out stays as it was."""
        for node in self._nodes:
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                    places, nodes = await self._ask(node)
            except _GONE:
                continue
            if places:
                known = dict.fromkeys((node, *nodes, *self._nodes))
                self._nodes = tuple(known)[:NODES_MAX]
                self._places.update(places)
                break
        self._looked_up_at_s = self._clock.monotonic()
        if self._looked_up is not None:
            await self._looked_up()

    async def _ask(self, node: Address) -> tuple[dict[int, Address], tuple[Address, ...]]:
        """Where the places are, and who else may be asked."""
        options = node_options(self.url, password=self.password, timeout_s=LOOKUP_TIMEOUT_S, to_ask_the_way=True)
        asked = Redis(connection_pool=ConnectionPool(host=node[0], port=node[1], max_connections=1, **options))
        try:
            if self.url.topology is Topology.SENTINEL:
                found = await _answer(asked, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.url.master)
                return ({0: (found[0].decode(), int(found[1]))} if found else {}), ()
            ranges = await _answer(asked, "CLUSTER", "SLOTS")
        finally:
            await disconnect(asked)
        primaries = [
            (int(first), int(last), ((primary[0] or b"").decode() or node[0], int(primary[1])))
            for first, last, primary, *_ in ranges
        ]
        places = {
            number: place
            for number, slot in enumerate(self._slots)
            for first, last, place in primaries
            if first <= slot <= last
        }
        return places, tuple(place for *_, place in primaries)


async def _answer(client: Redis, *words: str) -> Any:
    """The plain reply, which redis-py shapes only when a command is sent as one word."""
    return await cast("Any", client).execute_command(*words)


async def disconnect(client: Redis) -> None:
    """Lets go of all connections, whatever they say to it."""
    with contextlib.suppress(*_GONE):
        await client.aclose()
        await client.connection_pool.disconnect()
