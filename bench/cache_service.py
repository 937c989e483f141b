"""The cache's process under the benchmark's calls, and what they take.

CPU time is that of the processes which serve, all threads: the cache's from schedstat, the Redis's from itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from bench.cache_stores import FileSite, RedisSite
from bench.cache_workload import Vectors, Warming, Workload, lookup_request, store_request
from bench.processes import cpu_s, rss_bytes
from spillway.v1 import cache_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.processes import Process
from tests.support.smallest import smallest_file

if TYPE_CHECKING:
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

__all__ = ["over_grpc", "timed"]

CONCURRENCY: Final = 16
READY_S: Final = 600.0


def start(folder: Path, cache: dict[str, Any]) -> Process:
    """The cache's process. `cache` are its settings."""
    config = smallest_file(folder, log={"level": "warning"}, cache=cache)
    return Process("services.cache", ["--config", str(config), "--listen", "127.0.0.1:0"], {}, folder / "cache.log")


async def timed(
    calls: Sequence[Callable[[], Awaitable[bool]]], cpu_s: Callable[[], float], concurrency: int = 1
) -> dict[str, float]:
    """Makes the calls, each as soon as one of `concurrency` callers is free."""
    took: list[float] = []
    answered = 0
    waiting = iter(calls)

    async def caller() -> None:
        nonlocal answered
        for call in waiting:
            began = time.perf_counter()
            right = await call()
            took.append(time.perf_counter() - began)
            answered += right

    cpu_before, began = cpu_s(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    wall, cpu = time.perf_counter() - began, cpu_s() - cpu_before
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "cpu_ms": round(cpu / len(calls) * 1e3, 3),
        "per_s": round(len(calls) / wall),
        "answered": round(answered / len(calls), 3),
        "n": len(calls),
    }


async def warm(stub: CacheServiceAsyncStub, questions: Sequence[Warming]) -> dict[str, Any]:
    """Asks as the orchestrator does: a miss is answered and stored, an audited hit is answered as well. Counts."""
    counts = {"asked": len(questions), "hits": 0, "audits": 0}
    for each in questions:
        request = lookup_request(each.text, each.vector)
        found = await stub.Lookup(request, timeout=10)
        told = store_request(each.text, each.vector, each.answer)
        if not found.HasField("answer"):
            await stub.Store(told, timeout=30)
            continue
        counts["hits"] += 1
        counts["audits"] += found.audit
        if found.audit:
            evidence = cache_pb2.RecordEvidenceRequest(
                scope=request.scope,
                chat=request.chat,
                embedding=request.embedding,
                task_type=request.task_type,
                entry_key=found.outcome.entry_key,
                fresh_answer=told.answer,
            )
            await stub.RecordEvidence(evidence, timeout=30)
    return counts


async def over_grpc(
    folder: Path, site: FileSite | RedisSite, work: Workload, *, only_start: bool = False
) -> dict[str, Any]:
    """Warm-up, memory and every kind of call, by one caller and by several at once."""
    figures: dict[str, Any] = {}
    began = time.perf_counter()
    service = start(folder, site.settings)

    def all_cpu_s() -> float:
        return cpu_s(service.pid) + site.cpu_s()

    try:
        address = service.ready(READY_S)["listen"]
        async with grpc.aio.insecure_channel(address) as channel:
            stub = CacheServiceStub(channel)
            while True:
                stats = await stub.GetStats(cache_pb2.GetStatsRequest())
                if stats.indexed_entries >= len(work.vectors):
                    break
                if time.perf_counter() - began > READY_S:
                    raise SystemExit("the service does not get warm")
                await asyncio.sleep(0.05)
            figures["warm_up_s"] = round(time.perf_counter() - began, 2)
            figures["warm_up_cpu_s"] = round(cpu_s(service.pid), 2)
            figures["rss_bytes_per_entry"] = round(rss_bytes(service.pid) / len(work.vectors))
            if only_start:
                return figures

            def looked_up(text: str, vector: Vectors) -> Callable[[], Awaitable[bool]]:
                request = lookup_request(text, vector)

                async def call() -> bool:
                    response = await stub.Lookup(request, timeout=10)
                    return bool(response.HasField("answer"))

                return call

            def stored(text: str, vector: Vectors) -> Callable[[], Awaitable[bool]]:
                request = store_request(text, vector)

                async def call() -> bool:
                    response = await stub.Store(request, timeout=30)
                    return bool(response.outcome == cache_pb2.StoreResponse.OUTCOME_STORED)

                return call

            figures["warming"] = await warm(stub, work.warming)
            for kind, asked in (
                ("exact hit", work.exact),
                ("same words", work.hit),
                ("paraphrase", work.paraphrase),
                ("miss", work.miss),
            ):
                calls = [looked_up(*each) for each in asked]
                figures[kind] = await timed(calls, all_cpu_s)
                figures[f"{kind}, again"] = await timed(calls, all_cpu_s)
                figures[f"{kind}, {CONCURRENCY} at once"] = await timed(calls, all_cpu_s, CONCURRENCY)
            calls = [stored(*each) for each in work.miss]
            figures["store"] = await timed(calls, all_cpu_s)
            figures[f"store, {CONCURRENCY} at once"] = await timed(calls, all_cpu_s, CONCURRENCY)
    finally:
        service.stop(READY_S)
    return figures
