"""`spillway cache` as its user runs it, against the cache service."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cache.__main__ import build
from services.runtime.channel import open_channel
from services.runtime.config import load
from services.runtime.server import start
from spillway.v1 import cache_pb2 as pb
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.integration.cache.served import ACME, OFF, ON, ON_TOO, config_file, lookup_request, store_request

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

COMMAND = [sys.executable, "-m", "spillway.cli", "cache"]


@asynccontextmanager
async def serving(directory: Path, cache: dict[str, Any]) -> AsyncIterator[tuple[str, CacheServiceAsyncStub]]:
    loaded = load(config_file(directory, cache))
    running = await start(await build(loaded), loaded, "127.0.0.1:0")
    name = "spillway.v1.CacheService"
    async with open_channel(running.address, service_name=name, message_bytes_max=8_388_608) as channel:
        yield running.address, CacheServiceStub(channel)
    await running.stop()


async def run(*arguments: str, code: int = 0) -> str:
    """What it says, on either stream; with nobody at a terminal."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, out.decode()
    return out.decode()


async def answered(reply: str, *arguments: str) -> tuple[int, str]:
    """The exit code and what is on the terminal, of which somebody answers the question."""
    parent, child = pty.openpty()
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    try:
        async with asyncio.timeout(60):
            while b"Remove?" not in shown:
                shown += await asyncio.to_thread(os.read, parent, 4_096)
            os.write(parent, reply.encode())
            code = await process.wait()
        shown += await asyncio.to_thread(os.read, parent, 4_096)
        return code, shown.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(parent)


async def test_the_counts_are_those_of_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path, {"store": "memory"}) as (address, stub):
        await stub.Store(store_request(ON))
        for text in (ON, ON_TOO, OFF):
            await stub.Lookup(lookup_request(text))
        await stub.Store(store_request(OFF))
        (one,) = json.loads(await run("stats", "--json", "--target", address))["caches"]
    assert (one["lookups"], one["exact_hits"], one["semantic_hits"], one["stored"]) == (3, 1, 1, 2)
    assert (one["indexed_entries"], one["partitions"], one["error"]) == (2, 1, "")
    (other,) = one["classes"]
    assert (other["name"], other["lookups"], other["hits"], other["threshold"]) == ("other/acme", 2, 1, None)
    assert other["outcomes"] == 1


async def test_what_was_said_is_removed_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path, {"store": "memory"}) as (address, stub):
        kept = await stub.Store(store_request(ON, tags=["blue"]))
        await stub.Store(store_request(OFF, tags=["red"]))
        said = ("invalidate", "--target", address, "--tenant", "acme", "--tag", "red")
        assert await run(*said, "--dry-run") == "1 entry would be removed\n"
        assert await run(*said) == "1 entry removed\n"
        assert await run("invalidate", "--target", address, "--tenant", "other", "--yes") == "0 entries removed\n"
        assert (await stub.Lookup(lookup_request(ON))).outcome.entry_key == kept.entry_key
        assert (await stub.Invalidate(pb.InvalidateRequest(tenant=ACME.tenant, dry_run=True))).entries == 1
        assert await run("invalidate", "--target", address, "--entry", kept.entry_key) == "1 entry removed\n"


async def test_all_of_a_tenant_goes_only_when_somebody_says_yes(tmp_path: Path) -> None:
    async with serving(tmp_path, {"store": "memory"}) as (address, stub):
        for text in (ON, OFF):
            await stub.Store(store_request(text))
        said = ("invalidate", "--target", address, "--tenant", "acme")
        assert "--yes" in await run(*said, code=2)
        code, shown = await answered("n\n", *said)
        assert (code, "2 entries of tenant 'acme'" in shown) == (1, True)
        assert (await stub.Invalidate(pb.InvalidateRequest(tenant=ACME.tenant, dry_run=True))).entries == 2
        code, shown = await answered("y\n", *said)
        assert (code, "2 entries removed" in shown) == (0, True)
        assert (await stub.Invalidate(pb.InvalidateRequest(tenant=ACME.tenant, dry_run=True))).entries == 0


async def test_a_cache_whose_store_is_away_says_so_and_fails(tmp_path: Path) -> None:
    cache = {"store": "redis", "redis_url": "redis://127.0.0.1:1/0", "redis_timeout_s": 1}
    async with serving(tmp_path, cache) as (address, _):
        text = await run("invalidate", "--target", address, "--tenant", "acme", "--tag", "red", code=1)
    assert text == f"{address}: the cache's store does not answer; invalidate again\n"
