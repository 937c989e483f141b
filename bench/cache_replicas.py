"""How soon a write of one replica is found by meaning on another, and how long a new replica takes to be warm.

    python -m bench.cache_replicas [--writes-per-s 500] [--seconds 10] [--entries 50000]

A redis-server of its own on a loopback port; two followers in this one process, so writer and reader share its CPU. A
write counts as visible when the other replica's index has it; its age is counted from before the put.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import numpy as np

from services.cache.entry import Entry, Scope
from services.cache.store.answer_store import CaughtUp, Indexed
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

DIMENSIONS = 384
SEED = 1


def entries(count: int, name: str) -> list[Entry]:
    """Entries with vectors of a real size."""
    chance, now = np.random.default_rng(SEED), SystemClock().unix()
    made = []
    for number in range(count):
        plain = entry(f"{name} {number}", scope=Scope(f"tenant {number % 100}"), now_unix_s=now, text="x" * 500)
        vector = chance.standard_normal(DIMENSIONS).astype("<f4").tobytes()
        made.append(
            Entry(
                key=plain.key,
                scope=plain.scope,
                answer=plain.answer,
                stored_at_unix_s=plain.stored_at_unix_s,
                expires_at_unix_s=plain.expires_at_unix_s,
                partition=plain.partition,
                vector=vector,
                embedding_model=plain.embedding_model,
                question=plain.question,
            )
        )
    return made


async def visibility(server: RedisServer, writes_per_s: int, seconds: float) -> list[float]:
    """Seconds from before each put to when the other replica was told of it."""
    writer, reader = (RedisStore(server.url, timeout_s=5.0, clock=SystemClock()) for _ in range(2))
    began_s: dict[str, float] = {}
    ages_s: list[float] = []
    ready = asyncio.Event()
    made = entries(int(writes_per_s * seconds), "visible")

    async def read() -> None:
        async with aclosing(reader.changes()) as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    ready.set()
                elif isinstance(change, Indexed) and change.key in began_s:
                    ages_s.append(time.perf_counter() - began_s[change.key])
                    if len(ages_s) == len(made):
                        return

    reading = asyncio.create_task(read())
    await ready.wait()
    start_s = time.perf_counter()
    puts = []

    async def put(each: Entry) -> None:
        began_s[each.key] = time.perf_counter()
        await writer.put(each)

    for number, each in enumerate(made):
        await asyncio.sleep(max(0.0, start_s + number / writes_per_s - time.perf_counter()))
        puts.append(asyncio.create_task(put(each)))
    await asyncio.gather(*puts)
    await reading
    await writer.close()
    await reader.close()
    return ages_s


async def warm_up(server: RedisServer, count: int) -> float:
    """Seconds until a follower without a snapshot has been told of `count` entries."""
    writer = RedisStore(server.url, timeout_s=5.0, clock=SystemClock())
    made = entries(count, "warm")
    for start in range(0, count, 100):
        await asyncio.gather(*(writer.put(each) for each in made[start : start + 100]))
    began_s, told = time.perf_counter(), 0
    async with aclosing(writer.changes()) as changes:
        async for change in changes:
            told += isinstance(change, Indexed)
            if isinstance(change, CaughtUp):
                break
    took_s = time.perf_counter() - began_s
    assert told >= count
    await writer.close()
    return took_s


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes-per-s", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--entries", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory), "--appendonly", "yes")
        server.start()
        try:
            ages_ms = 1_000 * np.array(await visibility(server, options.writes_per_s, options.seconds))
            print(f"load average {os.getloadavg()[0]:.1f}; n = {len(ages_ms)} writes at {options.writes_per_s}/s")
            for share in (50, 99, 100):
                print(f"visible elsewhere, p{share}: {np.percentile(ages_ms, share):.1f} ms")
            took_s = await warm_up(server, options.entries)
            print(f"warm after {took_s:.2f} s without a snapshot: {options.entries / took_s:.0f} entries/s")
        finally:
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
