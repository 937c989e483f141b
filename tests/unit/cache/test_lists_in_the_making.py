"""While lists of codes are made: what changes meanwhile is in them, turns are short, and no lookup fails."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from services.cache.index import code_lister, partition_rows, vector_index
from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import EXACT_ROWS_MAX
from services.cache.index.vector_index import VectorIndex
from tests.support.indexed_rows import ROWS, HeldExecutor, add, add_at_once, lists_of, nearest, unit_rows


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
