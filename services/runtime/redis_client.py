"""A client for a Redis that may be gone at any time.

Promises: every wait of it has a limit and nothing is ever sent twice: who calls decides what a silence means. For those
who have the `redis` library; the runtime alone does not bring it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.runtime.config import SecretError

__all__ = ["open_redis"]


def open_redis(url: str, *, setting: str, password: str, timeout_s: float, connections_max: int) -> Redis:
    """Connects when it is first used; decodes no responses.

    `timeout_s` is of connecting and of each read and write. Raises SecretError for a password in the URL; `setting`
    names where the URL stands.
    """
    if urlsplit(url).password:
        raise SecretError(f"{setting} must not contain a password: its variable can be named beside it")
    return Redis.from_url(
        url,
        password=password or None,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        health_check_interval=0,
        decode_responses=False,
        protocol=2,
        max_connections=connections_max,
    )
