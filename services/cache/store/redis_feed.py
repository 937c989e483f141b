"""What happens in a shared Redis, as one endless sequence of changes: loads what is there, then follows the streams.

Promises: no change is lost silently: whenever a stream has been trimmed beyond the follower, or Redis came back empty,
older, or as another server that never had the follower's last record, the feed says Forget and loads everything again,
after what it had heard was ended has ended there too (`redis_endings`).
Each follower reads the whole stream of each shard from its own position, and then the entries that the records name:
what is told is what lies there by then. An outage is an Interrupted for every failed attempt, `RECONNECT_S` apart; the
feed ends only when its consumer closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from services.cache.store import redis_layout as layout
from services.cache.store import redis_scripts
from services.cache.store.answer_store import (
    CaughtUp,
    Change,
    Forget,
    Indexed,
    IndexedMany,
    Interrupted,
    Reached,
    Removed,
)
from services.cache.store.prompt_cipher import PromptCipher
from services.cache.store.redis_endings import RedisEndings
from services.cache.store.redis_names import Names, key_of_member
from services.cache.store.redis_servers import RedisServers
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks

__all__ = ["RedisFeed"]

RECORDS_MAX = 500
"""Records per read, and entries read at a time: below 1 MB."""

BLOCK_MS = 1_000
"""How long a read waits for news."""

READ_TIMEOUT_S = 3.0
"""A read that takes longer has lost its server."""

RECONNECT_S = 0.5
"""Between attempts to reach a Redis that is away. One cheap attempt per replica: no need to back off further."""

_BEFORE_ALL = b"0-0"
_SCANNED = -1


class RedisFeed:
    """Every run of `changes` is a follower of its own, on connections of its own while it waits."""

    def __init__(self, servers: RedisServers, *, clock: Clock, cipher: PromptCipher | None = None) -> None:
        self._servers = servers
        self._cipher = cipher
        self._clock = clock
        self._log = get_logger(__name__)

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        """See AnswerStore.changes."""
        follower = _Follower(self._servers, position, self._cipher)
        while True:
            try:
                async with aclosing(follower.run()) as changes:
                    async for change in changes:
                        yield change
            except (RedisError, TimeoutError, OSError) as error:
                self._log.warning("cache_feed_interrupted", error=type(error).__name__)
                self._servers.suspect(error)
                yield Interrupted()
                await self._clock.sleep(RECONNECT_S)


@dataclass(frozen=True, slots=True)
class _News:
    """One read of a shard's stream. `lost`: records after the position may be gone."""

    changes: Sequence[Change] = ()
    position: bytes = _BEFORE_ALL
    is_all: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """Some entries, which keys come next, and where the scan of keys is."""

    batches: Sequence[IndexedMany]
    next_keys: Sequence[str]
    cursor: int

    @property
    def is_last(self) -> bool:
        """No further entries."""
        return not self.next_keys and self.cursor == _SCANNED


class _Follower:
    """One reader of all streams. `run` may be called again after it raised, and goes on where it was."""

    def __init__(self, servers: RedisServers, position: str, cipher: PromptCipher | None) -> None:
        self._servers = servers
        self._cipher = cipher
        self._names = Names(servers.shards)
        self._endings = RedisEndings(self._names)
        self._shards = range(servers.shards)
        # The last record that was read of each shard; None: everything has to be loaded.
        self._positions = layout.position_of_text(position, servers.shards)

    async def run(self) -> AsyncGenerator[Change, None]:
        while True:
            if self._positions is None:
                positions = [await self._newest(shard) for shard in self._shards]
                yield Forget()
                for shard in self._shards:
                    async with aclosing(self._load(shard)) as batches:
                        async for batch in batches:
                            yield batch
                self._positions = positions
            async with aclosing(self._follow(self._positions)) as changes:
                async for change in changes:
                    yield change
            self._positions = None

    async def _follow(self, positions: list[bytes]) -> AsyncGenerator[Change, None]:
        """The records after `positions`, which it moves on; ends when some of them are gone."""
        behind = set(self._shards)
        reads: dict[asyncio.Task[_News], int] = {}
        try:
            while True:
                for shard in set(self._shards) - set(reads.values()):
                    read = self._read(shard, positions[shard], block_ms=None if shard in behind else BLOCK_MS)
                    task = asyncio.create_task(read, name="cache-feed-read")
                    task.add_done_callback(_seen)
                    reads[task] = shard
                done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    shard, news = reads.pop(task), task.result()
                    if news.lost:
                        for each in self._shards:  # all of them are loaded anew, and read from there
                            await self._endings.end_lost(await self._servers.client(each), each)
                        return
                    for change in news.changes:
                        yield change
                    positions[shard] = news.position
                    if news.is_all and shard in behind:
                        behind.discard(shard)
                        if not behind:
                            yield CaughtUp()
                yield Reached(layout.text_of_position(positions))
        finally:
            await end_tasks(reads)

    async def _read(self, shard: int, position: bytes, *, block_ms: int | None) -> _News:
        redis = await self._servers.client(shard)
        async with asyncio.timeout(READ_TIMEOUT_S):
            # In one pipeline, so on one connection: a server that was restarted between two reads would go unnoticed.
            # In this order: so would what was trimmed while the read waited.
            async with redis.pipeline(transaction=False) as pipe:
                pipe.xread({self._names.changes(shard): position}, count=RECORDS_MAX, block=block_ms)
                self._ask_for(pipe, shard, position)
                reply, known = await pipe.execute()
            if _is_lost(position, known):
                return _News(lost=True)
            records: list[tuple[bytes, dict[bytes, bytes] | None]] = reply[0][1] if reply else []
            self._endings.hear(records)
            news = [item for _, fields in records if (item := layout.news_of_record(fields or {})) is not None]
            stored = await self._stored(redis, shard, [item for item in news if isinstance(item, str)])
        changes = [stored[item] if isinstance(item, str) else item for item in news]
        return _News(changes, records[-1][0] if records else position, is_all=len(records) < RECORDS_MAX)

    async def _stored(self, redis: Redis, shard: int, keys: Sequence[str]) -> dict[str, Indexed | Removed]:
        """What lies at these keys by now."""
        indexed = {entry.key: entry for entry in await self._indexed(redis, shard, keys)}
        return {key: indexed.get(key) or Removed((key,)) for key in keys}

    async def _indexed(self, redis: Redis, shard: int, keys: Sequence[str]) -> list[Indexed]:
        if not keys:
            return []
        names = self._names.entries_at(shard, keys)
        reading: Any = redis.eval(redis_scripts.INDEXED, len(names), *names, *layout.INDEX_FIELDS)
        read = (layout.indexed_of_fields(key, row, self._cipher) for key, row in zip(keys, await reading, strict=True))
        return [entry for entry in read if entry is not None]

    def _ask_for(self, pipe: Pipeline, shard: int, position: bytes) -> None:
        """Asks for what `_is_lost` judges by."""
        stream = self._names.changes(shard)
        if position == _BEFORE_ALL:
            pipe.xlen(stream)
        else:
            pipe.xrange(stream, position, position)

    async def _newest(self, shard: int) -> bytes:
        """The newest record's id. An empty stream is given a first record, by which it is known again."""
        redis, stream = await self._servers.client(shard), self._names.changes(shard)
        newest: Any = await redis.xrevrange(stream, count=1)
        if newest:
            return bytes(newest[0][0])
        try:
            return cast("bytes", await redis.xadd(stream, {"began": "1"}))
        except ResponseError:  # out of memory, say: then it is read from its beginning
            return _BEFORE_ALL

    async def _load(self, shard: int) -> AsyncGenerator[IndexedMany, None]:
        """Everything that is there. While some entries are taken in, Redis reads the next."""
        redis = await self._servers.client(shard)
        ahead = asyncio.create_task(self._page(redis, shard, (), 0), name="cache-feed-load")
        try:
            while True:
                page = await ahead
                if not page.is_last:
                    following = self._page(redis, shard, page.next_keys, page.cursor)
                    ahead = asyncio.create_task(following, name="cache-feed-load")
                for batch in page.batches:
                    yield batch
                if page.is_last:
                    return
        finally:
            await end_tasks([ahead])

    async def _page(self, redis: Redis, shard: int, keys: Sequence[str], cursor: int) -> _Page:
        """Reads these entries and, unless the cursor has come to its end, which are next."""
        async with redis.pipeline(transaction=False) as pipe:
            if keys:
                names = self._names.entries_at(shard, keys)
                pipe.eval(redis_scripts.INDEXED, len(names), *names, *layout.INDEX_FIELDS)
            if cursor != _SCANNED:
                pipe.zscan(self._names.entries(shard), cursor, count=RECORDS_MAX)
            reply = await pipe.execute()
        rows = reply[0] if keys else ()
        cursor, members = reply[-1] if cursor != _SCANNED else (0, [])
        return _Page(
            layout.indexed_many(keys, rows, self._cipher),
            [key for raw, _ in members if (key := key_of_member(cast("bytes", raw)))],
            cursor or _SCANNED,
        )


def _seen(task: asyncio.Task[_News]) -> None:
    """A read that fails while its follower ends fails nobody."""
    if not task.cancelled():
        task.exception()


def _is_lost(position: bytes, known: Any) -> bool:
    """Whether records after `position` may be gone: that record is no longer there, or never was."""
    return known >= RECORDS_MAX if position == _BEFORE_ALL else not known
