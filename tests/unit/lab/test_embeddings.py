"""Embedding sets of texts once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lab import embeddings
from lab.embeddings import BATCH_TEXTS, KeptVectors, embed_all, embed_cached


class _Lengths:
    """Embeds a text as its length; counts the texts it was given."""

    def __init__(self, model_id: str = "lengths/1") -> None:
        self.model_id = model_id
        self.seen = 0

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        assert len(texts) <= BATCH_TEXTS
        self.seen += len(texts)
        return np.asarray([[len(text), 1.0] for text in texts], dtype=np.float32)


TEXTS = ["x" * (37 * index % 50) for index in range(3 * BATCH_TEXTS + 1)]


def test_vectors_come_in_the_order_of_the_texts() -> None:
    assert embed_all(TEXTS, _Lengths())[:, 0].tolist() == [len(text) for text in TEXTS]
    assert len(embed_all([], _Lengths())) == 0


def test_a_set_is_embedded_once(tmp_path: Path) -> None:
    encoder = _Lengths()
    first = embed_cached(TEXTS, encoder, tmp_path)
    again = embed_cached(TEXTS, encoder, tmp_path)
    assert encoder.seen == len(TEXTS)
    np.testing.assert_array_equal(first, again)


def test_another_order_or_another_model_is_another_set(tmp_path: Path) -> None:
    embed_cached(["a", "bb"], _Lengths(), tmp_path)
    turned, other = _Lengths(), _Lengths("lengths/2")
    assert embed_cached(["bb", "a"], turned, tmp_path)[:, 0].tolist() == [2, 1]
    embed_cached(["a", "bb"], other, tmp_path)
    assert (turned.seen, other.seen) == (2, 2)


def test_texts_are_told_apart_where_they_are_joined(tmp_path: Path) -> None:
    embed_cached(["ab", "c"], _Lengths(), tmp_path)
    assert embed_cached(["a", "bc"], _Lengths(), tmp_path)[:, 0].tolist() == [1, 2]


def test_a_broken_file_is_made_again(tmp_path: Path) -> None:
    embed_cached(["a"], _Lengths(), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    assert embed_cached(["a"], _Lengths(), tmp_path).tolist() == [[1.0, 1.0]]
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def rows(*values: float) -> npt.NDArray[np.float32]:
    return np.asarray([[value, 1.0] for value in values], dtype=np.float32)


def test_of_a_log_that_has_grown_only_the_new_texts_have_no_vector_yet(tmp_path: Path) -> None:
    KeptVectors(tmp_path, "m").keep(["a", "b"], rows(1, 2))
    vectors, known = KeptVectors(tmp_path, "m").find(["new", "b", "a"], 2)
    assert known.tolist() == [False, True, True]
    np.testing.assert_array_equal(vectors[known], rows(2, 1))
    KeptVectors(tmp_path, "m").keep(["new", "b"], rows(3, 2))
    assert KeptVectors(tmp_path, "m").find(["a", "b", "new"], 2)[0][:, 0].tolist() == [1, 2, 3]
    for other in (KeptVectors(tmp_path, "other model").find(["a"], 2), KeptVectors(tmp_path, "m").find(["a"], 3)):
        assert not other[1].any()


def test_no_more_texts_are_kept_than_there_is_room_for_and_the_last_used_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "KEPT_ROWS_MAX", 3)
    kept = KeptVectors(tmp_path, "m")
    kept.keep(["a", "b"], rows(1, 2))
    kept.keep(["c", "d"], rows(3, 4))
    assert kept.find(["a", "b", "c", "d"], 2)[1].tolist() == [True, False, True, True]


@pytest.mark.parametrize("bytes_kept", [0, 10, 150, 250])
def test_a_torn_file_of_vectors_is_empty(tmp_path: Path, bytes_kept: int) -> None:
    kept = KeptVectors(tmp_path, "m")
    kept.keep(["a", "b"], rows(1, 2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:bytes_kept])
    assert not kept.find(["a", "b"], 2)[1].any()
