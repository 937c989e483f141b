"""What a request costs each process of the suite: CPU milliseconds and memory, by what becomes of the request.

    python -m bench.suite_cost [--requests 1500] [--concurrency 16] [--rounds 3] [--latency-s 0]

The suite runs as processes on this machine, with a real Redis and the sandbox for a provider, which are measured too.
CPU is what the kernel has booked to a process (/proc/PID/stat), so other work on the machine disturbs it less than it
would a latency; memory is resident, before and after, and at its highest. The figures of docs/scale.md are from here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from redis import asyncio as asyncio_redis

from spillway.client import AsyncClient
from tests.support.redis_server import RedisServer
from tests.support.suite import Suite

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
WORDS = ["river", "castle", "mountain", "bridge", "market", "harbour", "forest", "island", "valley", "garden", "temple"]
ANSWER = "It was described in 1820 by a surveyor of the crown."


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: CPU seconds since its start, resident memory now and at its highest, in MiB."""

    cpu_s: float
    resident_mib: float
    highest_mib: float


def usage(pid: int) -> Usage:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+)", status, re.MULTILINE)}
    return Usage((int(fields[11]) + int(fields[12])) * TICK_S, kib["VmRSS"] / 1024, kib["VmHWM"] / 1024)


def prompt(number: int) -> str:
    """About twenty tokens; no two alike, and no two that mean the same."""
    place, other = WORDS[number % len(WORDS)], WORDS[number // len(WORDS) % len(WORDS)]
    return f"Which {place} near the {other} of region {number} was described first, and by whom was it surveyed?"


async def ask(client: AsyncClient, prompts: Iterable[str], concurrency: int) -> float:
    """Sends them all, so many at a time; the seconds that it took."""
    waiting = list(reversed(list(prompts)))

    async def worker() -> None:
        while waiting:
            await client.complete(waiting.pop(), timeout_s=120)

    begun_s = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.monotonic() - begun_s


async def measure(suite: Suite, redis: RedisServer, arguments: argparse.Namespace) -> None:
    pids = {name: process.pid for name, process in suite.processes.items()}
    async with asyncio_redis.from_url(redis.url) as connection:
        pids["redis"] = int((await connection.info("server"))["process_id"])
    number = 0

    def fresh() -> list[str]:
        nonlocal number
        number += arguments.requests
        return [prompt(n) for n in range(number - arguments.requests, number)]

    same = [prompt(1)] * arguments.requests
    kinds: dict[str, Callable[[], list[str]]] = {"answered by a model": fresh, "found exactly": lambda: same}
    async with AsyncClient(suite.target) as client:
        await ask(client, fresh()[:200], arguments.concurrency)  # connections, caches, code paths
        for kind, make in kinds.items():
            spent: dict[str, list[float]] = {name: [] for name in pids}
            rates: list[float] = []
            first = {name: usage(pid) for name, pid in pids.items()}
            for _ in range(arguments.rounds):
                prompts = make()
                before = {name: usage(pid) for name, pid in pids.items()}
                took_s = await ask(client, prompts, arguments.concurrency)
                await asyncio.sleep(1.0)  # what follows an answer is part of its cost
                rates.append(len(prompts) / took_s)
                for name, pid in pids.items():
                    spent[name].append((usage(pid).cpu_s - before[name].cpu_s) * 1000 / len(prompts))
            print(f"\n{kind}: {arguments.rounds} rounds of {arguments.requests}, {arguments.concurrency} at a time;")
            print(f"{statistics.median(rates):.0f} requests a second on {os.cpu_count()} cores that everything shares")
            print("| process | CPU ms a request, median (range) | MiB before | MiB after | MiB at its highest |")
            print("| --- | --- | --- | --- | --- |")
            for name, pid in pids.items():
                now, costs = usage(pid), spent[name]
                print(
                    f"| {name} | {statistics.median(costs):.2f} ({min(costs):.2f}–{max(costs):.2f}) "
                    f"| {first[name].resident_mib:.0f} | {now.resident_mib:.0f} | {now.highest_mib:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.suite_cost", description=__doc__)
    parser.add_argument("--requests", type=int, default=1500, help="of each kind, in a round (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="callers at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--latency-s", type=float, default=0.0, help="of the model (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            config = {
                "cache": {"store": "redis", "redis_url": redis.url},
                "orchestrator": {"redis_url": redis.url},
                "executor": {"share_redis_url": redis.url},
            }
            with Suite(Path(folder), config=config, ledger=True) as suite:
                step = {"text": ANSWER, "confidence": 5, "latency_s": arguments.latency_s}
                suite.script({"*": [step]})
                asyncio.run(measure(suite, redis, arguments))
        finally:
            redis.stop()


if __name__ == "__main__":
    main()
