"""How many messages an end user has sent: for people who are new.

Promises of every counter: `seen` says how many there were before and counts this one; each user of each tenant for
itself; who was away for `forget_s` is new again; at most `users_max` are kept, and those who were away longest are
forgotten first. A counter that cannot say returns None, soon, and the request goes on without it. No names are kept,
only hashes. For one event loop.

Of the one in Redis: one script, one round trip, Redis's own clock. The bound is per tenant there.

    spillway:users:1:{TENANT}:seen     sorted set: user by the time of the last message (microseconds)
    spillway:users:1:{TENANT}:counts   hash: user -> messages; both expire with the tenant's last user
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final, Protocol

from redis.asyncio import Redis

from services.orchestrator.guarded_redis import GuardedRedis, RedisGoneError
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["MemoryUsers", "RedisUsers", "UserCounter", "key_names"]

# About 200 bytes of Redis each. A user who is forgotten costs some answers of the strongest tier again.
REDIS_USERS_MAX: Final = 1_000_000
_DIGEST_BYTES: Final = 16
_log = get_logger(__name__)

# KEYS: seen, counts. ARGV: user, forget ms, users at most, "1" to only look. Forgets no more than 100 at once.
_SEEN: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local since = now - tonumber(ARGV[2]) * 1000
local last = redis.call('ZSCORE', KEYS[1], ARGV[1])
local count = 0
if last and tonumber(last) > since then count = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0') end
if ARGV[4] == '1' then return count end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], count + 1)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', since, 'LIMIT', 0, 100)
if #gone == 0 then
    local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
    if over > 0 then gone = redis.call('ZRANGE', KEYS[1], 0, math.min(over, 100) - 1) end
end
if #gone > 0 then
    redis.call('ZREM', KEYS[1], unpack(gone))
    redis.call('HDEL', KEYS[2], unpack(gone))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return count
"""


class UserCounter(Protocol):
    """Counts messages."""

    async def seen(self, tenant: str, end_user: str, *, peek: bool = False) -> int | None:
        """How many messages the user has sent before this one, which counts unless `peek`; None: nobody can say."""
        ...


class MemoryUsers:
    """In this process alone."""

    def __init__(self, clock: Clock, *, forget_s: float, users_max: int) -> None:
        self._clock = clock
        self._forget_s = forget_s
        self._users_max = users_max
        self._users: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()  # longest away first

    async def seen(self, tenant: str, end_user: str, *, peek: bool = False) -> int | None:
        now_s = self._clock.monotonic()
        key = (_digest(tenant), _digest(end_user))
        count, last_s = self._users.get(key, (0, now_s))
        if now_s - last_s >= self._forget_s:
            count = 0
        if not peek:
            self._users[key] = (count + 1, now_s)
            self._users.move_to_end(key)
            self._forget(now_s)
        return count

    def __len__(self) -> int:
        return len(self._users)

    def _forget(self, now_s: float) -> None:
        while self._users:
            key, (_, last_s) = next(iter(self._users.items()))
            if len(self._users) <= self._users_max and now_s - last_s < self._forget_s:
                return
            del self._users[key]


class RedisUsers:
    """In a Redis, for all replicas. `redis` decodes no responses and repeats nothing; who made it closes it."""

    def __init__(
        self, redis: Redis, *, timeout_s: float, clock: Clock, forget_s: float, users_max: int = REDIS_USERS_MAX
    ) -> None:
        self._redis = GuardedRedis(redis, timeout_s=timeout_s, clock=clock)
        self._script = self._redis.script(_SEEN)
        self._forget_ms = max(1, round(forget_s * 1_000))
        self._users_max = users_max
        self._is_gone = False

    async def seen(self, tenant: str, end_user: str, *, peek: bool = False) -> int | None:
        arguments = (_digest(end_user), self._forget_ms, self._users_max, "1" if peek else "0")
        try:
            reply = await self._redis.run(self._script, key_names(tenant), arguments)
        except RedisGoneError as error:
            if not self._is_gone:
                _log.warning("users_not_counted", reason=str(error))
            self._is_gone = True
            return None
        self._is_gone = False
        return int(reply)


def key_names(tenant: str) -> tuple[str, str]:
    """The tenant's keys in Redis, in one slot of a cluster."""
    place = f"spillway:users:1:{{{_digest(tenant)}}}"
    return f"{place}:seen", f"{place}:counts"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[: 2 * _DIGEST_BYTES]
