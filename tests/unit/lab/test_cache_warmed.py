"""Near misses against a class that has learned: what is in its stream, and what is asked of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lab.cache_data import CacheDataError, Pairs, read_broad_answers
from lab.cache_warmed import of_broad_answers, of_pairs
from lab.cache_whole_answers import by_half

PAIRS = Pairs(
    ("How do I open the roof?",) * 5,
    (
        "open the roof, how?",
        "roof: how to open",
        "How do I mend the roof?",
        "opening the roof",
        "ways to open the roof",
    ),
    np.array([True, True, False, True, True]),
)


def test_the_stream_has_half_of_the_paraphrases_and_no_near_miss() -> None:
    asked = of_pairs(PAIRS)
    texts = {text for text, _ in asked.stream}
    assert texts & set(PAIRS.b) == {"open the roof, how?", "roof: how to open"}
    assert len(texts) == len(asked.stream)
    assert sum(name == PAIRS.a[0] for _, name in asked.stream) == 12
    assert [text for _, text in asked.near_misses] == ["How do I mend the roof?"]
    assert asked.paraphrases == (("opening the roof", PAIRS.a[0]), ("ways to open the roof", PAIRS.a[0]))


def test_of_a_broad_answer_the_stored_questions_alone_are_in_the_stream(tmp_path: Path) -> None:
    row = {"answer": "roof", "stored": ["a", "b"], "near_misses": ["c"], "paraphrases": ["d"], "half": "one"}
    path = tmp_path / "broad.jsonl"
    path.write_text(json.dumps(row) + "\n")
    asked = of_broad_answers(read_broad_answers(path))
    assert asked.stream == (("a", "roof"), ("b", "roof"))
    assert asked.near_misses == (("roof", "c"),)
    assert asked.paraphrases == (("d", "roof"),)


@pytest.mark.parametrize("spoiled", [{"stored": "a"}, {"near_misses": [1]}, {"answer": None}])
def test_a_file_that_has_no_broad_answers_is_refused(tmp_path: Path, spoiled: dict[str, object]) -> None:
    row = {"answer": "roof", "stored": ["a"], "near_misses": [], "paraphrases": []}
    path = tmp_path / "broad.jsonl"
    path.write_text(json.dumps(row | spoiled) + "\n")
    with pytest.raises(CacheDataError):
        read_broad_answers(path)


def test_each_half_of_a_file_is_reported_apart(tmp_path: Path) -> None:
    rows = [{"a": "a", "b": str(n), "same": n % 2, "half": half} for half in ("one", "two") for n in range(3)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(half, pairs.b, pairs.same.tolist()) for half, pairs in by_half(path)] == [
        ("one", ("0", "1", "2"), [False, True, False]),
        ("two", ("0", "1", "2"), [False, True, False]),
    ]
