"""What naming a request id costs: `python -m bench.idempotency` (needs redis-server).

A request's own work is left out: `answer` returns at once. Prints, for each form, the mean over batches and its 95 %
interval (Student's t over batch means), of the time that one request takes alone, and of CPU in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import tempfile
import time
from pathlib import Path

from services.orchestrator.replays.idempotency import Replays, request_digest
from services.orchestrator.replays.replay_store import MemoryReplayStore
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.runtime.clock import SystemClock
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Completion, CompletionRequest
from spillway.wire import completion_to_proto
from tests.support.jobs_parts import completion, redis_client
from tests.support.redis_server import RedisServer

T_95 = {5: 2.571, 10: 2.228, 20: 2.086}


def interval(values: list[float]) -> str:
    t = next((t for n, t in sorted(T_95.items()) if n >= len(values) - 1), 1.96)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):7.1f} ± {half:5.1f} µs"


async def measure(name: str, replays: Replays, requests: list[CompletionRequest], batches: int) -> None:
    answered = completion("The capital of France is Paris. " * 20)

    async def answer() -> Completion:
        return answered

    wall, cpu, again = [], [], []
    size = len(requests) // batches
    for batch in range(batches):
        part = requests[batch * size : (batch + 1) * size]
        start, start_cpu = time.perf_counter(), time.process_time()
        for one in part:
            await replays.run(one.tenant, one.request_id, request_digest(one), answer)
        wall.append((time.perf_counter() - start) / size * 1e6)
        cpu.append((time.process_time() - start_cpu) / size * 1e6)
        start = time.perf_counter()
        for one in part:
            await replays.run(one.tenant, one.request_id, request_digest(one), answer)
        again.append((time.perf_counter() - start) / size * 1e6)
    print(f"{name:8} new {interval(wall)}   CPU {interval(cpu)}   replayed {interval(again)}")


async def main(count: int, batches: int) -> None:
    text = "Summarise the following report in three sentences. " * 20
    requests = [
        CompletionRequest(ChatRequest((Message.of(Role.USER, text),)), request_id=f"r{i}", tenant="acme")
        for i in range(count)
    ]
    start = time.perf_counter()
    for one in requests:
        request_digest(one)
    print(f"the digest alone, of 1 KB: {(time.perf_counter() - start) / count * 1e6:.1f} µs; n = {count}")
    print(f"a kept answer: {len(completion_to_proto(completion('x' * 640)).SerializeToString())} bytes and up")
    clock = SystemClock()
    await measure("memory", Replays(MemoryReplayStore(clock), window_s=600, clock=clock), requests, batches)
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        client = redis_client(server.url)
        store = RedisReplayStore(client, timeout_s=1.0, clock=clock)
        try:
            await measure("redis", Replays(store, window_s=600, clock=clock), requests, batches)
            with server.client() as look:
                used = look.info("memory")["used_memory"]
                keys = look.dbsize()
            print(f"Redis: {used / keys / 1_024:.1f} KiB a request id, with {keys} of them")
        finally:
            await client.aclose()
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--batches", type=int, default=10)
    options = parser.parse_args()
    asyncio.run(main(options.count, options.batches))
