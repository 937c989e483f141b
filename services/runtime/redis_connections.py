"""How Redis is spoken to: no retries, limits on every wait, and primaries alone.

Promises: a connection made by `connect_to_primary` is only used when its server calls itself a primary: a replica would
answer with what is outdated, and lose what it is told. The user of a URL is always who connects, with a password or
without; sentinels alone are asked without either.
"""

from __future__ import annotations

from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from spillway.configuration.redis_url import RedisUrl, Topology

__all__ = ["connect_to_primary", "is_replica", "node_options", "server_pool"]

_Pool = TypeVar("_Pool", bound=ConnectionPool)


def _options(*, password: str, timeout_s: float) -> dict[str, Any]:
    """No retries; the time limit of a call lies around it as a whole, the one of the sockets only backs it up."""
    return {
        "password": password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,  # the replies of RESP3 have other shapes
    }


def server_pool(kind: type[_Pool], url: str, *, password: str, timeout_s: float, **options: Any) -> _Pool:
    """Connections to the one server of that URL; none yet. Raises ValueError for what redis-py does not take, with a
    text that repeats nothing of the URL."""
    options |= _options(password=password, timeout_s=timeout_s)
    try:
        pool = kind.from_url(url, **options)
        if not issubclass(pool.connection_class, UnixDomainSocketConnection):
            pool.connection_kwargs["socket_keepalive"] = True
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, RedisError):
        raise ValueError("is no URL that can be used") from None
    return pool


def node_options(url: RedisUrl, *, password: str, timeout_s: float, to_ask_the_way: bool = False) -> dict[str, Any]:
    """Of a connection to a node that sentinels or a cluster named; `to_ask_the_way`: to one that is asked for them."""
    options = _options(password=password, timeout_s=timeout_s) | {"socket_keepalive": True}
    if to_ask_the_way and url.topology is Topology.SENTINEL:
        options["password"] = None  # sentinels have accounts of their own, by default none
    else:
        options["username"] = url.username or None
    if not to_ask_the_way:
        options |= {"redis_connect_func": connect_to_primary, "db": url.database}
    return options | dict(url.tls_options) | {"connection_class": SSLConnection if url.tls else Connection}


async def connect_to_primary(connection: Connection) -> None:
    """To be called when the socket is there. Raises RedisConnectionError for a replica."""
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
