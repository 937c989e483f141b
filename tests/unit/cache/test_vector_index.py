"""The index: what gets in, what leaves, and searches in a thread."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import numpy as np
import pytest

from services.cache.index.partition_rows import CODED_ROWS_MIN, EXACT_ROWS_MAX
from services.cache.index.vector_index import (
    DIMENSIONS_MAX,
    EXPIRED_PER_CALL_MAX,
    DimensionMismatchError,
    InvalidVectorError,
    VectorIndex,
    unit_vector,
)
from tests.support.cache_parts import MODEL, vector
from tests.support.indexed_rows import HeldExecutor, unit_rows


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


def filled(rows: Any, **options: Any) -> VectorIndex:
    index = VectorIndex(entries_max=100_000, **options)
    for number, row in enumerate(rows):
        index.add(f"k{number}", partition="p", model=MODEL, vector=row, expires_at_unix_s=9.0)
    return index


async def test_a_large_search_runs_in_the_executor_and_survives_changes_meanwhile() -> None:
    executor = HeldExecutor()
    rows = unit_rows(EXACT_ROWS_MAX + 2, 16)
    index = filled(rows, executor=executor, inline_rows_max=EXACT_ROWS_MAX)
    executor.run_next()  # what has to be known of that dimension
    query = rows[0]
    search = asyncio.create_task(index.search("p", query, count=3, now_unix_s=0.0))
    await asyncio.sleep(0)
    executor.held.pop(0)  # lists of the codes are to be made, and are not
    executor.run_next()  # the rows are found, and change before anyone looks
    index.remove("k0")
    found = await search
    assert "k0" not in {candidate.key for candidate in found}
    assert len(found) == 3
    for candidate in found:
        assert candidate.similarity == pytest.approx(float(rows[int(candidate.key[1:])] @ query), abs=1e-3)

    index.add("k0", partition="p", model=MODEL, vector=query, expires_at_unix_s=9.0)
    search = asyncio.create_task(index.search("p", query, count=3, now_unix_s=0.0))
    await asyncio.sleep(0)
    index.clear()
    executor.run_next()
    assert list(await search) == []


async def test_a_large_partition_finds_the_nearest_of_near_questions() -> None:
    rows = unit_rows(6_000, 64)
    index = filled(rows)
    rng = np.random.default_rng(3)
    wrong = 0
    for number in range(0, 6_000, 60):
        query = rows[number] + 0.1 * rng.standard_normal(64).astype(np.float32)
        query /= np.linalg.norm(query)
        best = float((rows @ query).max())
        (found,) = await index.search("p", query, count=1, now_unix_s=0.0)
        wrong += found.similarity < best - 1e-3
    assert wrong <= 1  # recall of 0.99


async def test_a_partition_that_shrinks_gives_its_memory_back_and_is_exact_again() -> None:
    rows = unit_rows(3 * EXACT_ROWS_MAX, 32)
    index = filled(rows)
    large = index.vector_bytes
    for number in range(CODED_ROWS_MIN - 1, len(rows)):
        assert index.remove(f"k{number}")
    assert index.vector_bytes < large / 5
    for number in (0, 77, CODED_ROWS_MIN - 2):
        nearest = await index.search("p", rows[number], count=5, now_unix_s=0.0)
        expected = sorted(range(CODED_ROWS_MIN - 1), key=lambda row: -float(rows[row] @ rows[number]))[:5]
        assert nearest[0].key == f"k{number}"
        assert {each.key for each in nearest[:3]} <= {f"k{row}" for row in expected}


def test_a_small_partition_takes_no_more_than_twice_its_vectors() -> None:
    index = VectorIndex(entries_max=10_000)
    for number in range(3_000):
        index.add(f"k{number}", partition=f"p{number // 3}", model=MODEL, vector=vector("v"), expires_at_unix_s=9.0)
    assert index.partitions == 1_000
    assert index.vector_bytes <= 2 * 3_000 * vector("v").nbytes


async def test_a_small_search_does_not_leave_the_event_loop() -> None:
    index = VectorIndex(entries_max=10, executor=HeldExecutor())
    index.add("a", partition="p", model=MODEL, vector=vector("a"), expires_at_unix_s=9.0)
    (found,) = await index.search("p", vector("a"), count=3, now_unix_s=0.0)
    assert found.key == "a"


@pytest.mark.parametrize("rows", [3, EXACT_ROWS_MAX + 1])
async def test_with_each_candidate_comes_its_vector(rows: int) -> None:
    index = VectorIndex(entries_max=rows)
    for number in range(rows):
        index.add(f"{number}", partition="p", model=MODEL, vector=vector(f"{number}"), expires_at_unix_s=9.0)
    index.remove("1")
    for candidate in await index.search("p", vector("0"), count=3, now_unix_s=0.0):
        assert np.allclose(candidate.vector, vector(candidate.key), atol=1e-3)
        assert candidate.similarity == pytest.approx(float(candidate.vector @ vector("0")))
