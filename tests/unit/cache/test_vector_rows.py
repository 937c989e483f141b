"""The growing matrix, against a list of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.index.vector_rows import ChunkedRows, widened


def row(number: int) -> np.ndarray:
    return np.full(3, number, np.float32)


steps_of_a_matrix = st.one_of(st.integers(0, 1_000), st.just(-1), st.lists(st.integers(0, 1_000), max_size=11))


@given(st.lists(steps_of_a_matrix, max_size=80), st.lists(st.integers(0, 80), max_size=3))
def test_rows_and_pictures_of_them_agree_with_a_list(steps: list[int | list[int]], freeze_at: list[int]) -> None:
    rows = ChunkedRows(3, np.float32, 4)
    model: list[int] = []
    pictures = []
    for at, number in enumerate(steps):
        if at in freeze_at:
            pictures.append((list(model), rows.freeze()))
        if isinstance(number, list):
            rows.extend(np.array([row(each) for each in number], np.float32).reshape(-1, 3))
            model += number
        elif number >= 0 and model and number % 3 == 0:
            rows[number % len(model)] = row(number)
            model[number % len(model)] = number
        elif number >= 0:
            rows.append(row(number))
            model.append(number)
        elif model:
            rows.pop()
            model.pop()
        assert [int(each[0]) for chunk in rows.chunks() for each in chunk] == model
        assert rows.take(range(len(model)))[:, 1].tolist() == model
        assert rows.bytes_held <= 12 * (len(model) + 4 + 3)
    for expected, chunks in pictures:
        assert [int(each[0]) for chunk in chunks for each in chunk] == expected


def test_chunks_are_powers_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        ChunkedRows(3, np.float32, 3)


def test_halves_are_widened_as_numpy_does_it_bit_for_bit() -> None:
    every = np.arange(65_536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(2, -1)
    assert np.array_equal(widened(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))
