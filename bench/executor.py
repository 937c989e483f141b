"""What the executor adds to a call of a provider: Execute and StreamExecute over gRPC, against bare httpx clients.

    python -m bench.executor [--rounds 7] [--requests 300] [--json FILE]

One run, interleaved: in every round each way makes the same number of calls of the same stub provider, which is a
process of its own, in an order that moves on from round to round. Reported are medians over the rounds of p50 and p99
(for streams also of the time to the first text) and of CPU time per request, read from the processes that spend it:
for a bare client this one, for the executor its own process, with the gRPC client's share beside it. CPU time does not
count waiting for a busy machine, but caches are shared, so the load is reported too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import httpx
import uvloop
import yaml
from httpx_aiohttp import AiohttpTransport

from bench.processes import cpu_s
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Plan, PlannedTier, Strategy
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.wire import chat_request_to_proto, plan_to_proto
from tests.support.processes import Process

CONCURRENCY: Final = (1, 16, 64)
PROMPT: Final = "Name three rivers of Europe and say through which countries they flow. " * 4
CALL_TIMEOUT_S: Final = 60.0

# One call: the seconds to the first text, and to the end.
Call = Callable[[], Awaitable[tuple[float, float]]]


@dataclass(slots=True)
class Figures:
    """Of one way of asking at one concurrency, a list entry for each round; times in milliseconds."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    first_p50: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    executor_cpu: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """The median of each."""
        return {name: statistics.median(getattr(self, name)) for name in self.__slots__}


def configuration(folder: Path, url: str) -> Path:
    """A configuration with one tier and one target, without telemetry."""
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
    target = {"name": "m", "provider": "stub", "model": "m", "price": price, "concurrency_max": 1_000}
    path = folder / "spillway.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "providers": {"stub": {"base_url": url}},
                "tiers": [{"name": "only", "targets": [target]}],
                "log": {"level": "warning"},
            }
        ),
        encoding="utf-8",
    )
    return path


def execute(stub: Any) -> dict[str, Call]:
    """Through the executor."""
    chat = ChatRequest((Message.of(Role.USER, PROMPT),))
    plan = Plan((PlannedTier("only", ("m",)),), Strategy.DIRECT)
    request = executor_pb2.ExecuteRequest(chat=chat_request_to_proto(chat), plan=plan_to_proto(plan))
    stream_request = executor_pb2.StreamExecuteRequest(request=request)

    async def unary() -> tuple[float, float]:
        began = time.perf_counter()
        await stub.Execute(request, timeout=CALL_TIMEOUT_S)
        took = time.perf_counter() - began
        return took, took

    async def stream() -> tuple[float, float]:
        began = time.perf_counter()
        first = 0.0
        async for _ in stub.StreamExecute(stream_request, timeout=CALL_TIMEOUT_S):
            first = first or time.perf_counter() - began
        return first, time.perf_counter() - began

    return {"unary": unary, "stream": stream}


def bare(client: httpx.AsyncClient, url: str) -> dict[str, Call]:
    """Straight to the provider, as a caller without Spillway would: send, read, parse."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}

    async def unary() -> tuple[float, float]:
        began = time.perf_counter()
        response = await client.post(f"{url}/chat/completions", json=body)
        assert response.json()["choices"][0]["message"]["content"]
        took = time.perf_counter() - began
        return took, took

    async def stream() -> tuple[float, float]:
        began = time.perf_counter()
        first = 0.0
        async with client.stream("POST", f"{url}/chat/completions", json={**body, "stream": True}) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    assert json.loads(line[6:])
                    first = first or time.perf_counter() - began
        return first, time.perf_counter() - began

    return {"unary": unary, "stream": stream}


async def measure(call: Call, requests: int, concurrency: int, executor: Process | None, into: Figures) -> None:
    """Makes `requests` calls, so many at once, and notes their figures."""
    taken: list[tuple[float, float]] = []
    left = requests

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            taken.append(await call())

    executor_before = cpu_s(executor.pid) if executor else 0.0
    client_before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    into.client_cpu.append((time.process_time() - client_before) * 1e3 / requests)
    into.executor_cpu.append(((cpu_s(executor.pid) if executor else 0.0) - executor_before) * 1e3 / requests)
    whole = statistics.quantiles((end for _, end in taken), n=100)
    into.p50.append(whole[49] * 1e3)
    into.p99.append(whole[98] * 1e3)
    into.first_p50.append(statistics.median(first for first, _ in taken) * 1e3)


async def run(arguments: argparse.Namespace, executor: Process, url: str) -> list[dict[str, Any]]:
    """All figures: one entry for each kind of call, concurrency and way."""
    limits = httpx.Limits(max_connections=max(CONCURRENCY), max_keepalive_connections=max(CONCURRENCY))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=max(CONCURRENCY)))
    rows: list[dict[str, Any]] = []
    async with (
        grpc.aio.insecure_channel(executor.ready()["listen"]) as channel,
        httpx.AsyncClient(limits=limits, timeout=CALL_TIMEOUT_S, trust_env=False) as default,
        httpx.AsyncClient(
            transport=AiohttpTransport(verify=False, client=session), timeout=CALL_TIMEOUT_S, trust_env=False
        ) as over_aiohttp,
    ):
        ways = {
            "httpx": bare(default, url),
            "httpx over aiohttp": bare(over_aiohttp, url),
            "executor": execute(executor_pb2_grpc.ExecutorServiceStub(channel)),
        }
        for kind in ("unary", "stream"):
            for concurrency in CONCURRENCY:
                figures = {way: Figures() for way in ways}
                for number in range(-1, arguments.rounds):
                    order = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
                    for way in order:
                        # The round before the first warms up connections and caches.
                        into = figures[way] if number >= 0 else Figures()
                        watched = executor if way == "executor" else None
                        await measure(ways[way][kind], arguments.requests, concurrency, watched, into)
                rows += [
                    {"kind": kind, "concurrency": concurrency, "way": way, **figures[way].medians()} for way in ways
                ]
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A table in Markdown, and what the executor adds."""
    print("| calls | at once | way | p50 ms | p99 ms | first text p50 ms | client CPU ms | executor CPU ms |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        columns = ("p50", "p99", "first_p50", "client_cpu", "executor_cpu")
        print(
            f"| {row['kind']} | {row['concurrency']} | {row['way']} | "
            + " | ".join(f"{row[column]:.2f}" for column in columns)
            + " |"
        )
    print()
    found = {(row["kind"], row["concurrency"], row["way"]): row for row in rows}
    for kind in ("unary", "stream"):
        for concurrency in CONCURRENCY:
            ours, httpx_way, lean = (
                found[kind, concurrency, way] for way in ("executor", "httpx", "httpx over aiohttp")
            )
            cpu = [ours["executor_cpu"] - theirs["client_cpu"] for theirs in (httpx_way, lean)]
            first = [ours["first_p50"] - theirs["first_p50"] for theirs in (httpx_way, lean)]
            print(
                f"{kind}, {concurrency} at once: the executor adds {cpu[0]:+.2f} ms CPU to httpx, {cpu[1]:+.2f} ms to "
                f"httpx over aiohttp; to the time of the first text {first[0]:+.2f} ms and {first[1]:+.2f} ms"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Overhead of the executor over bare clients.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=300, help="per way, round and concurrency")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        provider = Process("bench.stub_provider", [], {}, folder / "provider.log")
        try:
            url = provider.ready()["url"]
            config = ["--config", str(configuration(folder, url))]
            executor = Process("services.executor", [*config, "--listen", "127.0.0.1:0"], {}, folder / "executor.log")
            try:
                rows = uvloop.run(run(arguments, executor, url))
            finally:
                executor.stop()
        finally:
            provider.stop()
    show(rows)
    print(f"\nload average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} CPUs")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
