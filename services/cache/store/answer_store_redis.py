"""Answers in Redis: shared by all replicas, durable as far as that Redis is.

Promises: a put is one script (entry, its place in the history of invalidations, expiry, list of entries, change
record), so no replica ever sees half of it, and it writes nothing when an invalidation or a deletion by key came after
the moment that it names, however late it arrives; an entry that is read was held, in the same round trip, against what
was invalidated until then; expiry is absolute, by Redis's own clock, and no read prolongs it; an invalidation is one
small write, whatever it takes, and the bodies are deleted afterwards. A Redis that does not answer within `timeout_s`
(with waiting for a connection, connecting and asking) is StoreUnavailableError, is asked again once, by one caller,
after `PAUSE_S`, and costs everyone else nothing meanwhile, each shard for itself; no call is repeated. How followers
learn of changes is the part of `redis_feed`, where the servers are that of `redis_servers`; `redis_listing` looks
through many entries, and `redis_sweep` deletes what was invalidated.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

from services.cache.admission import TTL_S_MAX
from services.cache.entry import Entry, Question, Selector
from services.cache.invalidation import (
    BUCKET_RULES_MAX,
    rule_name,
    rule_text,
)
from services.cache.partition import tenant_bucket
from services.cache.store import redis_layout as layout
from services.cache.store import redis_room, redis_scripts
from services.cache.store.answer_store import Change, StoreUnavailableError
from services.cache.store.prompt_cipher import PromptCipher
from services.cache.store.redis_feed import RedisFeed
from services.cache.store.redis_limits import Limits, RedisLimits
from services.cache.store.redis_listing import BATCH_KEYS_MAX, Reading, RedisListing, bucket_of
from services.cache.store.redis_names import Names, member
from services.cache.store.redis_puts import CHANGES_MAX, NAMES_MAX, RedisPuts, new_name, new_token
from services.cache.store.redis_servers import RedisServers
from services.cache.store.redis_sweep import RedisSweeps
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown
from spillway.configuration.redis_url import parse_redis_url

__all__ = ["RedisStore"]

PAUSE_S = 1.0
"""How long a Redis that failed is left alone."""

_Result = TypeVar("_Result")


class RedisStore:
    """`url` as settings.cache.redis_url describes it, without a password. Nothing is connected before the first call.
    `cipher` seals questions, answers and vectors; what it does not open is a miss.

    Raises ValueError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        password: str = "",
        timeout_s: float,
        clock: Clock,
        limits: Limits | None = None,
        cipher: PromptCipher | None = None,
    ) -> None:
        self._cipher = cipher
        self._clock = clock
        self._timeout_s = timeout_s
        self._servers = RedisServers(parse_redis_url(url), password=password, clock=clock)
        self._names = Names(self._servers.shards)
        self._cooldowns = [Cooldown(pause_s=PAUSE_S) for _ in range(self._servers.shards)]
        self._listing = RedisListing(self._servers, self._names, clock=clock)
        self._sweeps = RedisSweeps(self._listing, self._names, changes_max=CHANGES_MAX)
        self._limits = RedisLimits(limits or Limits(), shards=self._servers.shards, clock=clock)
        self._puts = RedisPuts(self._names, limits=self._limits, clock=clock, cipher=cipher)
        self._feed = RedisFeed(self._servers, clock=clock, cipher=cipher)

    @property
    def evicted(self) -> int:
        """By the puts of this process; what Redis evicts by a policy of its own it tells nobody."""
        return self._limits.evicted

    @property
    def unreadable(self) -> int:
        """Histories of invalidations that were met of which a part, or all, could not be read or was lost."""
        return self._listing.unreadable

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        found: dict[str, Entry] = {}
        for shard, group in self._by_shard(keys):

            async def ask(redis: Redis, keys: Sequence[str] = group) -> list[Entry | None]:
                return self._living(keys, await self._listing.read(redis, keys, layout.ENTRY_FIELDS))

            found.update((entry.key, entry) for entry in await self._guarded(shard, ask) if entry is not None)
        return [found.get(key) for key in keys]

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        found: dict[str, Question] = {}
        for shard, group in self._by_shard(keys):

            async def ask(redis: Redis, keys: Sequence[str] = group) -> list[Question]:
                read = await self._listing.read(redis, keys, layout.QUESTION_FIELDS)
                asked = [
                    layout.question_of_fields(key, row[:-1], self._cipher)
                    for key, row in zip(keys, read.rows, strict=True)
                ]
                return [
                    question
                    for each, row in zip(asked, read.rows, strict=True)
                    if each is not None
                    for question, tags in (each,)
                    if read.histories[bucket_of(question.key)].is_living(row[-1], question.key, question.scope, tags)
                ]

            found.update((question.key, question) for question in await self._guarded(shard, ask))
        return [found.get(key) for key in keys]

    async def read(self, key: str) -> tuple[Entry | None, str]:
        async def ask(redis: Redis) -> tuple[Entry | None, str]:
            reading = await self._listing.read(redis, (key,), layout.ENTRY_FIELDS, minute=self._puts.minute())
            (entry,) = self._living((key,), reading)
            moment = reading.moments[bucket_of(key)]
            if moment is not None:
                return entry, moment.text
            try:
                return entry, await self._puts.first_moment(redis, key)
            except (OutOfMemoryError, ExecAbortError):  # there is no room for what might be put either
                return entry, self._puts.lost_moment()

        return await self._guarded(self._names.shard_of(key), ask)

    async def moment(self, key: str) -> str:
        async def ask(redis: Redis) -> str:
            return await self._listing.with_history(redis, key, lambda redis: self._puts.moment(redis, key))

        return await self._guarded(self._names.shard_of(key), ask)

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        async def write(redis: Redis) -> bool:
            return await self._listing.with_history(
                redis, entry.key, lambda redis: self._puts.put(redis, entry, since=since)
            )

        self._limits.look(self._held)
        return await self._guarded(self._names.shard_of(entry.key), write)

    async def _held(self, shard: int) -> tuple[int, int]:
        async def ask(redis: Redis) -> tuple[int, int]:
            asking: Any = redis.eval(redis_room.HELD, 1, self._names.entries(shard))
            entries, size_bytes = await asking
            return entries, int(float(size_bytes))

        return await self._listing.unhurried(shard, ask)

    def _living(self, keys: Sequence[str], read: Reading) -> list[Entry | None]:
        entries = [
            layout.entry_of_fields(key, row[:-1], self._cipher) for key, row in zip(keys, read.rows, strict=True)
        ]
        return [
            entry
            if entry and read.histories[bucket_of(entry.key)].is_living(row[-1], entry.key, entry.scope, entry.tags)
            else None
            for entry, row in zip(entries, read.rows, strict=True)
        ]

    async def find(self, selector: Selector) -> list[str]:
        return [key for key, is_living in (await self._judged(selector)).items() if is_living]

    async def delete(self, keys: Sequence[str]) -> int:
        return sum(
            [
                await self._delete_batch(shard, group[start : start + BATCH_KEYS_MAX])
                for shard, group in self._by_shard(keys)
                for start in range(0, len(group), BATCH_KEYS_MAX)
            ]
        )

    async def invalidate(self, selector: Selector) -> int:
        if selector.entry_key is not None:
            key = selector.entry_key
            await self._write_history(redis_scripts.DELETION, bucket_of(key), new_name(key))
        if selector.tenant is None or selector.entry_key is not None:
            judged = await self._judged(selector)
            removed = await self.delete([key for key, is_living in judged.items() if is_living])
            # What this replica takes for invalid, one that can read more of its rules may serve.
            await self.delete([key for key, is_living in judged.items() if not is_living])
            return removed
        bucket = tenant_bucket(selector.tenant)
        rule = (rule_name(selector), rule_text(selector), BUCKET_RULES_MAX, int(TTL_S_MAX * 1000))
        await self._write_history(redis_scripts.INVALIDATE, bucket, new_name(), *rule)
        return await self._sweeps.swept(selector)

    def served(self, key: str) -> None:
        """Told to Redis with the next puts."""
        self._limits.use(self._names.shard_of(key), key)

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        return self._feed.changes(position)

    async def close(self) -> None:
        await self._sweeps.close()
        await self._limits.close()
        await self._servers.close()

    async def _judged(self, selector: Selector) -> dict[str, bool]:
        """Of what is there and the selector takes, whether it may be served."""
        living: dict[str, bool] = {}  # a scan may tell of an entry twice
        if selector.entry_key is not None:
            shard = self._names.shard_of(selector.entry_key)
            looked_at = await self._listing.judged(shard, selector, [selector.entry_key])
            living.update((each.key, each.is_living) for each in looked_at)
        else:
            async for _, looked_at in self._listing.entries(selector):
                living.update((each.key, each.is_living) for each in looked_at)
        return living

    def _by_shard(self, keys: Sequence[str]) -> list[tuple[int, list[str]]]:
        groups: dict[int, list[str]] = {}
        for key in dict.fromkeys(keys):
            groups.setdefault(self._names.shard_of(key), []).append(key)
        return list(groups.items())

    async def _write_history(self, script: str, bucket: str, name: str, *more: EncodableT) -> None:
        shard = self._names.shard_of(bucket)
        keys = (self._names.history(bucket), self._names.changes(shard))
        arguments = (new_token(), name, NAMES_MAX, CHANGES_MAX, bucket, *more)

        async def write(redis: Redis) -> None:
            writing: Any = redis.eval(script, len(keys), *keys, *arguments)
            await writing

        await self._listing.unhurried(shard, lambda redis: self._listing.with_history(redis, bucket, write))

    async def _delete_batch(self, shard: int, keys: Sequence[str]) -> int:
        async def remove(redis: Redis) -> int:
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hget(self._names.entry(key), "tenant")
                tenants = await pipe.execute()
            names = [self._names.entries(shard), self._names.changes(shard), *self._names.entries_at(shard, keys)]
            values: list[Any] = [CHANGES_MAX, " ".join(dict.fromkeys(map(bucket_of, keys)))]
            for key, tenant in zip(keys, tenants, strict=True):
                values += (member((tenant or b"").decode("utf-8", "replace"), key), key)
            removing: Any = redis.eval(redis_scripts.DELETE, len(names), *names, *values)
            return int(await removing)

        return await self._listing.unhurried(shard, remove)

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
