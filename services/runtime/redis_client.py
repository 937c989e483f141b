"""A client for a Redis that may be gone at any time, and come back at another place.

Promises: every wait of it has a limit and nothing is ever sent twice: who calls decides what a silence means. With
sentinels (`redis+sentinel://`), and with a cluster (`redis+cluster://`) for keys of one slot, every connection leads to
the primary, and is not used any more once another one is known to be it; a call that meets a server which has been
replaced fails, and one of the next calls finds its successor. For those who have the `redis` library; the runtime alone
does not bring it.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.exceptions import AskError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from services.runtime.clock import Clock, SystemClock
from services.runtime.redis_connections import node_options, server_pool
from services.runtime.redis_places import RedisPlaces
from spillway.configuration.redis_url import RedisUrl, Topology, parse_redis_url

__all__ = ["find_places", "open_redis"]


def find_places(url: str, *, setting: str, password: str, clock: Clock, tag: str = "") -> RedisPlaces | None:
    """To be shared by the clients of one Redis, and closed after them; None for a single server, which has none.

    `tag`: of a cluster, the key or hash tag that all keys have in common; without one a cluster is refused. Asks nobody
    yet. `setting` names where the URL stands. Raises ValueError for a URL that is none, or not one that can be used, or
    has a password; the text names the setting and repeats nothing of the URL.
    """
    parsed = _parse(url, setting)
    if parsed.topology is Topology.SERVER:
        return None
    if parsed.topology is Topology.CLUSTER and not tag:
        raise ValueError(f"{setting} cannot be a cluster: what stands there does not lie in one slot")
    return RedisPlaces(parsed, password=password, clock=clock, tags=(tag,))


def open_redis(
    url: str,
    *,
    setting: str,
    password: str,
    timeout_s: float,
    connections_max: int,
    places: RedisPlaces | None = None,
) -> Redis:
    """Connects when it is first used; decodes no responses.

    `timeout_s` is of connecting and of each read and write. `places` are those of this URL: see `find_places`, also for
    what is raised; without them a client of sentinels finds its own.
    """
    places = places or find_places(url, setting=setting, password=password, clock=SystemClock())
    if places is None:
        try:
            pool = server_pool(
                ConnectionPool, url, password=password, timeout_s=timeout_s, max_connections=connections_max
            )
        except ValueError as error:
            raise ValueError(f"{setting} {error}") from None
        return Redis.from_pool(pool)
    options = node_options(places.url, password=password, timeout_s=timeout_s)
    options["connection_class"] = _FollowingTls if places.url.tls else _Following
    return Redis.from_pool(ConnectionPool(max_connections=connections_max, places=places, **options))


def _parse(url: str, setting: str) -> RedisUrl:
    try:
        return parse_redis_url(url)
    except ValueError as error:
        raise ValueError(f"{setting} {error}") from None


class _Following(Connection):
    """A connection to the primary, wherever that is."""

    def __init__(self, *, places: RedisPlaces, **options: Any) -> None:
        super().__init__(**options)
        self._places = places

    async def connect(self) -> None:
        """Before each use: where it leads to must still be the place."""
        try:
            place = await self._places.place()
            if (self.host, self.port) != place:
                await self.disconnect()
                self.host, self.port = place
            await super().connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self._places.suspect()
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Says of a server that is no primary any more that it is gone."""
        try:
            return await super().read_response(*args, **options)
        except (ReadOnlyError, AskError) as error:  # MovedError is an AskError
            self._places.suspect()
            await self.disconnect()
            raise RedisConnectionError("the server is not the primary any more") from error


class _FollowingTls(_Following, SSLConnection):
    """The same, behind TLS."""
