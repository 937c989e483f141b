"""The cache's index by itself, without gRPC, texts and answers: additions, searches, and its snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from bench.cache_service import timed
from bench.cache_stores import ENTRIES_MAX
from bench.cache_workload import MODEL, Vectors, Workload
from bench.processes import rss_bytes
from services.cache.index.index_snapshot import load_snapshot, save_snapshot
from services.cache.index.vector_index import VectorIndex

__all__ = ["index_alone"]


async def index_alone(work: Workload, folder: Path) -> dict[str, Any]:
    """Recall is of the nearest row, against FAISS's exact search."""
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
