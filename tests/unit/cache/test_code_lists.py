"""Codes in inverted lists: what they find beside a scan of all codes, and that they hold the rows that they should."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import SECOND_LOOKS
from services.cache.index.sign_codes import CODE_BYTES, SignCoder, nearest_codes
from tests.support.indexed_rows import WIDTH, unit_rows


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


@settings(max_examples=20)
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
