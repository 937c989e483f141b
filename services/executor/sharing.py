"""Replicas tell each other of open breakers, through a Redis that may be gone at any time.

Promises: an opening is known to the others within `POLL_S` and a round trip, well below a second; what they take over
is only for how long to leave the target alone, and they probe for themselves afterwards. No request ever waits: one
task per process speaks to Redis, each exchange bounded by `EXCHANGE_S_MAX`; while Redis is gone nothing is shared and
nothing else happens, and what was opened meanwhile is sent when it is back, if it still holds.

No clocks are compared. Redis's own is the only one that matters: a script writes "until" by it, never an earlier one
than stands there, and readers ask for its time together with the openings, so that they learn a remaining duration.

    spillway:breakers:1   a hash: target -> "UNTIL_MS EPOCH REPLICA PROVIDER", which expires with its last opening

Polling, not a subscription: one HGETALL of at most a few dozen short fields every half second costs Redis nothing, and
there is no state that a lost connection could leave behind. An opening is taken over once, whenever it was read.

The danger in it: a replica whose own network is broken opens breakers for all. It does so for one interval at a time,
while its neighbours' probes succeed; `share_redis_url` is empty by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from services.executor.breaker import BreakerState
from services.executor.target_health import TargetChange
from services.executor.targets import TargetPool
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.redis_client import find_places, open_redis

__all__ = ["EXCHANGE_S_MAX", "KEY", "POLL_S", "BreakerSharing", "Opening", "parse_opening"]

KEY: Final = "spillway:breakers:1"
POLL_S: Final = 0.4  # the longest that an opening waits to be read
EXCHANGE_S_MAX: Final = 0.4  # with connecting; a Redis that takes longer is gone
PAUSE_S: Final = 1.0  # how long one that is gone is left alone
_FIELD_BYTES_MAX: Final = 512
_REPLICA_BYTES: Final = 8
_GONE: Final = (RedisError, TimeoutError, OSError)

# KEYS: the hash. ARGV: target, remaining milliseconds, the rest of the value. Never an earlier time than stands there.
_PUBLISH: Final = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = now_ms + tonumber(ARGV[2])
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and (tonumber(string.match(old, '^%d+')) or 0) >= until_ms then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', until_ms) .. ' ' .. ARGV[3])
if redis.call('PTTL', KEYS[1]) < until_ms - now_ms then redis.call('PEXPIRE', KEYS[1], until_ms - now_ms) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """One target's opening, as it stands in Redis."""

    until_ms: int
    epoch: int
    replica: str
    provider: str


@dataclass(frozen=True, slots=True)
class _Unsent:
    provider: str
    epoch: int
    until_s: float


def parse_opening(value: bytes) -> Opening | None:
    """What a field of the hash says; None when it is not ours, or of another version."""
    if len(value) > _FIELD_BYTES_MAX:
        return None
    parts = value.decode("utf-8", "replace").split(" ", 3)
    if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal() and parts[0].isascii()):
        return None
    return Opening(int(parts[0]), int(parts[1]), parts[2], parts[3])


class BreakerSharing:
    """One process's part in it. `start` once, `close` at the end. Belongs to one event loop.

    `url`: one server, sentinels or a cluster, without a password. Raises ValueError for another one.
    """

    def __init__(self, url: str, *, password: str, pool: TargetPool, clock: Clock) -> None:
        setting = "executor.share_redis_url"
        self._places = find_places(url, setting=setting, password=password, clock=clock, tag=KEY)
        self._redis = open_redis(
            url,
            setting=setting,
            password=password,
            timeout_s=EXCHANGE_S_MAX,
            connections_max=2,
            places=self._places,
        )
        self._replica = secrets.token_hex(_REPLICA_BYTES)
        self._pool = pool
        self._clock = clock
        self._unsent: dict[str, _Unsent] = {}  # the newest opening of each target
        self._taken: dict[str, tuple[str, int]] = {}  # the opening of each target that was taken over last
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_gone = False
        self._closing = asyncio.Event()
        self._log = get_logger(__name__)
        pool.subscribe(self._note)

    def follow(self, pool: TargetPool) -> None:
        """Tells this pool from now on, which shares its subscribers with the one before."""
        self._pool = pool

    async def start(self) -> None:
        """Begins to share. Does not wait for Redis."""
        self._task = asyncio.create_task(self._run(), name="breaker-sharing")

    async def close(self) -> None:
        """Ends it, and the connections."""
        self._closing.set()  # redis-py may swallow a cancellation that meets its own timeout
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(*_GONE):
            await self._redis.aclose()
        if self._places is not None:
            await self._places.close()

    def _note(self, change: TargetChange) -> None:
        """Our own openings are news; those of peers were theirs."""
        transition = change.transition
        if transition.state is BreakerState.OPEN and not transition.by_peer:
            until_s = self._clock.monotonic() + transition.open_for_s
            self._unsent[change.target.name] = _Unsent(change.target.provider, transition.epoch, until_s)
            self._news.set()

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(EXCHANGE_S_MAX):
                    await self._send()
                    await self._read()
            except _GONE as error:
                self._say_gone(error)
            else:
                self._is_gone = False
            if self._closing.is_set():
                return
            if self._is_gone:
                await self._clock.sleep(PAUSE_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()

    async def _send(self) -> None:
        self._news.clear()
        for target, news in tuple(self._unsent.items()):
            remaining_ms = int((news.until_s - self._clock.monotonic()) * 1_000)
            if remaining_ms > 0:
                rest = f"{news.epoch} {self._replica} {news.provider}"
                publishing: Any = self._redis.eval(_PUBLISH, 1, KEY, target, str(remaining_ms), rest)
                await publishing
            if self._unsent.get(target) is news:
                del self._unsent[target]

    async def _read(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(KEY)
            (seconds, microseconds), fields = await pipe.execute()
        now_ms = seconds * 1_000 + microseconds // 1_000
        for raw_target, value in fields.items():
            opening = parse_opening(value)
            if opening is not None:
                self._take_over(raw_target.decode("utf-8", "replace"), opening, opening.until_ms - now_ms)

    def _take_over(self, target: str, opening: Opening, remaining_ms: int) -> None:
        name = (opening.replica, opening.epoch)
        is_known = opening.replica == self._replica or self._taken.get(target) == name
        if is_known or remaining_ms <= 0 or target not in self._pool:
            return
        self._taken[target] = name
        self._pool.opened_by_peer(target, opening.provider, remaining_ms / 1_000, self._clock.monotonic())
        self._log.info("breaker_opened_by_peer", target=target, open_for_s=remaining_ms / 1_000)

    def _say_gone(self, error: Exception) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._log.warning("breaker_sharing_interrupted", error=type(error).__name__)
