"""Which Redis server holds what: one server, the primary that sentinels name, or the primaries of a cluster.

Promises: entries are spread over `shards`, one for a server or a sentinels' primary, `CLUSTER_SHARDS` for a cluster. A
shard lies in one hash slot, so that its transactions, scripts and pipelines are those of a plain server; only this file
knows of clusters. A connection is only used when its server calls itself a primary, and what is read for a request is
only taken while it still does: a replica would serve what was invalidated a moment ago. Nothing is repeated: a call
that meets a server which has moved fails, and tells `suspect`; the new place is looked up in the background, by one
task, at most every `LOOKUP_PAUSE_S`. The sentinels' primary is looked up again every `LOOKUP_EVERY_S` also when all is
well: one that is cut off from its sentinels does not know it.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from services.cache.store.redis_url import NODES_MAX, Address, RedisUrl, Topology
from services.runtime.clock import Clock
from services.runtime.tasks import end_tasks

__all__ = ["CLUSTER_SHARDS", "RedisServers", "is_replica", "shard_tag"]

CLUSTER_SHARDS = 16
"""Slots that a cluster's entries lie in, and streams that each replica follows. A change of it is another layout."""

CONNECTIONS_MAX = 64
"""To each server. At 60 microseconds a request this is far more than one event loop can keep busy."""

SOCKET_TIMEOUT_S = 3.0
"""The longest silence in a call. Requests have a limit of their own around the whole of it, far below."""

LOOKUP_TIMEOUT_S = 0.5
"""For asking one sentinel or node where things are."""

LOOKUP_PAUSE_S = 0.2
LOOKUP_EVERY_S = 1.0

_GONE = (RedisError, TimeoutError, OSError)
_ANYWHERE: Address = ("", 0)


def shard_tag(shard: int) -> str:
    """What stands in braces in the shard's key names: a cluster hashes nothing else."""
    return f"cache:{shard}"


class RedisServers:
    """`client` gives the server of a shard; `close` at the end. Connects when first used."""

    def __init__(self, url: RedisUrl, *, password: str, clock: Clock) -> None:
        self._url = url
        self._password = password
        self._clock = clock
        self._clients: dict[Address, Redis] = {}
        self._places: dict[int, Address] = {}  # by shard
        self._nodes = url.nodes  # whom to ask, the one that answered last first
        self._lookup: asyncio.Task[None] | None = None
        self._looked_up_at_s = float("-inf")
        self.shards = CLUSTER_SHARDS if url.topology is Topology.CLUSTER else 1

    async def client(self, shard: int) -> Redis:
        """A client of the server that holds the shard. Raises RedisConnectionError when none is known."""
        if self._url.topology is Topology.SERVER:
            if _ANYWHERE not in self._clients:
                self._clients[_ANYWHERE] = self._client_of_url()
            return self._clients[_ANYWHERE]
        if shard not in self._places:
            await asyncio.shield(self._start_lookup())
        elif self._url.topology is Topology.SENTINEL and self._since_lookup_s() >= LOOKUP_EVERY_S:
            self._start_lookup()
        place = self._places.get(shard)
        if place is None:
            raise RedisConnectionError("no server is known to hold the shard")
        if place not in self._clients:
            self._clients[place] = self._client_of(place, CONNECTIONS_MAX, SOCKET_TIMEOUT_S)
        return self._clients[place]

    def suspect(self, error: BaseException) -> None:
        """A call failed: perhaps the server has moved."""
        if self._url.topology is not Topology.SERVER:
            if self._since_lookup_s() >= LOOKUP_PAUSE_S:
                self._start_lookup()
        elif isinstance(error, ReadOnlyError) and self._lookup_is_over():
            # The name may by now lead to another server, which only new connections would see.
            self._lookup = asyncio.create_task(self._drop(tuple(self._clients)), name="cache-redis-drop")

    async def close(self) -> None:
        """Lets go of all connections."""
        if self._lookup is not None:
            await end_tasks([self._lookup])
        await self._drop(tuple(self._clients))

    def _since_lookup_s(self) -> float:
        return self._clock.monotonic() - self._looked_up_at_s

    def _lookup_is_over(self) -> bool:
        return self._lookup is None or self._lookup.done()

    def _start_lookup(self) -> asyncio.Task[None]:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(self._look_up(), name="cache-redis-lookup")
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
        await self._drop(set(self._clients) - set(self._places.values()))

    async def _ask(self, node: Address) -> tuple[dict[int, Address], tuple[Address, ...]]:
        """Where the shards are, and who else may be asked."""
        sentinel = self._url.topology is Topology.SENTINEL
        asked = self._client_of(node, 1, LOOKUP_TIMEOUT_S, to_ask_the_way=True)
        try:
            if sentinel:
                found = await _answer(asked, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.master)
                return ({0: (found[0].decode(), int(found[1]))} if found else {}), ()
            ranges = await _answer(asked, "CLUSTER", "SLOTS")
        finally:
            await _disconnect(asked)
        primaries = [
            (int(first), int(last), ((primary[0] or b"").decode() or node[0], int(primary[1])))
            for first, last, primary, *_ in ranges
        ]
        slots = {shard: key_slot(shard_tag(shard).encode()) for shard in range(self.shards)}
        places = {
            shard: place for shard, slot in slots.items() for first, last, place in primaries if first <= slot <= last
        }
        return places, tuple(place for *_, place in primaries)

    async def _drop(self, places: Iterable[Address]) -> None:
        for place in tuple(places):
            if (client := self._clients.pop(place, None)) is not None:
                await _disconnect(client)

    def _client_of_url(self) -> Redis:
        options = self._options(CONNECTIONS_MAX, SOCKET_TIMEOUT_S)
        pool = BlockingConnectionPool.from_url(self._url.url, redis_connect_func=_connect_to_primary, **options)
        return Redis(connection_pool=pool)

    def _client_of(
        self, place: Address, connections_max: int, timeout_s: float, *, to_ask_the_way: bool = False
    ) -> Redis:
        options = self._options(connections_max, timeout_s)
        if to_ask_the_way and self._url.topology is Topology.SENTINEL:
            options["password"] = None  # sentinels have accounts of their own, by default none
        elif not to_ask_the_way:
            options |= {"redis_connect_func": _connect_to_primary, "db": self._url.database}
        if options["password"] and self._url.username:
            options["username"] = self._url.username
        options |= dict(self._url.tls_options)
        pool = BlockingConnectionPool(
            host=place[0],
            port=place[1],
            connection_class=SSLConnection if self._url.tls else Connection,
            **options,
        )
        return Redis(connection_pool=pool)

    def _options(self, connections_max: int, timeout_s: float) -> dict[str, Any]:
        """No retries; the time limit of a call lies around it as a whole, the one of the sockets only backs it up."""
        return {
            "max_connections": connections_max,
            "timeout": timeout_s,
            "password": self._password or None,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,  # the replies of RESP3 have other shapes
        }


async def _connect_to_primary(connection: Connection) -> None:
    await connection.on_connect()
    await connection.send_command("ROLE")
    try:
        role: Any = await connection.read_response()
    except ResponseError as error:
        role = error
    if is_replica(role):
        raise RedisConnectionError("the server is not a primary")


def is_replica(role: Any) -> bool:
    """What the reply to ROLE says; an error, of an account that may not ask, says nothing: writes will tell."""
    return not isinstance(role, Exception) and role[0] != b"master"


async def _answer(client: Redis, *words: str) -> Any:
    """The plain reply, which redis-py shapes only when a command is sent as one word."""
    return await cast("Any", client).execute_command(*words)


async def _disconnect(client: Redis) -> None:
    with contextlib.suppress(*_GONE):
        await client.aclose()
        await client.connection_pool.disconnect()
