"""Kinds of index for one partition, on real embeddings: what a search and an addition cost, and what they find.

    python -m bench.cache_index EMBEDDINGS.npy [MORE.npy] [--queries 2000] [--rows 5000 20000 90000]

The files hold float32 rows (lab.embeddings keeps some); they are shuffled (seed 1) and the queries are set aside before
anything is indexed. Recall at 1 is over the queries that might be hits: those whose nearest row has a similarity of 0.8
and more. A search asks for 8. CPU microseconds on one thread; the spread is what the machine's other load makes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from services.cache.index.vector_index import VectorIndex

COUNT: Final = 8
LOOKS: Final = 50
WOULD_BE_HIT: Final = 0.8
Vectors = npt.NDArray[np.float32]
Search = Callable[[Vectors], int]


def flat(rows: Vectors) -> Search:
    return lambda query: int(faiss.knn(query[np.newaxis], rows, COUNT, metric=faiss.METRIC_INNER_PRODUCT)[1][0, 0])


def own(rows: Vectors) -> Search:
    index = VectorIndex(entries_max=len(rows))
    for number, row in enumerate(rows):
        index.add(str(number), partition="p", model="m", vector=row, expires_at_unix_s=9e9)
    loop = asyncio.new_event_loop()
    return lambda query: int(loop.run_until_complete(index.search("p", query, count=COUNT, now_unix_s=0.0))[0].key)


def hnsw(rows: Vectors) -> Search:
    index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.hnsw.efSearch = 64
    index.add(rows)
    return lambda query: int(index.search(query[np.newaxis], COUNT)[1][0, 0])


def rabitq(rows: Vectors) -> Search:
    return _looked_at_again(faiss.IndexRaBitQ(rows.shape[1], faiss.METRIC_INNER_PRODUCT), rows)


def ivf_rabitq(rows: Vectors) -> Search:
    lists = max(16, len(rows) // 400)
    quantizer = faiss.IndexFlatIP(rows.shape[1])
    index = faiss.IndexIVFRaBitQ(quantizer, rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(8, lists // 16)
    return _looked_at_again(index, rows)


def _looked_at_again(index: Any, rows: Vectors) -> Search:
    index.train(rows)
    index.add(rows)

    def search(query: Vectors) -> int:
        found = index.search(query[np.newaxis], LOOKS)[1][0]
        found = found[found >= 0]
        return int(found[np.argmax(rows[found] @ query)])

    return search


KINDS: Final = {
    "flat float32": flat,
    "own": own,
    "RaBitQ + 50": rabitq,
    "HNSW M16": hnsw,
    "IVF-RaBitQ + 50": ivf_rabitq,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cache_index")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 5_000, 20_000, 90_000])
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    together = np.concatenate([np.load(path, allow_pickle=False).astype(np.float32) for path in arguments.files])
    together = np.unique(together / np.linalg.norm(together, axis=1, keepdims=True), axis=0)
    np.random.default_rng(1).shuffle(together)
    queries, stored = together[: arguments.queries], together[arguments.queries :]
    for count in arguments.rows:
        rows = np.ascontiguousarray(stored[:count])
        nearest = faiss.knn(queries, rows, 1, metric=faiss.METRIC_INNER_PRODUCT)
        best = nearest[0][:, 0]
        would_hit = np.flatnonzero(best >= WOULD_BE_HIT)
        sys.stdout.write(f"{len(rows):,} rows, {len(would_hit)} queries might hit; load {os.getloadavg()[0]:.1f}\n")
        for name, build in KINDS.items():
            began = time.process_time()
            search = build(rows)
            add_us = (time.process_time() - began) / len(rows) * 1e6
            began = time.process_time()
            found = [search(queries[number]) for number in would_hit]
            took_us = (time.process_time() - began) / max(1, len(would_hit)) * 1e6
            right = [
                float(rows[row] @ queries[number]) >= best[number] - 1e-4
                for row, number in zip(found, would_hit, strict=True)
            ]
            recall = sum(right) / max(1, len(right))
            sys.stdout.write(f"  {name:16} search {took_us:7.0f} us   add {add_us:6.1f} us   recall@1 {recall:.4f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
