"""The counts of all replicas, in a Redis that may be gone at any time.

Promises: each operation is one script and one round trip, guarded (`guarded_redis`): bounded by `timeout_s`, without
retries, left alone for a moment after failures; what would have been counted meanwhile is not. Nobody's clock matters.

    spillway:canary:1:{drift}:COMPARISON:STREAM   a hash: era, n; BLOCK:BIN and o:BIN -> count, as in `Tally`
    spillway:canary:1:{drift}:levels              a hash: kind of work -> how often it has been tightened

COMPARISON is a digest of who grades and who is compared with: with another flagship or judge, the count begins anew,
while levels stay. All keys lie in one slot. At most some 25,000 small fields; in practice a few hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Iterable
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from services.orchestrator.canary.drift import (
    BLOCK_GRADES,
    BLOCKS_KEPT,
    OVERALL,
    STREAMS,
    UNITS,
    Block,
    Tally,
    place,
)
from services.orchestrator.canary.drift_store import Drift
from services.orchestrator.guarded_redis import GuardedRedis, RedisGoneError
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from spillway.routing import TaskType

__all__ = ["LEVELS_KEY", "RedisDrift"]

CALLS_MAX: Final = 4  # under way at once
_PREFIX: Final = "spillway:canary:1:{drift}"
LEVELS_KEY: Final = f"{_PREFIX}:levels"
_GONE: Final = (RedisError, TimeoutError, OSError)
_BINS: Final = 2 * UNITS + 1
_KINDS: Final = {each.value: each for each in TaskType}

_log = get_logger(__name__)

# KEYS: the streams to count in, then the levels. ARGV: the drop's bin, grades of a block, blocks kept, bins.
_ADD: Final = """
local size, kept, bins, found = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), {}
for i = 1, #KEYS - 1 do
  local before = redis.call('HINCRBY', KEYS[i], 'n', 1) - 1
  local block = math.floor(before / size)
  redis.call('HINCRBY', KEYS[i], string.format('%d:%s', block, ARGV[1]), 1)
  if before % size == 0 and block >= kept then
    for bin = 0, bins - 1 do
      local field = string.format('%d:%d', block - kept, bin)
      local count = redis.call('HGET', KEYS[i], field)
      if count then
        redis.call('HINCRBY', KEYS[i], 'o:' .. bin, count)
        redis.call('HDEL', KEYS[i], field)
      end
    end
  end
end
for i = 1, #KEYS do found[i] = redis.call('HGETALL', KEYS[i]) end
return found
"""

# KEYS: all streams, then the levels.
_READ: Final = """
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGETALL', KEYS[i]) end
return found
"""

# KEYS: all streams, then the levels. ARGV: which of them must be in which era; then how many to empty, and which; then
# the kinds of work to tighten.
_BEGIN_ANEW: Final = """
if tonumber(redis.call('HGET', KEYS[tonumber(ARGV[1])], 'era') or '0') ~= tonumber(ARGV[2]) then
  return {redis.call('HGETALL', KEYS[#KEYS])}
end
local emptied, found = tonumber(ARGV[3]), {}
for i = 4, 3 + emptied do
  local key = KEYS[tonumber(ARGV[i])]
  local era = tonumber(redis.call('HGET', key, 'era') or '0')
  redis.call('DEL', key)
  redis.call('HSET', key, 'era', string.format('%d', era + 1))
end
for i = 4 + emptied, #ARGV do redis.call('HINCRBY', KEYS[#KEYS], ARGV[i], 1) end
for i = 1, #KEYS do found[i] = redis.call('HGETALL', KEYS[i]) end
return found
"""


class RedisDrift:
    """The counts of all replicas that compare alike. `redis` is its own from now on."""

    def __init__(self, redis: Redis, *, timeout_s: float, clock: Clock) -> None:
        self._redis = redis
        self._places = asyncio.Semaphore(CALLS_MAX)
        self._guarded = GuardedRedis(redis, timeout_s=timeout_s, clock=clock)
        self._add, self._read, self._begin_anew = map(self._guarded.script, (_ADD, _READ, _BEGIN_ANEW))
        self.compare("", "")

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        streams = (task_type.value, OVERALL)
        keys = [*(self._keys[each] for each in streams), LEVELS_KEY]
        found = await self._run(self._add, keys, [place(drop_units), BLOCK_GRADES, BLOCKS_KEPT, _BINS])
        return None if found is None else _drift(streams, found)

    async def read(self) -> Drift | None:
        found = await self._run(self._read, [*self._keys.values(), LEVELS_KEY], [])
        return None if found is None else _drift(STREAMS, found)

    async def begin_anew(
        self, stream: str, era: int, *, also: Collection[str] = (), tightened: Collection[TaskType] = ()
    ) -> Drift | None:
        emptied = sorted({_number(stream), *map(_number, also)})
        arguments: list[str | bytes | int] = [_number(stream), era, len(emptied), *emptied]
        arguments += [kind.value for kind in tightened]
        found = await self._run(self._begin_anew, [*self._keys.values(), LEVELS_KEY], arguments)
        if found is None:
            return None
        return _drift(STREAMS if len(found) > 1 else (), found)

    def compare(self, flagship: str, judge: str) -> None:
        compared = hashlib.sha256(f"{len(flagship)}:{flagship}{judge}".encode()).hexdigest()[:16]
        self._keys = {stream: f"{_PREFIX}:{compared}:{stream}" for stream in STREAMS}

    async def close(self) -> None:
        with contextlib.suppress(*_GONE):
            await self._redis.aclose()

    async def _run(self, script: AsyncScript, keys: list[str], arguments: list[str | bytes | int]) -> list[Any] | None:
        try:
            async with self._places:
                found: list[Any] = await self._guarded.run(script, keys, arguments)
        except RedisGoneError as error:
            _log.warning("canary_counts_unavailable", error=str(error))
            return None
        return found


def _number(stream: str) -> int:
    """The place of a stream among the keys, from 1."""
    return STREAMS.index(stream) + 1


def _drift(streams: Iterable[str], found: list[Any]) -> Drift:
    *tallies, levels = (_fields(each) for each in found)
    return Drift(
        {stream: _tally(fields) for stream, fields in zip(streams, tallies, strict=True)},
        {_KINDS[kind]: count for kind, count in levels.items() if kind in _KINDS},
    )


def _fields(flat: list[bytes]) -> dict[str, int]:
    """The fields of a hash with whole numbers; what is not ours is left out."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    texts = ((name.decode("utf-8", "replace"), value) for name, value in pairs)
    return {name: int(value) for name, value in texts if value.isdigit() and len(value) < 19}


def _tally(fields: dict[str, int]) -> Tally:
    counts: dict[str, list[int]] = {"o": [0] * _BINS}
    for name, count in fields.items():
        block, _, where = name.partition(":")
        if where.isdecimal() and int(where) < _BINS and (block == "o" or block.isdecimal()):
            counts.setdefault(block, [0] * _BINS)[int(where)] = count
    older = tuple(counts.pop("o"))
    blocks = sorted((Block(int(index), tuple(each)) for index, each in counts.items()), key=lambda block: block.index)
    return Tally(fields.get("era", 0), older, tuple(blocks))
