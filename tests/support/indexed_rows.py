"""Rows of vectors in an index, and an executor that runs when told to, for tests of the index."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import EXACT_ROWS_MAX, NewRows
from services.cache.index.vector_index import VectorIndex
from tests.support.cache_parts import MODEL
from tests.support.waiting import until

__all__ = ["ROWS", "WIDTH", "HeldExecutor", "add", "add_at_once", "listed", "lists_of", "nearest", "unit_rows"]

WIDTH = 32
ROWS = 3 * EXACT_ROWS_MAX
LOOP_TURNS = 5


def unit_rows(count: int, dimensions: int = WIDTH, seed: int = 7) -> Any:
    """Clusters of unit vectors, as embeddings crowd together."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 8), dimensions))
    rows = centres[rng.integers(len(centres), size=count)] + 0.4 * rng.standard_normal((count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def add(index: VectorIndex, rows: Any, begin: int, end: int) -> None:
    for number in range(begin, end):
        index.add(f"k{number}", partition="p", model=MODEL, vector=rows[number], expires_at_unix_s=9.0)


def add_at_once(index: VectorIndex, rows: Any, begin: int, end: int) -> None:
    keys = [f"k{number}" for number in range(begin, end)]
    index.add_many("p", MODEL, NewRows(keys, [9.0] * len(keys), rows[begin:end]))


async def nearest(index: VectorIndex, row: Any) -> str:
    found = await index.search("p", row, count=1, now_unix_s=0.0)
    return found[0].key


def lists_of(index: VectorIndex) -> CodeLists | None:
    return index._partitions["p"]._lists


async def listed(index: VectorIndex, row: Any) -> None:
    """Until a search for `row` has had the lists made that are due."""

    async def is_listed() -> bool:
        await nearest(index, row)
        return lists_of(index) is not None and not index._lister._is_busy  # type: ignore[union-attr]

    await until(is_listed, what="the lists are made")


class HeldExecutor(Executor):
    """Runs what it is given when told to."""

    def __init__(self) -> None:
        self.held: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.held.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run_next(self) -> None:
        """Runs the oldest of it; nobody who waits has had a turn yet."""
        future, work = self.held.pop(0)
        future.set_result(work())

    async def run(self) -> None:
        """Runs the oldest of it, and lets those who wait go on."""
        self.run_next()
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
