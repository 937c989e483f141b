"""Large partitions' codes in inverted lists: what they find, and that they are in step with the rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.index import code_lister, code_lists, partition_rows, vector_index
from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import EXACT_ROWS_MAX, SECOND_LOOKS, STALE_ROWS_MAX, NewRows
from services.cache.index.sign_codes import CODE_BYTES, SignCoder, nearest_codes
from services.cache.index.vector_index import VectorIndex
from tests.support.cache_parts import MODEL, eventually

WIDTH = 32
ROWS = 3 * EXACT_ROWS_MAX


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """As the service has FAISS work: threads that wait for each other take many times as long on a busy machine."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def unit_rows(count: int, seed: int = 7) -> Any:
    """Clusters of unit vectors, as embeddings crowd together."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 16), WIDTH))
    rows = centres[rng.integers(len(centres), size=count)] + 0.4 * rng.standard_normal((count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def codes_of(rows: Any) -> Any:
    return SignCoder(rows.mean(axis=0)).encode(rows)


def test_what_a_scan_of_all_codes_finds_nearest_lists_find_too() -> None:
    rows = unit_rows(6_000)
    codes = codes_of(rows)
    lists = CodeLists.built([codes[:4_096], codes[4_096:]])
    assert len(lists) == len(rows)
    queries = SignCoder(rows.mean(axis=0)).encode(
        rows[:300] + 0.02 * np.random.default_rng(1).standard_normal((300, WIDTH), np.float32)
    )
    found = [at in lists.search(query, SECOND_LOOKS) for at, query in enumerate(queries)]
    scanned = [at in nearest_codes([codes], query, SECOND_LOOKS) for at, query in enumerate(queries)]
    assert sum(found) >= sum(scanned) - 2


changes = st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=60)


@settings(max_examples=20, deadline=None)
@given(changes)
def test_after_any_changes_every_row_is_found_by_its_code_and_no_other_row_is(changed: list[tuple[int, bool]]) -> None:
    codes = np.random.default_rng(3).integers(0, 256, (400, CODE_BYTES)).astype(np.uint8)
    lists = CodeLists.built([codes[:40], codes[40:80]])
    there = {row: codes[row] for row in range(80)}
    for row, is_put in changed:
        if is_put:
            there[row] = codes[(row * 7 + len(there)) % len(codes)]
            lists.update([row], [row], there[row][np.newaxis])
        else:
            there.pop(row, None)
            lists.update([row], [], codes[:0])
    assert len(lists) == len(there)
    for row, code in there.items():
        assert row in lists.search(code, len(there))
    assert set(lists.search(codes[0], 500)) <= set(there)


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


@pytest.fixture
async def threads() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=faiss.omp_set_num_threads, initargs=(1,)) as made:
        yield made


async def listed(index: VectorIndex, row: Any) -> None:
    async def is_listed() -> bool:
        await nearest(index, row)
        return lists_of(index) is not None and not index._lister._is_busy  # type: ignore[union-attr]

    await eventually(is_listed, what="the lists are made")


async def test_a_large_partition_gets_lists_that_follow_additions_replacements_and_removals(
    threads: ThreadPoolExecutor,
) -> None:
    rows = unit_rows(ROWS + 400)
    index = VectorIndex(entries_max=100_000, executor=threads, inline_rows_max=EXACT_ROWS_MAX)
    add(index, rows, 0, ROWS)
    await listed(index, rows[0])
    add(index, rows, ROWS, ROWS + 100)
    add_at_once(index, rows, ROWS + 100, ROWS + 400)
    index.add("k1", partition="p", model=MODEL, vector=rows[2], expires_at_unix_s=9.0)
    for number in range(100, 200):
        index.remove(f"k{number}")
    assert [await nearest(index, rows[at]) for at in (0, 99, ROWS, ROWS + 200, ROWS + 399)] == [
        "k0",
        "k99",
        f"k{ROWS}",
        f"k{ROWS + 200}",
        f"k{ROWS + 399}",
    ]
    assert await nearest(index, rows[2]) in {"k1", "k2"}
    assert await nearest(index, rows[150]) != "k150"
    lists = lists_of(index)
    assert lists is not None
    assert len(lists) == len(index) == ROWS + 300


async def test_what_was_made_ready_at_the_start_needs_no_search_first(threads: ThreadPoolExecutor) -> None:
    rows = unit_rows(ROWS)
    index = VectorIndex(entries_max=100_000, executor=threads, inline_rows_max=EXACT_ROWS_MAX)
    index.make_lists()
    add(index, rows, 0, ROWS)
    index.make_lists()

    async def is_listed() -> bool:
        return lists_of(index) is not None

    await eventually(is_listed, what="the lists are made")


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each update of any lists was of."""
    sizes: list[int] = []
    update = CodeLists.update

    def counted(self: CodeLists, changed: Sequence[int], living: Sequence[int], codes: Any) -> None:
        sizes.append(len(changed))
        update(self, changed, living, codes)

    monkeypatch.setattr(CodeLists, "update", counted)
    return sizes


async def test_what_changed_between_two_lookups_is_entered_into_the_lists_together_and_is_seen_by_the_second(
    threads: ThreadPoolExecutor, updates: list[int]
) -> None:
    rows = unit_rows(ROWS + 200)
    index = VectorIndex(entries_max=100_000, executor=threads, inline_rows_max=EXACT_ROWS_MAX)
    add(index, rows, 0, ROWS)
    await listed(index, rows[0])
    updates.clear()
    add(index, rows, ROWS, ROWS + 5)
    index.remove("k7")
    index.remove(f"k{ROWS + 2}")
    assert updates == []
    assert await nearest(index, rows[7]) != "k7"
    assert len(updates) == 1
    assert await nearest(index, rows[ROWS + 2]) != f"k{ROWS + 2}"
    assert [await nearest(index, rows[ROWS + at]) for at in (0, 1, 3, 4)] == [f"k{ROWS + at}" for at in (0, 1, 3, 4)]
    assert len(updates) == 1
    add(index, rows, ROWS + 5, ROWS + 200)
    assert len(updates) > 1, "a row that changed does not wait for ever"
    assert max(updates) <= STALE_ROWS_MAX + 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 399)),
        st.tuples(st.just("many"), st.integers(0, 360)),
        st.tuples(st.just("remove"), st.integers(0, 399)),
        st.tuples(st.just("look"), st.integers(0, 399)),
    ),
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@given(steps)
async def test_whatever_was_added_and_removed_a_lookup_by_lists_finds_it_or_does_not(
    done: list[tuple[str, int]],
) -> None:
    rows = unit_rows(EXACT_ROWS_MAX + 400)
    first = EXACT_ROWS_MAX
    with (
        ThreadPoolExecutor(1, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(code_lists, "LISTS", 16)
        index = VectorIndex(entries_max=100_000, executor=pool, inline_rows_max=EXACT_ROWS_MAX)
        add(index, rows, 0, first + 1)
        await listed(index, rows[0])
        there = {0}
        for what, number in done:
            match what:
                case "add":
                    add(index, rows, first + number, first + number + 1)
                    there.add(number)
                case "many":
                    add_at_once(index, rows, first + number, first + number + 40)
                    there.update(range(number, number + 40))
                case "remove":
                    index.remove(f"k{first + number}")
                    there.discard(number)
                case _:
                    key = f"k{first + number}"
                    assert (await nearest(index, rows[first + number]) == key) is (number in there)
        await nearest(index, rows[0])
        lists = lists_of(index)
        assert lists is not None
        assert len(lists) == len(index) == EXACT_ROWS_MAX + len(there)


class HeldExecutor(Executor):
    """Runs what it is given when told to."""

    def __init__(self) -> None:
        self.held: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.held.append((future, lambda: fn(*args, **kwargs)))
        return future

    async def run(self) -> None:
        future, work = self.held.pop(0)
        future.set_result(work())
        for _ in range(5):
            await asyncio.sleep(0)


async def test_what_changes_while_lists_are_made_is_in_them_before_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(code_lister, "CHANGES_INLINE_MAX", 20)
    rows, executor = unit_rows(ROWS + 200), HeldExecutor()
    index = VectorIndex(entries_max=100_000, executor=executor, inline_rows_max=EXACT_ROWS_MAX)
    add(index, rows, 0, ROWS)
    executor.held.clear()  # what has to be known of that dimension
    searching = asyncio.create_task(nearest(index, rows[0]))
    await asyncio.sleep(0)
    making, scan = executor.held
    executor.held[:] = [scan]
    await executor.run()
    assert await searching == "k0"
    executor.held[:] = [making]
    add(index, rows, ROWS, ROWS + 10)  # more than is caught up with at once
    add_at_once(index, rows, ROWS + 10, ROWS + 100)
    for number in range(50):
        index.remove(f"k{number}")
    await executor.run()
    assert lists_of(index) is None
    add(index, rows, ROWS + 100, ROWS + 110)  # and again while that is caught up with
    index.remove("k60")
    await executor.run()
    lists = lists_of(index)
    assert lists is not None
    assert len(lists) == len(index) == ROWS + 59
    assert not executor.held
    for number in (61, 500, ROWS - 1, ROWS, ROWS + 50, ROWS + 105):
        assert await nearest(index, rows[number]) == f"k{number}"
    assert await nearest(index, rows[60]) != "k60"
    assert not executor.held


async def test_while_much_is_entered_into_new_lists_a_turn_is_bounded_and_every_lookup_sees_what_is_there(
    monkeypatch: pytest.MonkeyPatch, updates: list[int]
) -> None:
    monkeypatch.setattr(code_lister, "CHANGES_INLINE_MAX", 20)
    monkeypatch.setattr(partition_rows, "CHANGES_TAKEN_MAX", 32)
    monkeypatch.setattr(vector_index, "LISTED_ROWS_MIN", ROWS)
    rows, executor = unit_rows(ROWS + 300), HeldExecutor()
    index = VectorIndex(entries_max=100_000, executor=executor)
    add(index, rows, 0, ROWS)
    executor.held.clear()  # what has to be known of that dimension
    index.make_lists()
    add_at_once(index, rows, ROWS, ROWS + 200)
    for number in range(100):
        index.remove(f"k{number}")
    late = ROWS + 200
    while executor.held:
        assert lists_of(index) is None
        await executor.run()
        if late < ROWS + 220:  # and more while that is entered
            add(index, rows, late, late + 1)
            assert await nearest(index, rows[late]) == f"k{late}"
            index.remove(f"k{late - 100}")
            late += 1
        assert await nearest(index, rows[late - 101]) != f"k{late - 101}"
        assert await nearest(index, rows[0]) != "k0"
    lists = lists_of(index)
    assert lists is not None
    assert len(lists) == len(index)
    assert len(updates) > 5
    assert max(updates) <= 32
    for number in range(len(rows)):
        key = f"k{number}"
        assert (await nearest(index, rows[number]) == key) is (key in index)


class ClosingExecutor(HeldExecutor):
    """Takes no work any more once it `is_shut_down`."""

    is_shut_down = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("begun", [True, False])
async def test_an_executor_that_takes_no_work_any_more_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(code_lister, "CHANGES_INLINE_MAX", 20)
    monkeypatch.setattr(vector_index, "LISTED_ROWS_MIN", ROWS)
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    rows, executor = unit_rows(ROWS + 100), ClosingExecutor()
    index = VectorIndex(entries_max=100_000, executor=executor)
    add(index, rows, 0, ROWS)
    executor.held.clear()  # what has to be known of that dimension
    executor.is_shut_down = not begun
    index.make_lists()
    add_at_once(index, rows, ROWS, ROWS + 100)  # more than is caught up with at once
    executor.is_shut_down = True
    if begun:
        await executor.run()
    assert not unhandled
    assert lists_of(index) is None
    assert await nearest(index, rows[ROWS]) == f"k{ROWS}"


async def test_lists_that_cannot_be_made_cost_no_lookup_anything(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def fail(_: object) -> CodeLists:
        nonlocal tries
        tries += 1
        raise MemoryError

    monkeypatch.setattr(CodeLists, "built", fail)
    rows = unit_rows(ROWS)
    index = VectorIndex(entries_max=100_000, executor=threads, inline_rows_max=EXACT_ROWS_MAX)
    add(index, rows, 0, ROWS)
    for number in (0, 700, 2_000):
        assert await nearest(index, rows[number]) == f"k{number}"
    assert tries == 1


async def test_lists_are_made_anew_for_twice_the_rows_and_thrown_away_for_a_quarter(
    threads: ThreadPoolExecutor,
) -> None:
    rows = unit_rows(2 * ROWS + 10)
    index = VectorIndex(entries_max=100_000, executor=threads, inline_rows_max=EXACT_ROWS_MAX)
    add(index, rows, 0, ROWS)
    await listed(index, rows[0])
    first = lists_of(index)
    assert first is not None
    assert first.rows_built == ROWS
    add(index, rows, ROWS, 2 * ROWS + 10)
    await nearest(index, rows[0])
    await listed(index, rows[0])
    second = lists_of(index)
    assert second is not None
    assert second.rows_built == 2 * ROWS + 10
    for number in range(2 * ROWS - 1_500):
        index.remove(f"k{number}")
    assert lists_of(index) is None
    assert await nearest(index, rows[2 * ROWS]) == f"k{2 * ROWS}"


@pytest.mark.parametrize("least", [ROWS, ROWS + 1])
async def test_lists_are_made_of_partitions_from_a_size_on(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(vector_index, "LISTED_ROWS_MIN", least)
    rows = unit_rows(ROWS)
    index = VectorIndex(entries_max=100_000, executor=threads)
    add(index, rows, 0, ROWS)
    assert await nearest(index, rows[0]) == "k0"
    assert index._lister is not None
    assert index._lister._is_busy is (least == ROWS)
