"""Many entries at once are what they would be one after the other: in the index, the memory, and by value."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.index.arrivals import arrange
from services.cache.index.follower import Follower
from services.cache.index.partition_rows import EXACT_ROWS_MAX, NewRows
from services.cache.index.sign_codes import SignCoder
from services.cache.index.vector_index import DIMENSIONS_MAX, InvalidVectorError, VectorIndex, unit_vector
from services.cache.store.answer_store import CaughtUp, Change, Forget, IndexedMany, Removed
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.entry_codec import outline_of, pack_entry
from services.cache.store.eviction import Evictor
from services.runtime.clock import FakeClock
from tests.support.cache_parts import MODEL, entry, indexed, vector

LONG_S = 1e10


def batch(keys: list[str], *, partitions: int = 1, width: int = 8, seed: int = 3) -> IndexedMany:
    """Vectors of unit length."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((len(keys), width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return IndexedMany(
        MODEL,
        keys,
        [f"p{number % partitions}" for number in range(len(keys))],
        [row.astype("<f4").tobytes() for row in rows],
        [LONG_S + number for number in range(len(keys))],
    )


def add_one_by_one(index: VectorIndex, many: IndexedMany) -> None:
    for each in many.each():
        index.add(
            each.key,
            partition=each.partition,
            model=each.embedding_model,
            vector=np.frombuffer(each.vector, "<f4"),
            expires_at_unix_s=each.expires_at_unix_s,
        )


def add_at_once(index: VectorIndex, many: IndexedMany) -> None:
    arranged = arrange(many, {partition: index.coder_of(partition) for partition in set(many.partitions)})
    assert arranged is not None
    for partition, rows in arranged.items():
        index.add_many(partition, many.embedding_model, rows)


async def found(index: VectorIndex, many: IndexedMany) -> list[list[tuple[str, float]]]:
    return [
        [
            (each.key, round(each.similarity, 5))
            for each in await index.search(partition, np.frombuffer(packed, "<f4"), count=4, now_unix_s=0.0)
        ]
        for partition, packed in zip(many.partitions[::37], many.vectors[::37], strict=True)
    ]


@pytest.mark.parametrize(("partitions", "size"), [(1, 700), (1, 2_600), (3, 900), (40, 150)])
async def test_an_index_filled_at_once_finds_what_one_filled_one_by_one_finds(partitions: int, size: int) -> None:
    many = batch([f"k{number}" for number in range(2_600)], partitions=partitions)
    plain, filled = VectorIndex(entries_max=10_000), VectorIndex(entries_max=10_000)
    add_one_by_one(plain, many)
    for begin in range(0, len(many.keys), size):
        part = slice(begin, begin + size)
        add_at_once(
            filled,
            IndexedMany(
                MODEL, many.keys[part], many.partitions[part], many.vectors[part], many.expires_at_unix_s[part]
            ),
        )
    assert await found(filled, many) == await found(plain, many)
    assert (len(filled), filled.partitions) == (len(plain), plain.partitions)
    for key in many.keys[: 2 * EXACT_ROWS_MAX]:
        assert filled.remove(key)
        assert plain.remove(key)
    assert await found(filled, many) == await found(plain, many)


async def test_codes_by_a_coder_that_the_partition_has_no_more_are_made_anew() -> None:
    index, many = VectorIndex(entries_max=10_000), batch([f"k{number}" for number in range(2_000)])
    vectors = np.stack([np.frombuffer(each, "<f4") for each in many.vectors])
    add_one_by_one(index, many)
    later = batch(["later"], seed=9)
    coder = SignCoder(vectors[:7].mean(axis=0))
    wrong = NewRows(
        ["later"], [LONG_S], np.frombuffer(later.vectors[0], "<f4")[np.newaxis], coder, ~coder.encode(vectors[:1])
    )
    index.add_many("p0", MODEL, wrong)
    near = await index.search("p0", np.frombuffer(later.vectors[0], "<f4"), count=1, now_unix_s=0.0)
    assert near[0].key == "later"


@given(st.lists(st.lists(st.integers(0, 14), max_size=12), max_size=5), st.integers(1, 12))
def test_replaced_entries_and_a_full_index_are_as_one_by_one(batches: list[list[int]], entries_max: int) -> None:
    plain, filled = VectorIndex(entries_max=entries_max), VectorIndex(entries_max=entries_max)
    for seed, numbers in enumerate(batches):
        many = batch([f"k{number}" for number in dict.fromkeys(numbers)], seed=seed)
        add_one_by_one(plain, many)
        add_at_once(filled, many)
    assert list(filled._places) == list(plain._places)


def test_the_last_of_a_key_counts() -> None:
    many = batch(["a", "b", "a"])
    arranged = arrange(many, {})
    assert arranged is not None
    (rows,) = arranged.values()
    assert sorted(rows.keys) == ["a", "b"]
    assert rows.vectors[list(rows.keys).index("a")].astype("<f4").tobytes() == many.vectors[2]


def test_vectors_that_are_not_of_unit_length_are_brought_to_it() -> None:
    many = batch(["a", "b"])
    doubled = dataclasses.replace(many, vectors=[(2 * np.frombuffer(each, "<f4")).tobytes() for each in many.vectors])
    arranged = arrange(doubled, {})
    assert arranged is not None
    assert np.allclose(np.linalg.norm(arranged["p0"].vectors, axis=1), 1.0)


class Told(MemoryStore):
    """Tells these changes."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__(entries_max=1, clock=FakeClock())
        self._changes = changes

    async def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        for change in (*self._changes, CaughtUp()):
            yield change
        await asyncio.Event().wait()


@pytest.mark.parametrize("threads", [0, 2])
async def test_a_follower_takes_batches_in_the_order_of_all_changes(threads: int) -> None:
    first, second = batch(["a", "b"]), batch(["b", "c"], seed=4)
    with ThreadPoolExecutor(2) as pool:
        index = VectorIndex(entries_max=9, executor=pool if threads else None)
        changes: list[Change] = [Forget(), first, second, Removed(("c",)), *batch(["d"]).each()]
        follower = Follower(Told(changes), index, clock=FakeClock())
        await follower.start()
        assert [key for key in "abcd" if key in index] == ["a", "b", "d"]
        near = await index.search("p0", np.frombuffer(second.vectors[0], "<f4"), count=1, now_unix_s=0.0)
        assert near[0].similarity == pytest.approx(1.0, abs=1e-3)
        await follower.close()


@pytest.mark.parametrize("broken", [b"", b"abc", b"\0" * 32, np.full(8, np.nan, "<f4").tobytes(), b"\0\0\x80\x3f"])
async def test_a_broken_vector_is_left_out_and_the_others_are_not(broken: bytes) -> None:
    many = batch(["a", "b", "c"])
    torn = dataclasses.replace(many, vectors=[many.vectors[0], broken, many.vectors[2]])
    index = VectorIndex(entries_max=9)
    follower = Follower(Told([torn]), index, clock=FakeClock())
    await follower.start()
    assert [key for key in "abc" if key in index] == ["a", "c"]
    await follower.close()


async def test_of_vectors_that_are_too_long_none_gets_in_however_many_come_at_once() -> None:
    widest, too_wide = batch(["a", "b"], width=DIMENSIONS_MAX), batch(["c", "d"], width=DIMENSIONS_MAX + 1)
    assert arrange(widest, {}) is not None
    assert arrange(too_wide, {}) is None
    with pytest.raises(InvalidVectorError, match=f"up to {DIMENSIONS_MAX} values"):
        unit_vector(too_wide.vectors[0])
    index = VectorIndex(entries_max=9)
    follower = Follower(Told([too_wide]), index, clock=FakeClock())
    await follower.start()
    assert len(index) == 0
    await follower.close()


async def test_a_batch_of_another_dimension_is_left_out() -> None:
    index = VectorIndex(entries_max=9)
    index.add("a", partition="p0", model=MODEL, vector=vector("a", 8), expires_at_unix_s=LONG_S)
    follower = Follower(Told([batch(["b"], width=4), batch(["c"])]), index, clock=FakeClock())
    await follower.start()
    assert [key for key in "abc" if key in index] == ["a", "c"]
    await follower.close()


entries_of = st.tuples(st.integers(0, 40), st.integers(1, 400), st.integers(0, 10**6))


@given(st.lists(entries_of, max_size=40), st.lists(entries_of, max_size=60), st.integers(1, 30), st.integers(1, 30))
def test_filling_evicts_what_adding_would(
    before: list[tuple[int, int, int]], many: list[tuple[int, int, int]], entries_max: int, tenant_entries_max: int
) -> None:
    made = [Evictor(entries_max=entries_max, tenant_entries_max=tenant_entries_max, bytes_max=3_000) for _ in range(2)]
    for each in made:
        for number, size, cost in before:
            each.add(f"k{number}", tenant=f"t{number % 3}", size_bytes=size, cost_nanousd=cost)
    plain, filled = made
    evicted = []
    for number, size, cost in many:
        evicted += plain.add(f"k{number}", tenant=f"t{number % 3}", size_bytes=size, cost_nanousd=cost)
    assert filled.fill((f"k{number}", f"t{number % 3}", size, cost) for number, size, cost in many) == evicted
    # And afterwards, by the same order of value.
    for number in range(100, 140):
        for each in made:
            each.add(f"k{number}", tenant="t4", size_bytes=50, cost_nanousd=1)
    assert [sorted(filled.keys_of(f"t{each}")) for each in range(5)] == [
        sorted(plain.keys_of(f"t{each}")) for each in range(5)
    ]


async def test_a_memory_that_is_filled_is_as_after_the_puts_and_tells_what_it_holds() -> None:
    clock = FakeClock()
    entries = [entry(f"q{number}", now_unix_s=clock.unix(), partition="p" if number % 2 else "") for number in range(9)]
    keys = [each.key for each in entries]
    filled, plain = (MemoryStore(entries_max=6, clock=clock) for _ in range(2))
    left = filled.fill((each.key, pack_entry(each), outline_of(each)) for each in entries)
    for each in entries:
        await plain.put(each)
    held = await plain.get_many(keys)
    assert await filled.get_many(keys) == held
    assert sorted(left) == sorted(key for key, each in zip(keys, held, strict=True) if each is None)
    assert (filled.evicted, len(filled)) == (3, 6)
    async with aclosing(filled.changes()) as changes:
        told: list[Change] = [await anext(changes), await anext(changes)]
    assert {each.key for each in indexed(told)} == {each.key for each in held if each is not None and each.partition}
    clock.advance(4_000.0)
    await filled.put(entry("later", now_unix_s=clock.unix()))
    assert len(filled) == 1
