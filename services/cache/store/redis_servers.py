"""Which Redis server holds what: one server, the primary that sentinels name, or the primaries of a cluster.

Promises: entries are spread over `shards`, one for a server or a sentinels' primary, `CLUSTER_SHARDS` for a cluster. A
shard lies in one hash slot, so that its transactions, scripts and pipelines are those of a plain server; only this file
knows of clusters. A connection is only used when its server calls itself a primary, and what is read for a request is
only taken while it still does: a replica would serve what was invalidated a moment ago. Nothing is repeated: a call
that meets a server which has moved fails, and tells `suspect`; the new place is looked up in the background, as
`services.runtime.redis_places` promises.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ReadOnlyError

from services.runtime.clock import Clock
from services.runtime.redis_connections import connect_to_primary, node_options, server_pool
from services.runtime.redis_places import RedisPlaces, disconnect
from services.runtime.tasks import end_tasks
from spillway.configuration.redis_url import Address, RedisUrl, Topology

__all__ = ["CLUSTER_SHARDS", "RedisServers", "shard_tag"]

CLUSTER_SHARDS = 16
"""Slots that a cluster's entries lie in, and streams that each replica follows. A change of it is another layout."""

CONNECTIONS_MAX = 64
"""To each server. At 60 microseconds a request this is far more than one event loop can keep busy."""

SOCKET_TIMEOUT_S = 3.0
"""The longest silence in a call. Requests have a limit of their own around the whole of it, far below."""

_ANYWHERE: Address = ("", 0)


def shard_tag(shard: int) -> str:
    """What stands in braces in the shard's key names: a cluster hashes nothing else."""
    return f"cache:{shard}"


class RedisServers:
    """`client` gives the server of a shard; `close` at the end. Connects when first used. Raises ValueError for a URL
    that redis-py does not take."""

    def __init__(self, url: RedisUrl, *, password: str, clock: Clock) -> None:
        self._url = url
        self._password = password
        self._clients: dict[Address, Redis] = {}
        self._dropping: asyncio.Task[None] | None = None
        self.shards = CLUSTER_SHARDS if url.topology is Topology.CLUSTER else 1
        tags = tuple(shard_tag(shard) for shard in range(self.shards))
        self._places = RedisPlaces(url, password=password, clock=clock, tags=tags, looked_up=self._drop_moved)
        if url.topology is Topology.SERVER:
            self._clients[_ANYWHERE] = self._client_of_url()

    async def client(self, shard: int) -> Redis:
        """A client of the server that holds the shard. Raises RedisConnectionError when none is known."""
        if self._url.topology is Topology.SERVER:
            if _ANYWHERE not in self._clients:
                self._clients[_ANYWHERE] = self._client_of_url()
            return self._clients[_ANYWHERE]
        self._places.watch()
        place = await self._places.place(shard)
        if place not in self._clients:
            self._clients[place] = self._client_of(place)
        return self._clients[place]

    def suspect(self, error: BaseException) -> None:
        """A call failed: perhaps the server has moved."""
        if self._url.topology is not Topology.SERVER:
            self._places.suspect()
        elif isinstance(error, ReadOnlyError) and (self._dropping is None or self._dropping.done()):
            # The name may by now lead to another server, which only new connections would see.
            self._dropping = asyncio.create_task(self._drop(tuple(self._clients)), name="cache-redis-drop")

    async def close(self) -> None:
        """Lets go of all connections."""
        await self._places.close()
        if self._dropping is not None:
            await end_tasks([self._dropping])
        await self._drop(tuple(self._clients))

    async def _drop_moved(self) -> None:
        await self._drop(set(self._clients) - self._places.known())

    async def _drop(self, places: Iterable[Address]) -> None:
        for place in tuple(places):
            if (client := self._clients.pop(place, None)) is not None:
                await disconnect(client)

    def _client_of_url(self) -> Redis:
        pool = server_pool(
            BlockingConnectionPool,
            self._url.url,
            password=self._password,
            timeout_s=SOCKET_TIMEOUT_S,
            redis_connect_func=connect_to_primary,
            max_connections=CONNECTIONS_MAX,
            timeout=SOCKET_TIMEOUT_S,
        )
        return Redis(connection_pool=pool)

    def _client_of(self, place: Address) -> Redis:
        options = node_options(self._url, password=self._password, timeout_s=SOCKET_TIMEOUT_S)
        pool = BlockingConnectionPool(
            host=place[0], port=place[1], max_connections=CONNECTIONS_MAX, timeout=SOCKET_TIMEOUT_S, **options
        )
        return Redis(connection_pool=pool)
