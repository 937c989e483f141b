"""What is known of request ids, in Redis: for all replicas, and for longer than any of them lives.

    spillway:replay:1:{TENANT}:ID   a hash: digest, owner ("" for none), until (ms, Redis's time), answer;
                                    process (the owner's, see `presence`; "" when not known), gone (ms, since when)

TENANT and ID are hashes; the braces keep a tenant's keys in one slot of a cluster. One key per request id, one script
per step, no clock but Redis's own. Who waits for an owner whose process is gone need not wait for the end of its lease:
after GONE_S (MOVED_S with sentinels) without it the next one takes over.
"""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from services.orchestrator.guarded_redis import GuardedRedis, RedisGoneError
from services.orchestrator.replays.presence import Presence
from services.orchestrator.replays.replay_store import Answered, Busy, Claim, Conflict, Owned, ReplayStoreError
from services.runtime.clock import Clock
from services.runtime.redis_places import RedisPlaces

__all__ = ["RedisReplayStore"]

GONE_S: Final = 0.3
"""A connection that breaks by itself is back within it."""

MOVED_S: Final = 2.0
"""Instead, where the primary may be replaced: so long everybody has to find the new one, which knows of nobody yet."""

_PREFIX: Final = "spillway:replay:1:"

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# ARGV: digest, owner, lease ms, window ms, the owner's process, ms after which a process is gone for good. A process is
# only believed to be gone that was there at the claim; a Redis that does not say who is there (an ACL) changes nothing.
_CLAIM: Final = (
    _NOW
    + """
local function listeners(channel)
  local reply = redis.pcall('PUBSUB', 'NUMSUB', channel)
  return type(reply) == 'table' and not reply.err and tonumber(reply[2]) or nil
end
local row = redis.call('HMGET', KEYS[1], 'digest', 'owner', 'until', 'answer', 'process', 'gone')
if row[1] and row[1] ~= ARGV[1] then return {'conflict'} end
if row[4] then return {'answered', row[4]} end
local owned = row[2] and row[2] ~= ''
if owned and tonumber(row[3]) > now then
  local busy = {'busy', string.format('%.0f', tonumber(row[3]) - now)}
  if not row[5] or row[5] == '' or listeners(row[5]) ~= 0 then
    if row[6] then redis.call('HDEL', KEYS[1], 'gone') end
    return busy
  end
  if not row[6] then redis.call('HSET', KEYS[1], 'gone', string.format('%.0f', now)) return busy end
  if now - tonumber(row[6]) < tonumber(ARGV[6]) then return busy end
end
local process = ''
if ARGV[5] ~= '' and (listeners(ARGV[5]) or 0) > 0 then process = ARGV[5] end
redis.call('HDEL', KEYS[1], 'gone')
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'owner', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]),
  'process', process)
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), tonumber(ARGV[4])))
return {'owned', owned and '1' or '0'}
"""
)

# ARGV: owner, lease ms.
_RENEW: Final = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
redis.call('HDEL', KEYS[1], 'gone')
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
)

# ARGV: digest, answer, window ms.
_KEEP: Final = """
local row = redis.call('HMGET', KEYS[1], 'digest', 'answer')
if row[1] and row[1] ~= ARGV[1] then return false end
if row[2] then return row[2] end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'owner', '', 'until', '0', 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""

# ARGV: owner.
_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('HSET', KEYS[1], 'owner', '', 'until', '0') end
return 0
"""


class RedisReplayStore:
    """See ReplayStore. `redis` decodes no responses; who made it closes it, and `presence`, which it begins.

    `places`: where the primary may be replaced by its replica, which every step is then copied to (see GuardedRedis).
    """

    def __init__(
        self,
        redis: Redis,
        *,
        timeout_s: float,
        clock: Clock,
        presence: Presence | None = None,
        places: RedisPlaces | None = None,
    ) -> None:
        self._presence = presence
        self._gone_s = GONE_S if places is None else MOVED_S
        self._redis = GuardedRedis(redis, timeout_s=timeout_s, clock=clock, places=places)
        self._claim = self._redis.script(_CLAIM)
        self._renew = self._redis.script(_RENEW)
        self._keep = self._redis.script(_KEEP)
        self._release = self._redis.script(_RELEASE)

    async def claim(self, key: str, digest: bytes, owner: str, *, lease_s: float, window_s: float) -> Claim:
        process = ""
        if self._presence is not None:
            self._presence.begin()
            process = self._presence.name
        args: list[str | bytes | int] = [digest, owner, _ms(lease_s), _ms(window_s), process, _ms(self._gone_s)]
        try:
            reply = await self._redis.run(self._claim, [_name(key)], args)
        except RedisGoneError as error:
            raise ReplayStoreError(str(error)) from error
        match reply:
            case [b"owned", taken_over]:
                return Owned(taken_over == b"1")
            case [b"answered", answer]:
                return Answered(answer)
            case [b"busy", remaining_ms]:
                return Busy(int(remaining_ms) / 1_000)
            case [b"conflict"]:
                return Conflict()
            case _:
                raise ReplayStoreError("a reply that is none")

    async def renew(self, key: str, owner: str, *, lease_s: float) -> bool:
        try:
            return bool(await self._redis.run(self._renew, [_name(key)], [owner, _ms(lease_s)]))
        except RedisGoneError as error:
            raise ReplayStoreError(str(error)) from error

    async def keep(self, key: str, digest: bytes, answer: bytes, *, window_s: float) -> bytes:
        try:
            earlier: bytes | None = await self._redis.run(self._keep, [_name(key)], [digest, answer, _ms(window_s)])
        except RedisGoneError as error:
            raise ReplayStoreError(str(error)) from error
        return answer if earlier is None else earlier

    async def release(self, key: str, owner: str) -> None:
        try:
            await self._redis.run(self._release, [_name(key)], [owner])
        except RedisGoneError as error:
            raise ReplayStoreError(str(error)) from error


def _name(key: str) -> str:
    tenant, _, identifier = key.partition(":")
    return f"{_PREFIX}{{{tenant}}}:{identifier}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
