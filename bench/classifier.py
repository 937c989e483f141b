"""What a classification costs, and its embedding against sentence-transformers doing the same, in the same run.

    python -m bench.classifier [--rounds 5] [--texts 32] [--peer-python PYTHON] [--json FILE]

One run, interleaved: in every round each way embeds or judges the same new texts (nothing is remembered from a round
before) of 20, 100 and 250 tokens, one at a time and 32 at once, in an order that moves on from round to round. Every
way has one thread for its model. CPU time is that of the process that spends it; it does not count waiting for a busy
machine, but caches and memory are shared, so the load is reported too. With --peer-python, a Python that has torch and
sentence-transformers, its process computes the same weights from the installed model package; what is sent to it at
once is one list, its best case. At last the service is asked more at once than it can do in a caller's second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import uvloop

from bench.processes import cpu_s, rss_bytes
from services.classifier.batched_embedder import BatchedEmbedder, ThreadedEncoder
from services.classifier.complexity import Classifier
from services.classifier.encoder import Encoder
from services.classifier.head import parse_head
from services.classifier.model import load_verified, model_directory, package_directory
from services.classifier.startup import BUILTIN_HEAD
from spillway.chat import Message, Role
from spillway.v1 import classifier_pb2, classifier_pb2_grpc
from spillway.wire import message_to_proto
from tests.support.processes import Process
from tests.support.smallest import smallest_file

MIXED: Final = (8, 250)
"""Lengths between these, evenly on a logarithmic scale: short prompts are more frequent than long ones."""
LENGTHS: Final = ((20, 20), (100, 100), (250, 250), MIXED)
SEED: Final = 11
MIB: Final = 2**20
PEER: Final = "sentence-transformers"
CALL_TIMEOUT_S: Final = 60.0
CALLER_PATIENCE_S: Final = 1.0  # orchestrator.classifier_timeout_s
BURSTS: Final = (8, 32, 64, 128)
# One token each in the model's vocabulary.
WORDS: Final = tuple(
    """
    river station market window letter garden winter engine doctor museum bridge summer planet coffee island village
    message picture history science language number system program question answer meeting travel price weather
    """.split()  # noqa: SIM905 - thirty of them are read more easily so
)

# Texts of one burst in, the milliseconds of each out.
Way = Callable[[Sequence[str], bool], Awaitable[list[float]]]


class Peer:
    """sentence-transformers in its own process."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("sentence_transformers_worker.py")), str(package_directory())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.ready = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, texts: Sequence[str], *, at_once: bool, vectors: bool = False) -> dict[str, Any]:
        """One job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"texts": list(texts), "at_once": at_once, "vectors": vectors}) + "\n")
        self._process.stdin.flush()
        return self._line()

    async def embed(self, texts: Sequence[str], at_once: bool) -> list[float]:
        """A Way; as each of a list is done when all are, so long did each take."""
        taken: list[float] = self.ask(texts, at_once=at_once)["ms"]
        return taken if len(taken) == len(texts) else taken * len(texts)

    def cpu_s(self) -> float:
        """CPU seconds so far, of all threads."""
        return cpu_s(self._process.pid)

    def rss_mb(self) -> float:
        """Resident memory."""
        return rss_bytes(self._process.pid) / MIB

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(CALL_TIMEOUT_S)


def texts_of(tokens: tuple[int, int], count: int, generator: np.random.Generator) -> list[str]:
    """Texts of exactly so many tokens, [CLS] and [SEP] included, or of lengths from the one to the other, shuffled."""
    lengths = generator.permutation(np.geomspace(*tokens, count).round().astype(int))
    return [" ".join(WORDS[index] for index in generator.integers(0, len(WORDS), length - 2)) for length in lengths]


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1e3


async def in_turns(call: Callable[[str], Awaitable[object]], texts: Sequence[str], at_once: bool) -> list[float]:
    """The time of each call."""
    if at_once:
        return await asyncio.gather(*(timed(call(text)) for text in texts))
    return [await timed(call(text)) for text in texts]


def request_of(text: str) -> classifier_pb2.ClassifyRequest:
    message = message_to_proto(Message.of(Role.USER, text))
    return classifier_pb2.ClassifyRequest(messages=[message], want_embedding=True)


def ways_of(
    embedder: BatchedEmbedder, classifier: Classifier, server: Process, stub: Any
) -> dict[str, tuple[Way, Callable[[], float]]]:
    """Our own, each with the CPU seconds of the process that works for it."""

    async def embed(texts: Sequence[str], at_once: bool) -> list[float]:
        return await in_turns(lambda text: embedder.embed([text]), texts, at_once)

    async def classify(texts: Sequence[str], at_once: bool) -> list[float]:
        async def one(text: str) -> None:
            found = await classifier.classify(
                [Message.of(Role.USER, text)], has_tools=False, want_embedding=True, time_s=CALL_TIMEOUT_S
            )
            assert found.vector is not None

        return await in_turns(one, texts, at_once)

    async def over_grpc(texts: Sequence[str], at_once: bool) -> list[float]:
        async def one(text: str) -> None:
            found = await stub.Classify(request_of(text), timeout=CALL_TIMEOUT_S)
            assert found.embedding.model

        return await in_turns(one, texts, at_once)

    return {
        "embed": (embed, time.process_time),
        "Classify": (classify, time.process_time),
        "Classify over gRPC": (over_grpc, lambda: cpu_s(server.pid)),
    }


async def compare(arguments: argparse.Namespace, server: Process, stub: Any, peer: Peer | None) -> list[dict[str, Any]]:
    """A row for each way, length and concurrency."""
    encoder = Encoder(load_verified(model_directory(os.environ)), threads=1)
    embedder = BatchedEmbedder(ThreadedEncoder(encoder, workers=1), workers=1)
    classifier = Classifier(heuristics_confidence_min=0.9)
    classifier.attach(embedder, parse_head(BUILTIN_HEAD.read_bytes()))
    ways = ways_of(embedder, classifier, server, stub)
    if peer:
        ways[PEER] = (peer.embed, peer.cpu_s)
    generator = np.random.default_rng(SEED)
    rows = []
    for tokens, at_once in itertools.product(LENGTHS, (False, True)):
        latency: dict[str, list[list[float]]] = {way: [] for way in ways}
        spent: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(-1, arguments.rounds):
            for way in [*ways][number % len(ways) :] + [*ways][: number % len(ways)]:
                work, cpu_s_of = ways[way]
                # New texts of the same lengths for each way: ours remember what they have seen.
                texts = texts_of(tokens, arguments.texts, generator)
                before = cpu_s_of()
                taken = await work(texts, at_once)
                if number >= 0:  # the round before the first warms up
                    latency[way].append(taken)
                    spent[way].append((cpu_s_of() - before) * 1e3 / arguments.texts)
        length = f"{tokens[0]}" if tokens[0] == tokens[1] else f"{tokens[0]} to {tokens[1]}"
        for way in ways:
            row: dict[str, Any] = {"tokens": length, "at_once": arguments.texts if at_once else 1, "way": way}
            row["cpu_ms"] = statistics.median(spent[way])
            for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                row[name] = statistics.median(float(np.quantile(taken, share)) for taken in latency[way])
            if peer:
                ratios = [theirs / mine for theirs, mine in zip(spent[PEER], spent[way], strict=True)]
                row |= {"times": statistics.median(ratios), "times_range": [min(ratios), max(ratios)]}
            rows.append(row)
    await embedder.close()
    return rows


def fidelity(peer: Peer) -> float:
    """The least cosine between our vectors and the peer's, over texts of all lengths."""
    encoder = Encoder(load_verified(model_directory(os.environ)), threads=1)
    texts = texts_of(MIXED, 100, np.random.default_rng(SEED))
    theirs = np.asarray(peer.ask(texts, at_once=True, vectors=True)["vectors"])
    return float((encoder.encode(texts) * theirs).sum(axis=1).min())


async def overload(stub: Any, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Bursts of prompts of 250 tokens with a second each: which layer decided, and how late the last answer came."""
    rows = []
    for burst in BURSTS:
        layers: Counter[str] = Counter()
        taken: list[float] = []

        async def one(text: str, layers: Counter[str] = layers, taken: list[float] = taken) -> None:
            began = time.perf_counter()
            try:
                found = await stub.Classify(request_of(text), timeout=CALLER_PATIENCE_S)
                layers["embedding" if found.embedding.model else "heuristics"] += 1
            except grpc.aio.AioRpcError as error:
                layers[error.code().name] += 1
            taken.append((time.perf_counter() - began) * 1e3)

        await asyncio.gather(*(one(text) for text in texts_of((250, 250), burst, generator)))
        rows.append({"burst": burst, "layers": dict(layers), "p50_ms": float(np.median(taken)), "max_ms": max(taken)})
    return rows


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"load_before": os.getloadavg()}
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    try:
        for threads in (1, None):
            with tempfile.TemporaryDirectory() as folder:
                config = configuration(Path(folder), threads)
                words = ["--config", str(config), "--listen", "127.0.0.1:0"]
                server = Process("services.classifier", words, {}, Path(folder) / "classifier.log")
                try:
                    async with grpc.aio.insecure_channel(server.ready()["listen"]) as channel:
                        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
                        if threads == 1:
                            found["rows"] = await compare(arguments, server, stub, peer)
                            found["rss_mb"] = rss_bytes(server.pid) / MIB
                            if peer:
                                found |= {"peer_rss_mb": peer.rss_mb(), "cosine_min": fidelity(peer)}
                        name = f"overload_threads_{threads or 'default'}"
                        found[name] = await overload(stub, np.random.default_rng(SEED))
                finally:
                    server.stop()
    finally:
        if peer:
            found["peer"] = peer.ready
            peer.stop()
    return found | {"load_after": os.getloadavg(), "cpus": os.cpu_count()}


def configuration(folder: Path, threads: int | None) -> Path:
    """One that needs no provider."""
    return smallest_file(folder, classifier={"threads": threads} if threads else {}, log={"level": "warning"})


def show(found: dict[str, Any]) -> None:
    """Tables in Markdown; of the peer only where there was one."""
    has_peer = "cosine_min" in found
    beside = (" the peer's CPU is times this (range) |", " ---: |") if has_peer else ("", "")
    print(f"| tokens | at once | way | p50 ms | p99 ms | CPU ms each |{beside[0]}")
    print(f"| ---: | ---: | --- | ---: | ---: | ---: |{beside[1]}")
    for row in found["rows"]:
        print(
            f"| {row['tokens']} | {row['at_once']} | {row['way']} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | "
            f"{row['cpu_ms']:.2f} |{_times(row) if has_peer else ''}"
        )
    print(f"\nresident memory: service {found['rss_mb']:.0f} MB" + _peer_memory(found))
    if has_peer:
        print(f"least cosine to the peer's vectors: {found['cosine_min']:.7f}")
    for threads in ("1", "default"):
        for row in found[f"overload_threads_{threads}"]:
            print(
                f"threads {threads}, {row['burst']} prompts of 250 tokens at once, {CALLER_PATIENCE_S:.0f} s each: "
                f"{row['layers']}, p50 {row['p50_ms']:.0f} ms, last {row['max_ms']:.0f} ms"
            )
    before, after = (found[name][0] for name in ("load_before", "load_after"))
    print(
        f"load average {before:.1f} before, {after:.1f} after, {found['cpus']} CPUs; peer {found.get('peer', 'none')}"
    )


def _times(row: dict[str, Any]) -> str:
    low, high = row["times_range"]
    return f" {row['times']:.2f} ({low:.2f} to {high:.2f}) |"


def _peer_memory(found: dict[str, Any]) -> str:
    return f", peer {found['peer_rss_mb']:.0f} MB" if "peer_rss_mb" in found else ""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Cost of a classification, and its embedding against its peer's.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=32, help="per way and round; and how many at once")
    parser.add_argument("--peer-python", default="", help="a Python with torch and sentence-transformers")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    found = uvloop.run(run(arguments))
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
