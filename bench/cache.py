"""What a lookup and a store cost, over gRPC and in one process, by the number of entries, beside GPTCache.

    python -m bench.cache [--entries 10000 100000] [--lookups 2000] [--gptcache PYTHON] [--json FILE]

Embeddings are drawn (seeded): clusters of unit vectors in 384 dimensions, so that neighbours are near, as questions'
are; embedding itself is no part of the figures, for either side. A "hit" asks a stored question in the same words, but
not the same letters (spaces and a question mark), with a vector of similarity about 0.99; an "exact hit" asks it as it
was; a "miss" asks something with neighbours of which none says the same. How many were answered stands beside every
figure.

The service is a process of its own with `store: file`, filled beforehand: warm-up is the time from its start until it
has every entry in its index. CPU time is that of the process which serves, all its threads,
from schedstat. It does not count waiting for a busy machine, but caches are shared, so the load average is printed too.
`--gptcache` names the interpreter of an environment with GPTCache, faiss-cpu and SQLAlchemy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import grpc
import numpy as np
import numpy.typing as npt
import uvloop
import yaml

from services.cache.admission import TtlByFreshness
from services.cache.entry import Answer, Entry, Scope
from services.cache.index.index_snapshot import load_snapshot, save_snapshot
from services.cache.index.vector_index import VectorIndex
from services.cache.partition import entry_key, partition_id
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_codec import pack_entry
from services.runtime.clock import SystemClock
from spillway import wire
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import TaskType
from spillway.v1 import cache_pb2, chat_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DIMENSIONS: Final = 384
MODEL: Final = "bench/1"
SCOPE: Final = Scope("bench")
ANSWER_TEXT: Final = "An answer of some length, as they are: " + "word " * 150
CONCURRENCY: Final = 16
SEED: Final = 5
READY_S: Final = 600.0
TTL: Final = TtlByFreshness(86_400.0, 86_400.0, 86_400.0)
NAME_LETTERS_MIN: Final = 5

ENTRIES_MAX: Final = 2_000_000
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Workload:
    """Stored questions' vectors, and what is asked: (text, vector)."""

    vectors: Vectors
    exact: list[tuple[str, Vectors]]
    hit: list[tuple[str, Vectors]]
    miss: list[tuple[str, Vectors]]


def draw(entries: int, lookups: int) -> Workload:
    """The same for the same numbers."""
    rng = np.random.default_rng((SEED, entries))
    centres = rng.standard_normal((max(1, entries // 20), DIMENSIONS), dtype=np.float32)
    vectors = np.empty((entries, DIMENSIONS), np.float32)
    for begin in range(0, entries, 10_000):
        part = vectors[begin : begin + 10_000]
        part[:] = centres[rng.integers(len(centres), size=len(part))]
        part += 0.8 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    rows = rng.integers(entries, size=lookups)
    near = vectors[rows] + 0.007 * rng.standard_normal((lookups, DIMENSIONS), dtype=np.float32)
    far = centres[rng.integers(len(centres), size=lookups)] + 0.8 * rng.standard_normal(
        (lookups, DIMENSIONS), dtype=np.float32
    )
    return Workload(
        vectors,
        [(question(int(row)), vectors[row]) for row in rows],
        [(reworded(int(row)), unit(vector)) for row, vector in zip(rows, near, strict=True)],
        [(f"Who wrote the book called novel{at}", unit(vector)) for at, vector in enumerate(far)],
    )


def question(row: int) -> str:
    return f"Which river flows through the town of {name(row)}"


def name(row: int) -> str:
    """A name of its own for each row, in letters: in names with digits nothing is forgiven."""
    letters = ""
    while row or len(letters) < NAME_LETTERS_MIN:
        row, letter = divmod(row, 26)
        letters += chr(ord("a") + letter)
    return letters.capitalize()


def reworded(row: int) -> str:
    """The question in the same words: another first letter, another space, a mark."""
    text = question(row)
    return f"{text[0].lower()}{text[1:].replace(' ', '  ', 1)}?"


def unit(vector: Vectors) -> Vectors:
    made: Vectors = vector / np.linalg.norm(vector)
    return made


def chat(text: str) -> ChatRequest:
    return ChatRequest((Message.of(Role.USER, text),))


def answer() -> Answer:
    return Answer(
        Message.of(Role.ASSISTANT, ANSWER_TEXT),
        FinishReason.STOP,
        True,
        "simple",
        "m",
        "m",
        Usage(20, 150),
        50_000,
        0.9,
    )


async def fill(path: Path, vectors: Vectors) -> float:
    """Writes the file, past the store, which would keep everything in memory as well; how long that took."""
    began = time.perf_counter()
    clock = SystemClock()
    store = await FileStore.open(path, entries_max=ENTRIES_MAX, bytes_max=2**40, clock=clock)
    await store.close()
    now = clock.unix()
    partition = partition_id(SCOPE, chat(question(0)), MODEL)
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA synchronous=OFF")
        for begin in range(0, len(vectors), 10_000):
            rows = []
            for at, vector in enumerate(vectors[begin : begin + 10_000], begin):
                key, expires_at = entry_key(SCOPE, chat(question(at))), now + 86_400.0
                entry = Entry(key, SCOPE, answer(), now, expires_at, partition, vector.tobytes(), MODEL, question(at))
                rows.append((key, expires_at, pack_entry(entry)))
            with file:
                file.executemany("INSERT INTO entries (key, expires_at, packed) VALUES (?, ?, ?)", rows)
    return time.perf_counter() - began


class Service:
    """The cache's process."""

    def __init__(self, folder: Path, file: Path) -> None:
        config = folder / "spillway.yaml"
        price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
        target = {"name": "m", "provider": "p", "model": "m", "price": price}
        config.write_text(
            yaml.safe_dump(
                {
                    "version": 1,
                    "providers": {"p": {"base_url": "http://127.0.0.1:9"}},
                    "tiers": [{"name": "only", "targets": [target]}],
                    "log": {"level": "warning"},
                    "cache": {
                        "store": "file",
                        "file": str(file),
                        "entries_max": ENTRIES_MAX,
                        "tenant_entries_max": ENTRIES_MAX,
                        "bytes_max": 2**40,
                    },
                }
            ),
            encoding="utf-8",
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.cache", "--config", str(config), "--listen", "127.0.0.1:0"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address: str = json.loads(self._process.stdout.readline())["listen"]

    def cpu_s(self) -> float:
        tasks = Path(f"/proc/{self._process.pid}/task")
        return sum(int(path.read_text(encoding="ascii").split()[0]) for path in tasks.glob("*/schedstat")) / 1e9

    def rss_bytes(self) -> int:
        return rss_bytes(self._process.pid)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(READY_S)


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def lookup_request(text: str, vector: Vectors) -> cache_pb2.LookupRequest:
    return cache_pb2.LookupRequest(
        scope=cache_pb2.CacheScope(tenant=SCOPE.tenant),
        chat=wire.chat_request_to_proto(chat(text)),
        embedding=chat_pb2.Embedding(values=vector.astype("<f4").tobytes(), model=MODEL),
        task_type=wire.task_type_to_proto(TaskType.FACTUAL_QA),
    )


def store_request(text: str, vector: Vectors) -> cache_pb2.StoreRequest:
    made = answer()
    request = lookup_request(text, vector)
    return cache_pb2.StoreRequest(
        scope=request.scope,
        chat=request.chat,
        embedding=request.embedding,
        task_type=request.task_type,
        answer=cache_pb2.CachedAnswer(
            message=wire.message_to_proto(made.message),
            finish_reason=wire.finish_reason_to_proto(made.finish_reason),
            accepted=True,
            cost_nanousd=made.cost_nanousd,
        ),
    )


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


async def over_grpc(folder: Path, file: Path, work: Workload) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    began = time.perf_counter()
    service = Service(folder, file)
    try:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = CacheServiceStub(channel)
            while True:
                stats = await stub.GetStats(cache_pb2.GetStatsRequest())
                if stats.indexed_entries >= len(work.vectors):
                    break
                if time.perf_counter() - began > READY_S:
                    raise SystemExit("the service does not get warm")
                await asyncio.sleep(0.05)
            figures["warm_up_s"] = round(time.perf_counter() - began, 2)
            figures["rss_bytes_per_entry"] = round(service.rss_bytes() / len(work.vectors))

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

            await timed([looked_up(*each) for each in work.miss[:200]], service.cpu_s)
            for kind, asked in (("exact hit", work.exact), ("hit", work.hit), ("miss", work.miss)):
                calls = [looked_up(*each) for each in asked]
                figures[kind] = await timed(calls, service.cpu_s)
                figures[f"{kind}, {CONCURRENCY} at once"] = await timed(calls, service.cpu_s, CONCURRENCY)
            calls = [stored(*each) for each in work.miss]
            figures["store"] = await timed(calls, service.cpu_s)
            figures[f"store, {CONCURRENCY} at once"] = await timed(calls, service.cpu_s, CONCURRENCY)
    finally:
        service.stop()
    return figures


async def in_process(work: Workload, folder: Path) -> dict[str, Any]:
    """The index alone: additions, searches, and its snapshot."""
    index = VectorIndex(entries_max=ENTRIES_MAX)
    rss_before = rss_bytes(os.getpid())
    began, cpu = time.perf_counter(), time.process_time()
    for row, vector in enumerate(work.vectors):
        index.add(f"{row:064x}", partition="p", model=MODEL, vector=vector, expires_at_unix_s=9e9)
    added = {
        "add_us": round((time.process_time() - cpu) / len(work.vectors) * 1e6, 1),
        "add_all_s": round(time.perf_counter() - began, 2),
        "vector_bytes_per_entry": round(index.vector_bytes / len(work.vectors)),
        "rss_bytes_per_entry": round((rss_bytes(os.getpid()) - rss_before) / len(work.vectors)),
    }
    nearest = faiss.knn(
        np.stack([vector for _, vector in work.hit]), work.vectors, 1, metric=faiss.METRIC_INNER_PRODUCT
    )

    def search(vector: Vectors) -> Callable[[], Awaitable[bool]]:
        async def call() -> bool:
            return bool(await index.search("p", vector, count=8, now_unix_s=0.0))

        return call

    found = [await index.search("p", vector, count=1, now_unix_s=0.0) for _, vector in work.hit]
    right = [int(each[0].key, 16) == row for each, row in zip(found, nearest[1][:, 0].tolist(), strict=True)]
    figures = {
        **added,
        "search": await timed([search(vector) for _, vector in work.hit], time.process_time),
        "recall_at_1": round(sum(right) / len(right), 4),
    }
    with ThreadPoolExecutor(1) as executor:
        began = time.perf_counter()
        await save_snapshot(index, folder, position="", executor=executor)
        figures["snapshot_save_s"] = round(time.perf_counter() - began, 2)
        began = time.perf_counter()
        await load_snapshot(index, folder, now_unix_s=0.0, executor=executor)
        figures["snapshot_load_s"] = round(time.perf_counter() - began, 2)
    assert len(index) == len(work.vectors)
    return figures


def beside_gptcache(python: str, folder: Path, work: Workload, lookups: int) -> dict[str, Any]:
    np.save(folder / "vectors.npy", work.vectors)
    asked = [*work.hit[:lookups], *work.miss[:lookups]]
    np.save(folder / "queries.npy", np.stack([vector for _, vector in asked]))
    (folder / "work.json").write_text(
        json.dumps(
            {
                "vectors": str(folder / "vectors.npy"),
                "queries": str(folder / "queries.npy"),
                "query_texts": [text for text, _ in asked],
                "hit": [text for text, _ in work.hit[:lookups]],
                "miss": [text for text, _ in work.miss[:lookups]],
                "answer": ANSWER_TEXT,
            }
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [python, str(Path(__file__).with_name("cache_gptcache.py")), str(folder / "work.json")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=folder,
    )
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"cpus": os.cpu_count()}
    for entries in arguments.entries:
        work = draw(entries, arguments.lookups)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            figures: dict[str, Any] = {"load_average": os.getloadavg()[0]}
            if not arguments.index_only:
                file = folder / "cache.sqlite"
                figures["fill_s"] = round(await fill(file, work.vectors), 1)
                figures["file_bytes_per_entry"] = round(file.stat().st_size / entries)
                figures["grpc"] = await over_grpc(folder, file, work)
            figures["index"] = await in_process(work, folder)
            if arguments.gptcache and entries <= arguments.gptcache_entries_max:
                figures["gptcache"] = beside_gptcache(arguments.gptcache, folder, work, arguments.gptcache_lookups)
            figures["load_average_after"] = os.getloadavg()[0]
        result[str(entries)] = figures
        show(entries, figures)
    return result


def show(entries: int, figures: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{entries:,} entries\n")
    for name, value in figures.items():
        if isinstance(value, dict):
            sys.stdout.write(f"  {name}\n")
            for inner, detail in value.items():
                sys.stdout.write(f"    {inner:22} {json.dumps(detail)}\n")
        else:
            sys.stdout.write(f"  {name:24} {value}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cache", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--lookups", type=int, default=2_000)
    parser.add_argument("--gptcache", default="", help="interpreter of an environment with gptcache")
    parser.add_argument("--gptcache-lookups", type=int, default=100)
    parser.add_argument("--gptcache-entries-max", type=int, default=100_000)
    parser.add_argument("--index-only", action="store_true", help="neither gRPC nor the store: for a million entries")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    result = uvloop.run(measure(arguments))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
