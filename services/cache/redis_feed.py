"""What happens in a shared Redis, as one endless sequence of changes: loads what is there, then follows the stream.

Promises: no change is lost silently: whenever the stream has been trimmed beyond the follower, or Redis came back empty
or older, the feed says Forget and loads everything again. Each follower reads the whole stream, from its own position,
on a connection of its own, because a blocking read would hold up requests. An outage is an Interrupted for every failed
attempt, `RECONNECT_S` apart; the feed ends only when its consumer closes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.cache import redis_layout as layout
from services.cache.answer_store import CaughtUp, Change, Forget, Indexed, Interrupted
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["RedisFeed"]

RECORDS_MAX = 500
"""Records per read, below 1 MB."""

BLOCK_MS = 1_000
"""How long a read waits for news."""

READ_TIMEOUT_S = 3.0
"""A read that takes longer has lost its server."""

RECONNECT_S = 0.5
"""Between attempts to reach a Redis that is away. One cheap attempt per replica: no need to back off further."""

_BEFORE_ALL = b"0-0"


class RedisFeed:
    """`connect` makes a client with that read timeout in seconds; every run of `changes` has one of its own."""

    def __init__(self, connect: Callable[[float], Redis], *, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._log = get_logger(__name__)

    async def changes(self) -> AsyncGenerator[Change, None]:
        """See AnswerStore.changes."""
        redis = self._connect(READ_TIMEOUT_S)
        try:
            follower = _Follower(redis)
            while True:
                try:
                    async for change in follower.run():
                        yield change
                except (RedisError, TimeoutError, OSError) as error:
                    self._log.warning("cache_feed_interrupted", error=type(error).__name__)
                    yield Interrupted()
                    await self._clock.sleep(RECONNECT_S)
        finally:
            await redis.aclose()
            await redis.connection_pool.disconnect()


class _Follower:
    """One reader of the stream. `run` may be called again after it raised, and goes on where it was."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._position: bytes | None = None  # the last record that was read; None: everything has to be loaded

    async def run(self) -> AsyncGenerator[Change, None]:
        if self._position is not None and await self._has_gap(self._position):
            self._position = None
        while True:
            if self._position is None:
                position = await self._newest()
                yield Forget()
                async for entry in self._load():
                    yield entry
                self._position = position
            yield CaughtUp()
            async for change in self._follow(self._position):
                yield change
            self._position = None

    async def _follow(self, position: bytes) -> AsyncGenerator[Change, None]:
        """The records after `position`; ends when some of them are gone."""
        while True:
            reply: Any = await self._redis.xread({layout.CHANGES: position}, count=RECORDS_MAX, block=BLOCK_MS)
            records: list[tuple[bytes, dict[bytes, bytes] | None]] = reply[0][1] if reply else []
            # Only a reader with more than a whole read left to do can have been overtaken by the trimming.
            if len(records) == RECORDS_MAX and await self._has_gap(position):
                return
            for record_id, fields in records:
                change = layout.change_of_record(fields or {})
                if change is not None:
                    yield change
                position = self._position = record_id

    async def _has_gap(self, position: bytes) -> bool:
        """Whether records after `position` may be gone: it lies before the oldest record, or after the newest."""
        oldest: Any = await self._redis.xrange(layout.CHANGES, count=1)
        if not oldest:
            return position != _BEFORE_ALL
        return not _order(oldest[0][0]) <= _order(position) <= _order(await self._newest())

    async def _newest(self) -> bytes:
        newest: Any = await self._redis.xrevrange(layout.CHANGES, count=1)
        return bytes(newest[0][0]) if newest else _BEFORE_ALL

    async def _load(self) -> AsyncGenerator[Indexed, None]:
        cursor = 0
        while True:
            cursor, members = await self._redis.zscan(layout.ENTRIES, cursor, count=RECORDS_MAX)
            keys = [key for raw, _ in members if (key := layout.key_of_member(cast("bytes", raw)))]
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(layout.entry_name(key), layout.INDEX_FIELDS)
                rows: list[Any] = await pipe.execute()
            for key, row in zip(keys, rows, strict=True):
                indexed = layout.indexed_of_fields(key, row)
                if indexed is not None:
                    yield indexed
            if cursor == 0:
                return


def _order(record_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = record_id.partition(b"-")
    return int(milliseconds), int(number)
