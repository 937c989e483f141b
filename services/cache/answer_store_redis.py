"""Answers in Redis: shared by all replicas, durable as far as that Redis is.

Promises: a put is one transaction (entry, its place in the history of invalidations, expiry, list of entries, change
record), so no replica ever sees half of it; an entry that is read was held, in the same round trip, against what was
invalidated until then; expiry is absolute, by Redis's own clock, and no read prolongs it; an invalidation is one small
write, whatever it takes, and the bodies are deleted afterwards. A Redis that does not answer within `timeout_s` (with
waiting for a connection, connecting and asking) is StoreUnavailableError, is asked again once, by one caller, after
`PAUSE_S`, and costs everyone else nothing meanwhile, each shard for itself; no call is repeated. How followers learn of
changes is the part of `redis_feed`, where the servers are that of `redis_servers`.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.cache import redis_layout as layout
from services.cache.admission import TTL_S_MAX
from services.cache.answer_store import Change, StoreUnavailableError
from services.cache.entry import Entry, Selector
from services.cache.invalidation import (
    BUCKET_RULES_MAX,
    NO_HISTORY,
    History,
    history_of_fields,
    rule_name,
    rule_text,
)
from services.cache.partition import BUCKET_DIGITS, tenant_bucket
from services.cache.redis_feed import RedisFeed
from services.cache.redis_servers import RedisServers, parse_redis_url
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown
from services.runtime.logs import get_logger

__all__ = ["RedisStore"]

PAUSE_S = 1.0
"""How long a Redis that failed is left alone."""

CHANGES_MAX = 100_000
"""About so many change records are kept of each shard, some 12 MB; at 500 puts a second those of the last 200 s. A
replica that is further behind loads everything."""

BATCH_KEYS_MAX = 500
"""Keys per round trip when many entries are looked through or deleted."""

ADMIN_TIMEOUT_S = 2.0
"""For one round trip of finding and deleting, where no request waits."""

SWEEP_S = 2.0
"""How long an invalidation waits for the bodies to be deleted; the rest is deleted after it."""

SWEEPS_MAX = 8
"""Deletions that go on after their invalidation. With more, bodies stay until they expire; nobody is served them."""

HISTORIES_MAX = 4_096
"""Buckets whose history is kept in memory; the one used longest ago is asked for again."""

TOKEN_BYTES = 8

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Judged:
    """An entry that is there, and whether it may be served."""

    key: str
    tenant: str
    stamp: bytes
    is_living: bool


class RedisStore:
    """`url` as settings.cache.redis_url describes it, without a password. Nothing is connected before the first call.

    Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, *, password: str = "", timeout_s: float, clock: Clock) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._servers = RedisServers(parse_redis_url(url), password=password, clock=clock)
        self._names = layout.Names(self._servers.shards)
        self._cooldowns = [Cooldown(pause_s=PAUSE_S) for _ in range(self._servers.shards)]
        self._histories: OrderedDict[str, History] = OrderedDict()
        self._sweeps: set[asyncio.Task[None]] = set()
        self._feed = RedisFeed(self._servers, clock=clock)
        self._log = get_logger(__name__)

    @property
    def evicted(self) -> int:
        """0: a full Redis evicts by its own policy, and tells nobody."""
        return 0

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        found: dict[str, Entry] = {}
        for shard, group in self._by_shard(keys):

            async def ask(redis: Redis, keys: Sequence[str] = group) -> list[Entry | None]:
                rows, histories = await self._read(redis, keys, layout.ENTRY_FIELDS)
                entries = [layout.entry_of_fields(key, row[:-1]) for key, row in zip(keys, rows, strict=True)]
                return [
                    entry
                    if entry and histories[_bucket(entry.key)].is_living(row[-1], entry.key, entry.scope, entry.tags)
                    else None
                    for entry, row in zip(entries, rows, strict=True)
                ]

            found.update((entry.key, entry) for entry in await self._guarded(shard, ask) if entry is not None)
        return [found.get(key) for key in keys]

    async def put(self, entry: Entry) -> None:
        expires_at_ms = int(entry.expires_at_unix_s * 1000)
        name, shard = self._names.entry(entry.key), self._names.shard_of(entry.key)
        entries, changes = self._names.entries(shard), self._names.changes(shard)

        async def write(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.hset(name, mapping=layout.fields_of_entry(entry))
                pipe.eval(layout.STAMP_SCRIPT, 2, name, self._names.history(_bucket(entry.key)), _token())
                pipe.pexpireat(name, expires_at_ms)
                pipe.zremrangebyscore(entries, "-inf", int(self._clock.unix() * 1000))
                pipe.zadd(entries, {layout.member(entry.scope.tenant, entry.key): expires_at_ms})
                if entry.partition:
                    pipe.xadd(changes, layout.record_of_entry(entry.key), maxlen=CHANGES_MAX, approximate=True)
                await pipe.execute()

        await self._guarded(shard, write)

    async def find(self, selector: Selector) -> list[str]:
        if selector.entry_key is not None:
            return await self._taken(self._names.shard_of(selector.entry_key), selector, [selector.entry_key])
        keys: dict[str, None] = {}  # a scan may tell of an entry twice
        for shard in self._shards_of(selector.tenant):
            async for batch in self._scan(shard, selector.tenant):
                keys.update(dict.fromkeys(await self._taken(shard, selector, batch)))
        return list(keys)

    async def delete(self, keys: Sequence[str]) -> int:
        return sum(
            [
                await self._delete_batch(shard, group[start : start + BATCH_KEYS_MAX])
                for shard, group in self._by_shard(keys)
                for start in range(0, len(group), BATCH_KEYS_MAX)
            ]
        )

    async def invalidate(self, selector: Selector) -> int:
        if selector.tenant is None or selector.entry_key is not None:
            return await self.delete(await self.find(selector))
        bucket = tenant_bucket(selector.tenant)
        arguments = (
            _token(),
            _token(),
            rule_name(selector),
            rule_text(selector),
            BUCKET_RULES_MAX,
            int(TTL_S_MAX * 1000),
        )

        async def write(redis: Redis) -> None:
            writing: Any = redis.eval(layout.INVALIDATE_SCRIPT, 1, self._names.history(bucket), *arguments)
            await writing

        await self._unhurried(self._names.shard_of(bucket), write)
        return await self._swept(selector)

    def served(self, key: str) -> None:
        """Nothing: a full Redis evicts by its own policy."""

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        return self._feed.changes(position)

    async def close(self) -> None:
        for sweep in self._sweeps:
            sweep.cancel()
        await asyncio.gather(*self._sweeps, return_exceptions=True)
        await self._servers.close()

    def _by_shard(self, keys: Sequence[str]) -> list[tuple[int, list[str]]]:
        groups: dict[int, list[str]] = {}
        for key in dict.fromkeys(keys):
            groups.setdefault(self._names.shard_of(key), []).append(key)
        return list(groups.items())

    def _shards_of(self, tenant: str | None) -> Sequence[int]:
        return range(self._names.shards) if tenant is None else (self._names.shard_of(tenant_bucket(tenant)),)

    async def _read(
        self, redis: Redis, keys: Sequence[str], fields: Sequence[str]
    ) -> tuple[list[list[bytes | None]], dict[str, History]]:
        """These fields of the entries and their stamp, and then the histories of their buckets, in one round trip.

        In this order: an invalidation in between then counts.
        """
        buckets = list(dict.fromkeys(map(_bucket, keys)))
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(self._names.entry(key), (*fields, layout.STAMP))
            for bucket in buckets:
                pipe.hmget(self._names.history(bucket), layout.HISTORY_HEAD)
            reply: list[Any] = await pipe.execute()
        heads = dict(zip(buckets, reply[len(keys) :], strict=True))
        return reply[: len(keys)], {bucket: await self._history(redis, bucket, head) for bucket, head in heads.items()}

    async def _history(self, redis: Redis, bucket: str, head: Sequence[bytes | None]) -> History:
        """The history with this head: the one in memory, unless there was an invalidation since it was read."""
        era, token = ((value or b"").decode("ascii", "replace") for value in head)
        if not era:
            return NO_HISTORY
        known = self._histories.get(bucket)
        if known is None or (known.era, known.token) != (era, token):
            reading: Any = redis.hgetall(self._names.history(bucket))
            known = self._histories[bucket] = history_of_fields(await reading)
            if len(self._histories) > HISTORIES_MAX:
                self._histories.popitem(last=False)
        self._histories.move_to_end(bucket)
        return known

    async def _scan(self, shard: int, tenant: str | None) -> AsyncGenerator[list[str], None]:
        cursor = 0
        while True:

            async def scan(redis: Redis, at: int = cursor) -> tuple[int, list[Any]]:
                return await redis.zscan(
                    self._names.entries(shard), at, match=layout.tenant_pattern(tenant), count=BATCH_KEYS_MAX
                )

            cursor, members = await self._unhurried(shard, scan)
            keys = [key for raw, _ in members if (key := layout.key_of_member(raw))]
            for start in range(0, len(keys), BATCH_KEYS_MAX):
                yield keys[start : start + BATCH_KEYS_MAX]
            if cursor == 0:
                return

    async def _taken(self, shard: int, selector: Selector, keys: Sequence[str]) -> list[str]:
        """The living ones of these entries that the selector takes."""
        return [judged.key for judged in await self._judged(shard, selector, keys) if judged.is_living]

    async def _judged(self, shard: int, selector: Selector, keys: Sequence[str]) -> list[_Judged]:
        """Those that are there and that the selector takes."""
        rows, histories = await self._unhurried(shard, lambda redis: self._read(redis, keys, layout.META_FIELDS))
        judged = []
        for key, row in zip(keys, rows, strict=True):
            meta, stamp = layout.meta_of_fields(row[:-1]), row[-1]
            if meta is not None and selector.takes(key, *meta):
                is_living = histories[_bucket(key)].is_living(stamp, key, *meta)
                judged.append(_Judged(key, meta[0].tenant, stamp or b"", is_living))
        return judged

    async def _swept(self, selector: Selector) -> int:
        """Deletes what the selector takes and is invalid; how many within `SWEEP_S`. It goes on after that."""
        removed = [0]
        if len(self._sweeps) >= SWEEPS_MAX:
            return 0
        sweep = asyncio.create_task(self._sweep(selector, removed), name="cache-sweep")
        self._sweeps.add(sweep)
        sweep.add_done_callback(self._sweeps.discard)
        await asyncio.wait({sweep}, timeout=SWEEP_S)
        return removed[0]

    async def _sweep(self, selector: Selector, removed: list[int]) -> None:
        try:
            for shard in self._shards_of(selector.tenant):
                async for batch in self._scan(shard, selector.tenant):
                    invalid = [each for each in await self._judged(shard, selector, batch) if not each.is_living]
                    if invalid:
                        removed[0] += await self._delete_judged(shard, invalid)
        except StoreUnavailableError as error:
            self._log.warning("cache_sweep_ended_early", error=str(error))

    async def _delete_judged(self, shard: int, judged: Sequence[_Judged]) -> int:
        keys = [
            self._names.entries(shard),
            self._names.changes(shard),
            *(self._names.entry(each.key) for each in judged),
        ]
        values: list[Any] = [CHANGES_MAX]
        for each in judged:
            values += (each.stamp, layout.member(each.tenant, each.key), each.key)

        async def remove(redis: Redis) -> int:
            removing: Any = redis.eval(layout.SWEEP_SCRIPT, len(keys), *keys, *values)
            return int(await removing)

        return await self._unhurried(shard, remove)

    async def _delete_batch(self, shard: int, keys: Sequence[str]) -> int:
        async def remove(redis: Redis) -> int:
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hget(self._names.entry(key), "tenant")
                tenants = await pipe.execute()
            members = [
                layout.member((tenant or b"").decode("utf-8", "replace"), key)
                for key, tenant in zip(keys, tenants, strict=True)
            ]
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(self._names.entry(key) for key in keys))
                pipe.zrem(self._names.entries(shard), *members)
                record = layout.record_of_deletion(keys)
                pipe.xadd(self._names.changes(shard), record, maxlen=CHANGES_MAX, approximate=True)
                removed, *_ = await pipe.execute()
            return int(removed)

        return await self._unhurried(shard, remove)

    async def _guarded(self, shard: int, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """Runs what a request waits for: within the time limit, and not at all while Redis is left alone."""
        cooldown = self._cooldowns[shard]
        ticket = cooldown.enter(self._clock.monotonic())
        if ticket is None:
            raise StoreUnavailableError("left alone after a failure")
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await work(await self._servers.client(shard))
        except (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError) as error:
            cooldown.failed(ticket, self._clock.monotonic())
            self._servers.suspect(error)
            raise StoreUnavailableError(type(error).__name__) from error
        except RedisError as error:
            cooldown.succeeded(ticket)  # it answers, only not this: out of memory, read-only, moved
            self._servers.suspect(error)
            raise StoreUnavailableError(type(error).__name__) from error
        except BaseException:
            cooldown.abandoned(ticket)
            raise
        cooldown.succeeded(ticket)
        return result

    async def _unhurried(self, shard: int, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """Runs what no request waits for; asks Redis even while requests leave it alone."""
        try:
            async with asyncio.timeout(ADMIN_TIMEOUT_S):
                return await work(await self._servers.client(shard))
        except (RedisError, TimeoutError, OSError) as error:
            self._servers.suspect(error)
            raise StoreUnavailableError(type(error).__name__) from error


def _bucket(key: str) -> str:
    return key[:BUCKET_DIGITS]


def _token() -> str:
    return secrets.token_hex(TOKEN_BYTES)
