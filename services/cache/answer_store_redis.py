"""Answers in Redis: shared by all replicas, durable as far as that Redis is.

Promises: a put is one transaction (entry, expiry, list of entries, change record), so no replica ever sees half of it;
expiry is absolute, by Redis's own clock, and no read prolongs it; a Redis that does not answer within `timeout_s` (with
waiting for a connection, connecting and asking) is StoreUnavailableError, is asked again once, by one caller, after
`PAUSE_S`, and costs everyone else nothing meanwhile; no call is repeated. How followers learn of changes is the part of
`redis_feed`.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.cache import redis_layout as layout
from services.cache.answer_store import Change, StoreUnavailableError
from services.cache.entry import Entry, Selector
from services.cache.redis_feed import RedisFeed
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown

__all__ = ["RedisStore", "connect"]

CONNECTIONS_MAX = 64
"""Connections for requests. At 60 microseconds a request this is far more than one event loop can keep busy."""

PAUSE_S = 1.0
"""How long a Redis that failed is left alone."""

CHANGES_MAX = 10_000
"""About so many change records are kept, some 16 MB; a replica that is further behind loads everything."""

BATCH_KEYS_MAX = 500
"""Keys per round trip when many entries are looked through or deleted."""

ADMIN_TIMEOUT_S = 2.0
"""For one round trip of finding and deleting, where no request waits."""

_Result = TypeVar("_Result")


def connect(url: str, *, password: str, timeout_s: float, connections_max: int) -> Redis:
    """A client without retries whose calls each end within `timeout_s` of silence. Connects when first used."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections_max,
        timeout=timeout_s,
        password=password or None,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        health_check_interval=0,
        decode_responses=False,
        protocol=2,  # the replies of RESP3 have other shapes
    )
    return Redis(connection_pool=pool)


class RedisStore:
    """`url` as redis-py reads it, without a password. Nothing is connected before the first call."""

    def __init__(self, url: str, *, password: str = "", timeout_s: float, clock: Clock) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._cooldown = Cooldown(pause_s=PAUSE_S)
        # The time limit of a call lies around it as a whole; the one of the sockets only backs it up.
        self._redis = connect(url, password=password, timeout_s=ADMIN_TIMEOUT_S, connections_max=CONNECTIONS_MAX)
        self._feed = RedisFeed(
            lambda timeout_s: connect(url, password=password, timeout_s=timeout_s, connections_max=1), clock=clock
        )

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(layout.entry_name(key), layout.ENTRY_FIELDS)
                return await pipe.execute()

        rows = await self._guarded(ask) if keys else []
        return [layout.entry_of_fields(key, row) for key, row in zip(keys, rows, strict=True)]

    async def put(self, entry: Entry) -> None:
        expires_at_ms = int(entry.expires_at_unix_s * 1000)
        name = layout.entry_name(entry.key)

        async def write() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(name, mapping=layout.fields_of_entry(entry))
                pipe.pexpireat(name, expires_at_ms)
                pipe.zremrangebyscore(layout.ENTRIES, "-inf", int(self._clock.unix() * 1000))
                pipe.zadd(layout.ENTRIES, {layout.member(entry.scope.tenant, entry.key): expires_at_ms})
                if entry.partition:
                    pipe.xadd(layout.CHANGES, layout.record_of_entry(entry), maxlen=CHANGES_MAX, approximate=True)
                await pipe.execute()

        await self._guarded(write)

    async def find(self, selector: Selector) -> list[str]:
        keys = {selector.entry_key} if selector.entry_key is not None else await self._keys_of(selector.tenant)
        return [key for batch in _batches(sorted(keys)) for key in await self._taken(selector, batch)]

    async def delete(self, keys: Sequence[str]) -> int:
        return sum([await self._delete_batch(batch) for batch in _batches(list(dict.fromkeys(keys)))])

    async def invalidate(self, selector: Selector) -> int:
        return await self.delete(await self.find(selector))

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        return self._feed.changes()

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _keys_of(self, tenant: str | None) -> set[str]:
        keys: set[str] = set()
        cursor = 0
        while True:

            async def scan(at: int = cursor) -> tuple[int, list[Any]]:
                return await self._redis.zscan(
                    layout.ENTRIES, at, match=layout.tenant_pattern(tenant), count=BATCH_KEYS_MAX
                )

            cursor, members = await self._unhurried(scan)
            keys.update(key for raw, _ in members if (key := layout.key_of_member(raw)))
            if cursor == 0:
                return keys

    async def _taken(self, selector: Selector, keys: Sequence[str]) -> list[str]:
        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(layout.entry_name(key), layout.META_FIELDS)
                return await pipe.execute()

        metas = [layout.meta_of_fields(row) for row in await self._unhurried(ask)]
        return [key for key, meta in zip(keys, metas, strict=True) if meta and selector.takes(key, *meta)]

    async def _delete_batch(self, keys: Sequence[str]) -> int:
        async def remove() -> int:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hget(layout.entry_name(key), "tenant")
                tenants = await pipe.execute()
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(layout.entry_name(key) for key in keys))
                pipe.zrem(
                    layout.ENTRIES,
                    *(
                        layout.member((tenant or b"").decode("utf-8", "replace"), key)
                        for key, tenant in zip(keys, tenants, strict=True)
                    ),
                )
                pipe.xadd(layout.CHANGES, layout.record_of_deletion(keys), maxlen=CHANGES_MAX, approximate=True)
                removed, *_ = await pipe.execute()
            return int(removed)

        return await self._unhurried(remove)

    async def _guarded(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Runs what a request waits for: within the time limit, and not at all while Redis is left alone."""
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            raise StoreUnavailableError("left alone after a failure")
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await work()
        except (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError) as error:
            self._cooldown.failed(ticket, self._clock.monotonic())
            raise StoreUnavailableError(type(error).__name__) from error
        except RedisError as error:
            self._cooldown.succeeded(ticket)  # it answers, only not this: out of memory, read-only
            raise StoreUnavailableError(type(error).__name__) from error
        except BaseException:
            self._cooldown.abandoned(ticket)
            raise
        self._cooldown.succeeded(ticket)
        return result

    async def _unhurried(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Runs what no request waits for; asks Redis even while requests leave it alone."""
        try:
            async with asyncio.timeout(ADMIN_TIMEOUT_S):
                return await work()
        except (RedisError, TimeoutError, OSError) as error:
            raise StoreUnavailableError(type(error).__name__) from error


def _batches(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + BATCH_KEYS_MAX] for start in range(0, len(keys), BATCH_KEYS_MAX)]
