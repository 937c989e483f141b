"""Entries in Redis held against what was invalidated, a few of them or all.

Promises: an entry and the history of its bucket come in one round trip, the history after it, so that an invalidation
in between counts, and then the server's word that it is still a primary (ReadOnlyError otherwise); what nobody waits
for is asked even while requests leave Redis alone, within `ADMIN_TIMEOUT_S` for each round trip. A history that cannot
be read is forgotten, with all answers of its bucket, and logged; so is what stands in its place and is no hash, and a
history that does not say any more what is known of it here.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from services.cache.entry import Selector
from services.cache.invalidation import NO_HISTORY, History, history_of_fields
from services.cache.partition import BUCKET_DIGITS, tenant_bucket
from services.cache.store import redis_layout as layout
from services.cache.store import redis_scripts
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.moment import Moment, parse_moment
from services.cache.store.redis_names import Names, key_of_member, tenant_pattern
from services.cache.store.redis_servers import RedisServers
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.redis_connections import is_replica

__all__ = ["BATCH_KEYS_MAX", "JudgedEntry", "Reading", "RedisListing", "bucket_of", "moment_of_head"]

BATCH_KEYS_MAX = 500
"""Keys per round trip when many entries are looked through or deleted."""

ADMIN_TIMEOUT_S = 2.0
"""For one round trip of finding and deleting, where no request waits."""

HISTORIES_MAX = 4_096
"""Buckets whose history is kept in memory; the one used longest ago is asked for again."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class JudgedEntry:
    """An entry that is there, and whether it may be served. `stamp` says when in its bucket's history it was
    stored; one that is put after an invalidation has another."""

    key: str
    tenant: str
    stamp: bytes
    is_living: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of some entries: the values of their fields and their stamps, and of each of their buckets what is
    invalid by then, and which moment it was, to the minute; no moment, and nothing living, where nothing was ever
    stored, or what stands there is no history."""

    rows: Sequence[Sequence[bytes | None]]
    histories: Mapping[str, History]
    moments: Mapping[str, Moment | None]


class RedisListing:
    """Reads entries of the shards that `names` names. `unreadable`: how often it came across a history of invalidations
    of which a part, or all, could not be read or was lost."""

    def __init__(self, servers: RedisServers, names: Names, *, clock: Clock) -> None:
        self._servers = servers
        self._names = names
        self._clock = clock
        self._histories: OrderedDict[str, History] = OrderedDict()
        self._log = get_logger(__name__)
        self.unreadable = 0

    async def read(self, redis: Redis, keys: Sequence[str], fields: Sequence[str], *, minute: int = 0) -> Reading:
        """These fields of the entries and their stamp, and then the histories of their buckets, in one round trip."""
        buckets = list(dict.fromkeys(map(bucket_of, keys)))
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(self._names.entry(key), (*fields, layout.STAMP))
            for bucket in buckets:
                pipe.hmget(self._names.history(bucket), layout.HISTORY_HEAD)
            pipe.execute_command("ROLE")
            *reply, role = await pipe.execute(raise_on_error=False)
        for each in reply[: len(keys)]:
            if isinstance(each, Exception):
                raise each
        if is_replica(role):  # one that was demoted keeps its connections
            raise ReadOnlyError("the server is not a primary any more")
        heads = {
            bucket: await self._head(redis, bucket, head)
            for bucket, head in zip(buckets, reply[len(keys) :], strict=True)
        }
        moments = {bucket: moment_of_head(head, minute) for bucket, head in heads.items()}
        histories = {
            bucket: NO_HISTORY if moments[bucket] is None else await self._history(redis, bucket, head)
            for bucket, head in heads.items()
        }
        moments.update((bucket, None) for bucket, history in histories.items() if history is NO_HISTORY)
        return Reading(reply[: len(keys)], histories, moments)

    async def entries(self, selector: Selector) -> AsyncGenerator[tuple[int, list[JudgedEntry]], None]:
        """Of every entry that the selector takes, shard by shard and some at a time, whether it may be served.

        Raises StoreUnavailableError.
        """
        for shard in self._shards_of(selector.tenant):
            async for batch in self._scan(shard, selector.tenant):
                yield shard, await self.judged(shard, selector, batch)

    async def judged(self, shard: int, selector: Selector, keys: Sequence[str]) -> list[JudgedEntry]:
        """Those of the shard's entries that are there and that the selector takes. Raises StoreUnavailableError."""
        read = await self.unhurried(shard, lambda redis: self.read(redis, keys, layout.META_FIELDS))
        judged = []
        for key, row in zip(keys, read.rows, strict=True):
            meta, stamp = layout.meta_of_fields(row[:-1]), row[-1]
            if meta is not None and selector.takes(key, *meta):
                is_living = read.histories[bucket_of(key)].is_living(stamp, key, *meta)
                judged.append(JudgedEntry(key, meta[0].tenant, stamp or b"", is_living))
        return judged

    async def unhurried(self, shard: int, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """Runs what no request waits for. Raises StoreUnavailableError."""
        try:
            async with asyncio.timeout(ADMIN_TIMEOUT_S):
                return await work(await self._servers.client(shard))
        except (RedisError, TimeoutError, OSError) as error:
            self._servers.suspect(error)
            raise StoreUnavailableError(type(error).__name__) from error

    async def with_history(self, redis: Redis, key: str, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """Runs what needs the history of the key's bucket and does nothing without; once more where no hash stood in
        its place. Raises RedisError."""
        try:
            return await work(redis)
        except ResponseError as error:
            if not _is_wrong_type(error):
                raise
            await self._forget(redis, bucket_of(key), b"", b"")
            return await work(redis)

    def _shards_of(self, tenant: str | None) -> Sequence[int]:
        return range(self._names.shards) if tenant is None else (self._names.shard_of(tenant_bucket(tenant)),)

    async def _scan(self, shard: int, tenant: str | None) -> AsyncGenerator[list[str], None]:
        cursor = 0
        while True:

            async def scan(redis: Redis, at: int = cursor) -> tuple[int, list[Any]]:
                return await redis.zscan(
                    self._names.entries(shard), at, match=tenant_pattern(tenant), count=BATCH_KEYS_MAX
                )

            cursor, members = await self.unhurried(shard, scan)
            keys = [key for raw, _ in members if (key := key_of_member(raw))]
            for start in range(0, len(keys), BATCH_KEYS_MAX):
                yield keys[start : start + BATCH_KEYS_MAX]
            if cursor == 0:
                return

    async def _head(
        self, redis: Redis, bucket: str, reply: Sequence[bytes | None] | Exception
    ) -> Sequence[bytes | None]:
        """The head of a history; of none where no hash stands in its place, which is forgotten."""
        if not isinstance(reply, Exception):
            return reply
        if not _is_wrong_type(reply):
            raise reply
        await self._forget(redis, bucket, b"", b"")
        return (None,) * len(layout.HISTORY_HEAD)

    async def _history(self, redis: Redis, bucket: str, head: Sequence[bytes | None]) -> History:
        """The history with this head: the one in memory, unless there was an invalidation since it was read."""
        era, token, number = (value or b"" for value in head[:3])
        known = self._histories.get(bucket)
        if known is not None and (known.era.encode(), known.token.encode(), known.number) == (
            era,
            token,
            int(number or 0),
        ):
            self._histories.move_to_end(bucket)
            return known
        reading: Any = redis.hgetall(self._names.history(bucket))
        found, now_unix_s = history_of_fields(await reading, known), self._clock.unix()
        if found is NO_HISTORY:
            await self._forget(redis, bucket, era, token)
            return found
        if known is not None and not found.follows(known, now_unix_s=now_unix_s):
            await self._forget(redis, bucket, found.era.encode(), found.token.encode())
            return NO_HISTORY
        if found.unreadable:
            self._count_unreadable(bucket, is_forgotten=False)
        latest = self._histories.setdefault(bucket, found)
        if latest is not found and found.follows(latest, now_unix_s=now_unix_s):  # another may have read more meanwhile
            self._histories[bucket] = found
        self._histories.move_to_end(bucket)
        if len(self._histories) > HISTORIES_MAX:
            self._histories.popitem(last=False)
        return found

    async def _forget(self, redis: Redis, bucket: str, era: bytes, token: bytes) -> None:
        """Or nothing of the bucket would be found ever again."""
        forgetting: Any = redis.eval(redis_scripts.FORGET, 1, self._names.history(bucket), era, token)
        if await forgetting:
            self._count_unreadable(bucket, is_forgotten=True)

    def _count_unreadable(self, bucket: str, *, is_forgotten: bool) -> None:
        self.unreadable += 1
        self._log.error("cache_invalidations_unreadable", bucket=bucket, is_forgotten=is_forgotten)


def _is_wrong_type(error: Exception) -> bool:
    """Whether a key, of a command or of a script, is of another type of Redis."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def moment_of_head(head: Sequence[bytes | None], minute: int) -> Moment | None:
    """The moment at which a bucket's history had this head; None when it had no history, or what cannot be read."""
    era, _, number, deletions, last = ((value or b"").decode("ascii", "replace") for value in head)
    return parse_moment(f"{era} {number or 0} {deletions or 0} {minute} {last}".rstrip()) if era else None


def bucket_of(key: str) -> str:
    """The bucket of an entry's key."""
    return key[:BUCKET_DIGITS]
