"""The made streams: the same again and again, and with the answers that they promise."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from lab.cache_data import Pairs, Stream, read_cache_file
from lab.cache_worlds import clusters, main, noisy, shop


def test_questions_that_are_linked_are_one_cluster() -> None:
    pairs = Pairs(("a", "b", "c", "d"), ("b", "c", "d", "e"), np.array([True, True, False, True]))
    assert [sorted(each) for each in clusters(pairs)] == [["a", "b", "c"], ["d", "e"]]


def test_a_shop_asks_for_few_things_in_many_words_and_always_the_same() -> None:
    rows = shop(Random(1))
    assert rows == shop(Random(1))
    assert len(rows) == len(dict(rows))
    assert len({answer for _, answer in rows}) < len(rows) / 50


def test_noise_leaves_a_question_and_no_empty_one() -> None:
    random = Random(2)
    assert all(noisy(text, random).strip() for text in ["a", "how do I pay", "x y z u v w"] for _ in range(200))


def test_what_is_written_is_a_stream(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    stream, noise = read_cache_file(tmp_path / "shop.jsonl"), read_cache_file(tmp_path / "shopnoise.jsonl")
    assert isinstance(stream, Stream)
    assert isinstance(noise, Stream)
    assert list(noise.texts) == list(stream.texts[: len(noise.texts)])


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text('{"text": "one\u2028two", "answer": "a"}\n{"text": "three\x85", "answer": "b"}\n', encoding="utf-8")
    stream = read_cache_file(path)
    assert isinstance(stream, Stream)
    assert stream.texts == ("one\u2028two", "three\x85")
