"""What a `redis_url` says: one server, sentinels or a cluster, and with which certificates.

    redis[s]://[USER@]HOST[:PORT][/DB]                       unix://[USER@]/PATH[?db=DB]
    redis[s]+sentinel://[USER@]HOST[:PORT],.../NAME[/DB]     redis[s]+cluster://[USER@]HOST[:PORT],...

Promises: a URL is understood as a whole or refused, with a sentence that repeats nothing of it; what may hold a
password is refused, not skipped: before the `@` no `:`, nowhere a `#`, behind the `?` certificates alone. A host is one
that can be looked up, be it found or not. The URL of a single server is afterwards left to redis-py, which has none for
sentinels and clusters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import parse_qsl, unquote

__all__ = ["NODES_MAX", "Address", "RedisUrl", "Topology", "is_address", "parse_redis_url"]

NODES_MAX: Final = 64
"""Sentinels or nodes that are remembered."""

SCHEMES: Final = frozenset(
    {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
)
_TLS_FILES: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
_TLS_NAME: Final = "ssl_check_hostname"
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PORTS: Final = {"sentinel": 26_379}
_PORT: Final = 6_379
_USER: Final = re.compile(r"[^\s/:@?#\[\]]*")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_HOST_CHARS_MAX: Final = 253
_NUMBER: Final = re.compile(r"[0-9]{1,5}")

Address = tuple[str, int]


class Topology(Enum):
    """How Redis is run."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A `redis_url`, understood. For a single server only `topology` and `url` are told."""

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
    if scheme not in SCHEMES:
        raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if not url.isascii() or not url.isprintable():  # some others stand for ":", "/" or "@" to who reads it next
        raise ValueError("must be of ASCII letters, others as %XX")
    if "#" in rest:
        raise ValueError("must not contain a #")
    if scheme == "unix":
        _check_unix(rest)
        return RedisUrl(Topology.SERVER, url)
    secure, plus, kind = scheme.partition("+")
    is_tls = secure == "rediss"
    rest, _, query = rest.partition("?")
    user, _, places = rest.rpartition("@")
    username = _username(user)
    hosts, _, path = places.partition("/")
    nodes = tuple(_address(host, _PORTS.get(kind, _PORT)) for host in hosts.split(","))
    tls_options = _tls_options(query, begin="rediss+" if plus else "rediss://", is_tls=is_tls)
    if not plus:
        _check_server(nodes, path)
        return RedisUrl(Topology.SERVER, url)
    if not 1 <= len(nodes) <= NODES_MAX:
        raise ValueError(f"must name 1 to {NODES_MAX} hosts")
    master, _, database = path.partition("/")
    if kind == "cluster":
        if path:
            raise ValueError("a cluster has no databases: nothing may follow its hosts")
    elif not master:
        raise ValueError("must end with /NAME, the name by which the sentinels know the primary")
    return RedisUrl(Topology(kind), url, nodes, unquote(master), _database(database), username, is_tls, tls_options)


def _check_server(nodes: tuple[Address, ...], path: str) -> None:
    if len(nodes) != 1:
        raise ValueError("must name one host; sentinels begin with redis+sentinel://, a cluster with redis+cluster://")
    _database(path)


def _check_unix(rest: str) -> None:
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    _username(user)
    if host or not slash or not path:
        raise ValueError("must be unix:///PATH")
    options = parse_qsl(query, keep_blank_values=True)
    if any(name != "db" for name, _ in options) or len(options) > 1:
        raise ValueError("after ? of unix:// only db is known")
    _database(options[0][1] if options else "")


def _username(user: str) -> str:
    if ":" in user:
        raise ValueError("must not contain a password, nor a : before the @: its variable can be named beside it")
    if not _USER.fullmatch(user):
        raise ValueError("before the @ must stand a user, what is special in its name as %XX")
    return unquote(user)


def _database(text: str) -> int:
    if text and not _NUMBER.fullmatch(text):
        raise ValueError("the database must be a number")
    return int(text or 0)


def _tls_options(query: str, *, begin: str, is_tls: bool) -> tuple[tuple[str, str | bool], ...]:
    options: dict[str, str | bool] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _TLS_FILES and name != _TLS_NAME:
            raise ValueError(f"after ? only {', '.join(sorted(_TLS_FILES))} and {_TLS_NAME} are known")
        if not is_tls:
            raise ValueError(f"certificates need a URL that begins with {begin}")
        if not value or not value.isprintable() or name in options:
            raise ValueError(f"{name} must stand once, with a value")
        if name == _TLS_NAME and value.lower() not in _TRUTHS:
            raise ValueError(f"{name} must be true or false")
        options[name] = _TRUTHS[value.lower()] if name == _TLS_NAME else value
    if ("ssl_certfile" in options) != ("ssl_keyfile" in options):
        raise ValueError("ssl_certfile and ssl_keyfile need each other")
    return tuple(sorted(options.items()))


def is_address(host: str, port: int) -> bool:
    """Whether it can be asked for a connection: a name that can be looked up or an IP address, without brackets."""
    is_name = len(host) <= _HOST_CHARS_MAX and _HOST.fullmatch(host) is not None
    return (is_name or _is_ipv6(host)) and 0 < port < 65_536


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise ValueError("in [] must stand an IPv6 address")
    elif ":" in host:
        raise ValueError("each host must be HOST or HOST:PORT")
    if not _NUMBER.fullmatch(port) or not is_address(host, int(port)):
        raise ValueError("each host must be HOST or HOST:PORT")
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False
