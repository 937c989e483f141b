"""Where the benchmark's cache keeps its entries: a file, or a Redis of its own with an append-only file.

Both are filled past the service, which would take its time for a million entries.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from redis import Redis

from bench.cache_workload import SCOPE, Vectors, stored_entries
from services.cache.partition import tenant_bucket
from services.cache.store import redis_layout as layout
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_codec import pack_entry
from services.cache.store.eviction import gain_of
from services.cache.store.redis_limits import ENTRY_OVERHEAD_BYTES
from services.cache.store.redis_names import Names, member
from services.runtime.clock import SystemClock
from tests.support.redis_server import RedisServer

__all__ = ["ENTRIES_MAX", "FileSite", "RedisSite"]

ENTRIES_MAX: Final = 2_000_000
BATCH: Final = 10_000
PIPELINED: Final = 500

TIMEOUT_S: Final = 1.0
"""What takes long is to be seen, and not to be a miss."""


class FileSite:
    """`store: file`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "cache.sqlite"
        self.settings: dict[str, Any] = {
            "store": "file",
            "file": str(self._path),
            "entries_max": ENTRIES_MAX,
            "tenant_entries_max": ENTRIES_MAX,
            "bytes_max": 2**40,
        }

    async def fill(self, vectors: Vectors) -> float:
        """How long it took, in seconds."""
        began = time.perf_counter()
        clock = SystemClock()
        store = await FileStore.open(self._path, entries_max=ENTRIES_MAX, bytes_max=2**40, clock=clock)
        await store.close()
        now = clock.unix()
        with contextlib.closing(sqlite3.connect(self._path)) as file:
            file.execute("PRAGMA synchronous=OFF")
            for begin in range(0, len(vectors), BATCH):
                rows = [
                    (entry.key, entry.expires_at_unix_s, pack_entry(entry))
                    for entry in stored_entries(vectors, begin=begin, end=begin + BATCH, now_unix_s=now)
                ]
                with file:
                    file.executemany("INSERT INTO entries (key, expires_at, packed) VALUES (?, ?, ?)", rows)
        return time.perf_counter() - began

    def bytes_per_entry(self, entries: int) -> int:
        """On the disk."""
        return round(self._path.stat().st_size / entries)

    def cpu_s(self) -> float:
        """Of processes that serve beside the cache's own: none."""
        return 0.0

    def close(self) -> None:
        """Nothing is left running."""


class RedisSite:
    """`store: redis`, on this machine; `snapshots` names where replicas keep their index, empty for nowhere."""

    def __init__(self, folder: Path, *, snapshots: bool) -> None:
        self._server = RedisServer(
            folder, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"
        )
        self._server.start()
        self.settings: dict[str, Any] = {
            "store": "redis",
            "redis_url": self._server.url,
            "redis_timeout_s": TIMEOUT_S,
            "entries_max": ENTRIES_MAX,
            "tenant_entries_max": ENTRIES_MAX,
            "bytes_max": 2**40,
            "snapshot_dir": str(folder / "snapshots") if snapshots else "",
        }

    async def fill(self, vectors: Vectors) -> float:
        """As puts would have left it, but for the records on the change stream."""
        began = time.perf_counter()
        names, now, era = Names(1), SystemClock().unix(), secrets.token_hex(8)
        room = names.entries(0).removesuffix("entries") + "room:"
        with contextlib.closing(Redis.from_url(self._server.url)) as client:
            client.hset(names.history(tenant_bucket(SCOPE.tenant)), "era", era)
            for begin in range(0, len(vectors), PIPELINED):
                pipe = client.pipeline(transaction=False)
                for entry in stored_entries(vectors, begin=begin, end=begin + PIPELINED, now_unix_s=now):
                    name = names.entry(entry.key)
                    fields = layout.fields_of_entry(entry)
                    pipe.hset(name, mapping={layout.STAMP: f"{era} 0", **fields})
                    expires_ms = int(entry.expires_at_unix_s * 1000)
                    pipe.pexpireat(name, expires_ms)
                    listed = member(SCOPE.tenant, entry.key)
                    pipe.zadd(names.entries(0), {listed: expires_ms})
                    content_bytes = sum(len(value) for value in fields.values() if isinstance(value, str | bytes))
                    size, tenant = content_bytes + ENTRY_OVERHEAD_BYTES, listed.partition(":")[0]
                    gain = gain_of(entry.answer.cost_nanousd, size)
                    pipe.hset(f"{room}sizes", entry.key, f"{size} {gain!r} {tenant}")
                    pipe.zadd(f"{room}worth:{tenant}", {entry.key: gain})
                    pipe.zincrby(f"{room}counts", 1, tenant)
                    pipe.zincrby(f"{room}bytes", size, tenant)
                    pipe.zincrby(f"{room}totals", size, "bytes")
                pipe.execute()
        return time.perf_counter() - began

    def bytes_per_entry(self, entries: int) -> int:
        """In Redis's memory."""
        with self._server.client() as client:
            return round(float(client.info("memory")["used_memory"]) / entries)

    def cpu_s(self) -> float:
        """Of the Redis."""
        with self._server.client() as client:
            used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def close(self) -> None:
        """Stops the Redis."""
        self._server.stop()
