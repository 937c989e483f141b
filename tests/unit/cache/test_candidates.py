"""What a search found, in columns."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.index.candidates import NO_CANDIDATES, Candidates

FOUND = Candidates(["a", "b", "c"], [0.9, 0.8, 0.7], np.eye(3, dtype=np.float32), [2, 0, 1])


def test_each_has_its_own_row_of_the_matrix() -> None:
    assert [(each.key, each.similarity, each.vector.tolist()) for each in FOUND] == [
        ("a", 0.9, [0.0, 0.0, 1.0]),
        ("b", 0.8, [1.0, 0.0, 0.0]),
        ("c", 0.7, [0.0, 1.0, 0.0]),
    ]
    assert FOUND.vectors.tolist() == [each.vector.tolist() for each in FOUND]


def test_what_is_left_without_some_keeps_its_order_and_its_vectors() -> None:
    left = FOUND.without({"b", "elsewhere"})
    assert left.keys == ["a", "c"]
    assert left.similarities == [0.9, 0.7]
    assert left.vectors.tolist() == [FOUND[0].vector.tolist(), FOUND[2].vector.tolist()]
    assert FOUND.without(()).keys == FOUND.keys


def test_a_part_is_as_the_whole() -> None:
    part = FOUND[1:]
    assert [each.key for each in part] == ["b", "c"]
    assert part.vectors.tolist() == FOUND.vectors[1:].tolist()


def test_of_none_there_is_nothing() -> None:
    assert len(NO_CANDIDATES) == 0
    assert len(NO_CANDIDATES.vectors) == 0
    with pytest.raises(IndexError):
        NO_CANDIDATES[0]
