"""What was invalidated or deleted, as a follower of the streams heard of it, for a Redis that comes back without it: it
loads an older file, or takes over before it had received all.

Promises: every record that ended something names its buckets; when such a record is no longer where it was, and was not
trimmed either, the histories of its buckets end, and with them all of their answers: what was ended stays so as long as
any follower is left that had heard of it, at the price of misses. What a stream that was not set back tells of costs
nothing. Belongs to one event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from services.cache.partition import BUCKET_DIGITS
from services.cache.store.redis_names import Names
from services.runtime.logs import get_logger

__all__ = ["ENDED", "RedisEndings"]

ENDED = "ended"
"""The field of a record that names, with spaces between them, the buckets of which something was ended."""

AT_ONCE_MAX = 500
"""Records looked for in a round trip."""

_BUCKET = re.compile(rb"[0-9a-f]{%d}" % BUCKET_DIGITS)


class RedisEndings:
    """Of each bucket the latest record: 65,536 at most."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._latest: dict[str, bytes] = {}
        self._log = get_logger(__name__)

    def hear(self, records: Iterable[tuple[bytes, dict[bytes, bytes] | None]]) -> None:
        """Records as they were read of a stream, in order."""
        for record_id, fields in records:
            for bucket in (fields or {}).get(ENDED.encode(), b"").split():
                if _BUCKET.fullmatch(bucket):
                    self._latest[bucket.decode()] = record_id

    async def end_lost(self, redis: Redis, shard: int) -> None:
        """Ends again what the shard's stream does not tell of any more, though nobody trimmed it. Raises RedisError."""
        stream = self._names.changes(shard)
        oldest: Any = await redis.xrange(stream, count=1)
        begins = _numbers(oldest[0][0]) if oldest else (0, 0)
        heard = [each for each in self._latest.items() if self._names.shard_of(each[0]) == shard]
        untrimmed = [(bucket, record_id) for bucket, record_id in heard if _numbers(record_id) >= begins]
        for start in range(0, len(untrimmed), AT_ONCE_MAX):
            some = untrimmed[start : start + AT_ONCE_MAX]
            async with redis.pipeline(transaction=False) as pipe:
                for _, record_id in some:
                    pipe.xrange(stream, record_id, record_id)
                found = await pipe.execute()
            lost = [bucket for (bucket, _), record in zip(some, found, strict=True) if not record]
            await self._end(redis, lost)

    async def _end(self, redis: Redis, buckets: Sequence[str]) -> None:
        if buckets:
            await redis.delete(*map(self._names.history, buckets))
            self._log.warning("cache_invalidations_lost", buckets=len(buckets))
        for bucket in buckets:
            self._latest.pop(bucket, None)


def _numbers(record_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = record_id.partition(b"-")
    return int(milliseconds), int(number)
