"""Putting entries into Redis: at a moment, and not when they were invalidated since.

Promises: a put is one script, or as many as invalidations of others come between, and writes all or nothing; what it
cannot know (a moment that is none, of another era, or very old) is taken for an invalidation.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.typing import EncodableT, FieldT

from services.cache.entry import Entry
from services.cache.invalidation import history_of_fields
from services.cache.store import redis_layout as layout
from services.cache.store import redis_scripts
from services.cache.store.moment import Moment, parse_moment
from services.cache.store.prompt_cipher import PromptCipher
from services.cache.store.redis_limits import RedisLimits
from services.cache.store.redis_listing import bucket_of, moment_of_head
from services.cache.store.redis_names import Names, member
from services.runtime.clock import Clock

__all__ = ["CHANGES_MAX", "NAMES_MAX", "RedisPuts", "new_name", "new_token"]

CHANGES_MAX = 100_000
"""About so many change records are kept of each shard, some 12 MB; at 500 puts a second those of the last 200 s. A
replica that is further behind loads everything."""

TOKEN_BYTES = 8

DIGEST_CHARS = 8
"""Of a deleted key's, in a name: a put that one in 17 million hides behind another key's is not kept."""

NAMES_MAX = 250
"""Invalidations and deletions by key in a bucket whose names are kept, 25 bytes each: an answer that was on its way
during more of them, whatever they took, is not kept."""

PUT_TRIES_MAX = 10
"""A put that invalidations of others overtake so often, while it is tried, is not kept."""

MOMENT_MINUTES_MAX = 1_440
"""No answer is on its way for longer than a day; rules are kept for thirty."""

Fields = Mapping[FieldT, EncodableT]


class RedisPuts:
    """`cipher` seals what is put."""

    def __init__(self, names: Names, *, limits: RedisLimits, clock: Clock, cipher: PromptCipher | None) -> None:
        self._names = names
        self._limits = limits
        self._clock = clock
        self._cipher = cipher

    def minute(self) -> int:
        """Of Unix time."""
        return int(self._clock.unix() // 60.0)

    async def moment(self, redis: Redis, key: str) -> str:
        """The present one. Raises RedisError."""
        reading: Any = redis.hmget(self._names.history(bucket_of(key)), layout.HISTORY_HEAD)
        found = moment_of_head(await reading, self.minute())
        return await self.first_moment(redis, key) if found is None else found.text

    async def first_moment(self, redis: Redis, key: str) -> str:
        """The present one of a bucket that had no history, which begins with it; what stands there and is none is
        forgotten, and all of the bucket's answers with it. Raises RedisError."""
        history = self._names.history(bucket_of(key))
        for is_none in (False, True):
            async with redis.pipeline(transaction=True) as pipe:
                if is_none:
                    pipe.delete(history)
                pipe.hsetnx(history, "era", new_token())
                pipe.hmget(history, layout.HISTORY_HEAD)
                *_, head = await pipe.execute()
            if (found := moment_of_head(head, self.minute())) is not None:
                return found.text
        raise ResponseError("a history without a beginning")

    def lost_moment(self) -> str:
        """One of no history, for when the present one cannot be kept: no put of it is, however soon there is room."""
        return Moment(new_token(), 0, 0, self.minute()).text

    async def put(self, redis: Redis, entry: Entry, *, since: str | None) -> bool:
        """See AnswerStore.put. Raises RedisError; OutOfMemoryError also where the limits leave no room."""
        fields = layout.fields_of_entry(entry, self._cipher)
        began = None if since is None else parse_moment(since)
        if since is not None and (began is None or self.minute() - began.minute > MOMENT_MINUTES_MAX):
            return False
        stamp = "" if began is None else began.stamp
        for _ in range(PUT_TRIES_MAX):
            result = await self._put(redis, entry, fields, began=began, stamp=stamp)
            if result == b"full":
                raise OutOfMemoryError("no room within the limits")
            if result != b"late" or began is None:
                return result == b"put"
            reading: Any = redis.hgetall(self._names.history(bucket_of(entry.key)))
            news: dict[bytes, bytes] = await reading
            if not history_of_fields(news).is_living(began.stamp.encode(), entry.key, entry.scope, entry.tags):
                return False
            head = moment_of_head([news.get(name.encode()) for name in layout.HISTORY_HEAD], 0)
            if head is None:
                return False
            stamp = head.stamp
        return False

    async def _put(self, redis: Redis, entry: Entry, fields: Fields, *, began: Moment | None, stamp: str) -> bytes:
        shard, key = self._names.shard_of(entry.key), entry.key
        names = (
            self._names.entry(key),
            self._names.history(bucket_of(key)),
            self._names.entries(shard),
            self._names.changes(shard),
            *self._names.room(shard, entry.scope.tenant),
        )
        content_bytes = sum(_size_bytes(value) for value in fields.values())
        writing: Any = redis.eval(
            redis_scripts.PUT,
            len(names),
            *names,
            new_token(),
            stamp,
            0 if began is None else began.number + began.deletions,
            "" if began is None else began.last,
            _digest(key),
            int(entry.expires_at_unix_s * 1000),
            self._limits.room(shard, content_bytes=content_bytes, cost_nanousd=entry.answer.cost_nanousd),
            member(entry.scope.tenant, key),
            key if entry.partition else "",
            CHANGES_MAX,
            *(part for field in fields.items() for part in field),
        )
        reply: bytes | tuple[bytes, int, int, bytes] = await writing
        if isinstance(reply, bytes):
            return reply
        result, evicted, entries, size_bytes = reply
        self._limits.note(shard, entries=entries, size_bytes=int(float(size_bytes)), evicted=evicted)
        return result


def new_token() -> str:
    """One that was never there before."""
    return secrets.token_hex(TOKEN_BYTES)


def new_name(deleted_key: str | None = None) -> str:
    """Of an invalidation, or of the deletion of that key: what `PUT` knows it by again when it comes later."""
    return new_token() + (secrets.token_hex(DIGEST_CHARS // 2) if deleted_key is None else _digest(deleted_key))


def _size_bytes(value: EncodableT) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else 0


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]
