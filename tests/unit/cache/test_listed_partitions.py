"""Large partitions' codes in inverted lists: they are in step with the rows, and made when it pays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.index import code_lists, vector_index
from services.cache.index.partition_rows import EXACT_ROWS_MAX, STALE_ROWS_MAX
from services.cache.index.vector_index import VectorIndex
from tests.support.cache_parts import MODEL
from tests.support.indexed_rows import ROWS, add, add_at_once, listed, lists_of, nearest, unit_rows
from tests.support.waiting import until


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

    await until(is_listed, what="the lists are made")


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


@settings(max_examples=25)
@given(steps)
async def test_whatever_was_added_and_removed_a_lookup_by_lists_finds_it_or_does_not(
    done: list[tuple[str, int]],
) -> None:
    rows = unit_rows(EXACT_ROWS_MAX + 400)
    first = EXACT_ROWS_MAX
    with (
        ThreadPoolExecutor(1) as pool,
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
