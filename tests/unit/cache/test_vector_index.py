"""The index: what gets in, what leaves, and searches in a thread."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest

from services.cache.vector_index import (
    DIMENSIONS_MAX,
    EXPIRED_PER_CALL_MAX,
    INLINE_ROWS_MAX,
    DimensionMismatchError,
    InvalidVectorError,
    VectorIndex,
    unit_vector,
)
from tests.support.cache_parts import MODEL, vector


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize(
    "values",
    [
        b"",
        b"abc",
        packed(0.0, 0.0),
        packed(float("nan"), 1.0),
        packed(float("inf"), 1.0),
        packed(1e-30, 0.0),
        packed(*[1.0] * (DIMENSIONS_MAX + 1)),
    ],
)
def test_what_cannot_be_compared_is_no_vector(values: bytes) -> None:
    with pytest.raises(InvalidVectorError):
        unit_vector(values)


def test_a_vector_is_brought_to_unit_length() -> None:
    assert np.allclose(unit_vector(packed(3.0, 4.0)), [0.6, 0.8])
    assert np.allclose(unit_vector(packed(3e38, 0.0)), [1.0, 0.0])


def test_another_dimension_of_the_same_model_is_refused() -> None:
    index = VectorIndex(entries_max=10)
    index.add("a", partition="p", model=MODEL, vector=vector("a"), expires_at_unix_s=9.0)
    with pytest.raises(DimensionMismatchError):
        index.add("b", partition="q", model=MODEL, vector=vector("b", 4), expires_at_unix_s=9.0)
    index.add("c", partition="q", model="another/1", vector=vector("c", 4), expires_at_unix_s=9.0)
    assert (len(index), index.partitions) == (2, 2)


async def test_a_search_with_another_dimension_is_refused() -> None:
    index = VectorIndex(entries_max=10)
    index.add("a", partition="p", model=MODEL, vector=vector("a"), expires_at_unix_s=9.0)
    with pytest.raises(DimensionMismatchError):
        await index.search("p", vector("a", 4), count=1, now_unix_s=0.0)


async def test_the_oldest_entry_leaves_first_and_a_replaced_one_is_new_again() -> None:
    index = VectorIndex(entries_max=2)
    for key in ("a", "b", "a", "c"):
        index.add(key, partition="p", model=MODEL, vector=vector(key), expires_at_unix_s=9.0)
    found = await index.search("p", vector("a"), count=9, now_unix_s=0.0)
    assert {candidate.key for candidate in found} == {"a", "c"}


async def test_expired_entries_leave_the_memory_without_being_asked_for() -> None:
    index = VectorIndex(entries_max=10)
    for number in range(5):
        index.add(f"k{number}", partition=f"p{number}", model=MODEL, vector=vector("v"), expires_at_unix_s=1.0 + number)
    await index.search("elsewhere", vector("v"), count=1, now_unix_s=3.0)
    assert (len(index), index.partitions) == (2, 2)


async def test_no_expired_entry_is_found_however_many_expire_at_once() -> None:
    index = VectorIndex(entries_max=1_000)
    for number in range(3 * EXPIRED_PER_CALL_MAX):
        index.add(f"k{number}", partition="p", model=MODEL, vector=vector("v"), expires_at_unix_s=1.0)
    assert list(await index.search("p", vector("v"), count=5, now_unix_s=1.0)) == []


def test_replacing_one_entry_for_ever_takes_no_memory() -> None:
    index = VectorIndex(entries_max=10)
    for number in range(1_000):
        index.add("k", partition="p", model=MODEL, vector=vector("v"), expires_at_unix_s=1e9 + number)
    assert len(index._expiries) < 100


class HeldExecutor(Executor):
    """Runs what it is given when told to."""

    def __init__(self) -> None:
        self.held: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.held.put_nowait(lambda: future.set_result(fn(*args, **kwargs)))
        return future


async def test_a_large_search_runs_in_the_executor_and_survives_changes_meanwhile() -> None:
    executor = HeldExecutor()
    index = VectorIndex(entries_max=100_000, executor=executor)
    rows = np.random.default_rng(7).standard_normal((INLINE_ROWS_MAX + 2, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for number, row in enumerate(rows):
        index.add(f"k{number}", partition="p", model=MODEL, vector=row, expires_at_unix_s=9.0)
    query = rows[0]
    search = asyncio.create_task(index.search("p", query, count=3, now_unix_s=0.0))
    (await executor.held.get())()  # the rows are found, and change before anyone looks
    index.remove("k0")
    found = await search
    assert "k0" not in {candidate.key for candidate in found}
    for candidate in found:
        assert candidate.similarity == pytest.approx(float(rows[int(candidate.key[1:])] @ query), abs=1e-6)

    search = asyncio.create_task(index.search("p", query, count=3, now_unix_s=0.0))
    run = await executor.held.get()
    index.clear()
    run()
    assert await search == []


async def test_a_small_search_does_not_leave_the_event_loop() -> None:
    index = VectorIndex(entries_max=10, executor=HeldExecutor())
    index.add("a", partition="p", model=MODEL, vector=vector("a"), expires_at_unix_s=9.0)
    (found,) = await index.search("p", vector("a"), count=3, now_unix_s=0.0)
    assert found.key == "a"
