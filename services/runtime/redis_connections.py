"""How Redis is spoken to: no retries, limits on every wait, and primaries alone.

Promises: a connection made by `connect_to_primary` is only used when its server calls itself a primary: a replica would
answer with what is outdated, and lose what it is told.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from spillway.configuration.redis_url import RedisUrl, Topology

__all__ = ["connect_to_primary", "connection_options", "is_replica", "node_options"]


def connection_options(*, password: str, timeout_s: float) -> dict[str, Any]:
    """No retries; the time limit of a call lies around it as a whole, the one of the sockets only backs it up."""
    return {
        "password": password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,  # the replies of RESP3 have other shapes
    }


def node_options(url: RedisUrl, *, password: str, timeout_s: float, to_ask_the_way: bool = False) -> dict[str, Any]:
    """Of a connection to a node that sentinels or a cluster named; `to_ask_the_way`: to one that is asked for them."""
    options = connection_options(password=password, timeout_s=timeout_s)
    if to_ask_the_way and url.topology is Topology.SENTINEL:
        options["password"] = None  # sentinels have accounts of their own, by default none
    elif not to_ask_the_way:
        options |= {"redis_connect_func": connect_to_primary, "db": url.database}
    if options["password"] and url.username:
        options["username"] = url.username
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
