"""What a put into Redis says of the entry, and which keys it names."""

from __future__ import annotations

import dataclasses
from typing import Any

from services.cache.entry import Entry, Scope
from services.cache.store.redis_limits import Limits, RedisLimits
from services.cache.store.redis_names import Names, member
from services.cache.store.redis_puts import RedisPuts
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry

NAMES = Names(16)


class _Recorder:
    """Takes every script, and says that it put."""

    def __init__(self) -> None:
        self.keys: tuple[str, ...] = ()
        self.arguments: tuple[Any, ...] = ()

    async def eval(self, script: str, count: int, *given: Any) -> tuple[bytes, int, int, bytes]:
        self.keys, self.arguments = given[:count], given[count:]
        return b"put", 0, 1, b"1"


async def put(each: Entry) -> _Recorder:
    clock, redis = FakeClock(), _Recorder()
    limits = RedisLimits(Limits(), shards=NAMES.shards, clock=clock)
    taken: Any = redis
    assert await RedisPuts(NAMES, limits=limits, clock=clock, cipher=None).put(taken, each, since=None)
    return redis


def size_of(redis: _Recorder) -> int:
    return int(redis.arguments[6].split(" ")[3])


async def test_an_entry_takes_the_bytes_of_its_texts_and_not_their_characters() -> None:
    plain = entry("q", now_unix_s=0.0, scope=Scope("acme", "n" * 100))
    wide = dataclasses.replace(plain, scope=Scope("acme", "\N{GRINNING FACE}" * 100))
    assert size_of(await put(wide)) - size_of(await put(plain)) == 300


async def test_a_put_names_the_account_so_that_a_slot_on_its_way_refuses_it_as_a_whole() -> None:
    each = entry("q", now_unix_s=0.0, scope=Scope("acme"))
    room = NAMES.entries(NAMES.shard_of(each.key)).removesuffix("entries") + "room:"
    tenant = member("acme", each.key).partition(":")[0]
    parts = ("sizes", "clocks", "counts", "bytes", "totals", f"worth:{tenant}")
    assert {room + part for part in parts} <= set((await put(each)).keys)
