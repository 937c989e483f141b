"""Embedding sets of texts once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.embeddings import BATCH_TEXTS, embed_all, embed_cached


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
