"""What a `redis_url` says: one server, sentinels or a cluster, and with which certificates.

Promises: a URL is understood as a whole or refused, with a sentence that repeats nothing of it. The URL of a single
server is left to redis-py, which has none for sentinels and clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote

__all__ = ["NODES_MAX", "Address", "RedisUrl", "Topology", "parse_redis_url"]

NODES_MAX: Final = 64
"""Sentinels or nodes that are remembered."""

SCHEMES: Final = frozenset(
    {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
)
_TLS_FILES: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
_TLS_NAME: Final = "ssl_check_hostname"
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Address = tuple[str, int]


class Topology(Enum):
    """How Redis is run."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A `redis_url`, understood. For a single server only `topology` and `url` matter."""

    topology: Topology
    url: str
    nodes: tuple[Address, ...] = ()
    master: str = ""
    database: int = 0
    username: str = ""
    tls: bool = False
    tls_options: tuple[tuple[str, str | bool], ...] = ()
    """By the names that redis-py gives them; for sentinels, nodes and primaries alike."""


def parse_redis_url(url: str) -> RedisUrl:
    """What the URL says. Raises ValueError with a sentence that does not repeat it."""
    scheme, _, rest = url.partition("://")
    secure, plus, kind = scheme.partition("+")
    if scheme not in SCHEMES:
        raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if not plus:
        return RedisUrl(Topology.SERVER, url)
    rest, _, query = rest.partition("?")
    user, _, places = rest.rpartition("@")
    hosts, _, path = places.partition("/")
    default_port = 26_379 if kind == "sentinel" else 6_379
    nodes = tuple(_address(host, default_port) for host in hosts.split(",") if host)
    if not 1 <= len(nodes) <= NODES_MAX:
        raise ValueError(f"must name 1 to {NODES_MAX} hosts")
    master, _, database = path.partition("/")
    if kind == "cluster":
        if path:
            raise ValueError("a cluster has no databases: nothing may follow its hosts")
    elif not master:
        raise ValueError("must end with /NAME, the name by which the sentinels know the primary")
    if database and not database.isdecimal():
        raise ValueError("the database must be a number")
    is_tls = secure == "rediss"
    return RedisUrl(
        Topology(kind),
        url,
        nodes,
        unquote(master),
        int(database or 0),
        unquote(user.partition(":")[0]),
        is_tls,
        _tls_options(query, is_tls=is_tls),
    )


def _tls_options(query: str, *, is_tls: bool) -> tuple[tuple[str, str | bool], ...]:
    options: dict[str, str | bool] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _TLS_FILES and name != _TLS_NAME:
            raise ValueError(f"after ? only {', '.join(sorted(_TLS_FILES))} and {_TLS_NAME} are known")
        if not is_tls:
            raise ValueError("certificates need a URL that begins with rediss+")
        if not value or name in options:
            raise ValueError(f"{name} must stand once, with a value")
        if name == _TLS_NAME and value.lower() not in _TRUTHS:
            raise ValueError(f"{name} must be true or false")
        options[name] = _TRUTHS[value.lower()] if name == _TLS_NAME else value
    if ("ssl_certfile" in options) != ("ssl_keyfile" in options):
        raise ValueError("ssl_certfile and ssl_keyfile need each other")
    return tuple(sorted(options.items()))


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("each host must be HOST or HOST:PORT")
    return host.strip("[]"), int(port)
