"""How soon a write of one replica is found by meaning on another, and how long a new replica takes to be warm.

    python -m bench.cache_replicas [--writes-per-s 500] [--seconds 10] [--entries 50000] [--rejoin 1000000]

A redis-server of its own on a loopback port; two followers in this one process, so writer and reader share its CPU. A
write counts as visible when the other replica's index has it; its age is counted from before the put. A rejoin is the
start of a replica with a snapshot of so many entries, drawn, of 100 tenants, and `REJOIN_CHANGES` changes since: Redis
holds these alone, as nothing else is read from it then.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import numpy as np

from services.cache.entry import Entry, Scope
from services.cache.index.follower import Follower, Snapshots
from services.cache.index.index_snapshot import save_snapshot
from services.cache.index.vector_index import VectorIndex, unit_vector
from services.cache.store.answer_store import CaughtUp, Indexed, IndexedMany, Reached
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_limits import Limits
from services.runtime.clock import SystemClock
from tests.support.cache_parts import MODEL, entry
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

DIMENSIONS = 384
ROOMY = Limits(10_000_000, 10_000_000, 1 << 40)

SEED = 1
REJOIN_CHANGES = 15_000
"""What 500 writes a second are in half a minute."""


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


def _store(server: RedisServer) -> RedisStore:
    return RedisStore(server.url, timeout_s=5.0, clock=SystemClock(), limits=ROOMY)


async def visibility(server: RedisServer, writes_per_s: int, seconds: float) -> list[float]:
    """Seconds from before each put to when the other replica was told of it."""
    writer, reader = (_store(server) for _ in range(2))
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
    writer = _store(server)
    made = entries(count, "warm")
    await _put_all(writer, made)
    began_s, told = time.perf_counter(), 0
    async with aclosing(writer.changes()) as changes:
        async for change in changes:
            told += len(change.keys) if isinstance(change, IndexedMany) else isinstance(change, Indexed)
            if isinstance(change, CaughtUp):
                break
    took_s = time.perf_counter() - began_s
    assert told >= count
    await writer.close()
    return took_s


async def _put_all(store: RedisStore, made: list[Entry]) -> None:
    for start in range(0, len(made), 50):
        await asyncio.gather(*(store.put(each) for each in made[start : start + 50]))


async def rejoin(server: RedisServer, count: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, until a replica with a snapshot of `count` entries knows all that happened since."""
    clock, store = SystemClock(), _store(server)
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as threads:
        snapshots = Snapshots(Path(directory), threads)
        before = VectorIndex(entries_max=2 * count)
        chance, expires_at = np.random.default_rng(SEED), clock.unix() + 86_400.0
        for number in range(count):
            vector = unit_vector(chance.standard_normal(DIMENSIONS, np.float32).tobytes())
            before.add(
                f"{number:064x}", partition=f"p{number % 100}", model=MODEL, vector=vector, expires_at_unix_s=expires_at
            )
        async with aclosing(store.changes()) as changes:
            async for change in changes:
                if isinstance(change, Reached):
                    position = change.position
                    break
        await save_snapshot(before, snapshots.directory, position=position, executor=threads)
        del before
        await _put_all(store, entries(REJOIN_CHANGES, "since"))
        index = VectorIndex(entries_max=2 * count, executor=threads)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        follower = Follower(store, index, clock=clock, snapshots=snapshots)
        await follower.start()

        async def knows_all() -> bool:
            return len(index) == count + REJOIN_CHANGES

        await until(knows_all, what="the replica is warm", within_s=120.0)
        took_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        await store.close()
        await follower.close()
    return took_s


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes-per-s", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--rejoin", type=int, default=0, help="entries of a snapshot that a replica starts with")
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
            if options.rejoin:
                wall_s, cpu_s = await rejoin(server, options.rejoin)
                print(
                    f"rejoined after {wall_s:.2f} s ({cpu_s:.2f} s of CPU) with a snapshot of {options.rejoin} entries"
                    f" and {REJOIN_CHANGES} changes since; load average {os.getloadavg()[0]:.1f}"
                )
        finally:
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
