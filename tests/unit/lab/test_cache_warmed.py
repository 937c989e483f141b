"""Near misses against a class that has learned: what is in its stream, and what is asked of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lab.cache_data import Pairs
from lab.cache_warmed import warm_stream
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
    stream = list(warm_stream(PAIRS))
    texts = {text for text, _ in stream}
    assert texts & set(PAIRS.b) == {"open the roof, how?", "roof: how to open"}
    assert len(texts) == len(stream)
    assert sum(name == PAIRS.a[0] for _, name in stream) == 12


def test_each_half_of_a_file_is_reported_apart(tmp_path: Path) -> None:
    rows = [{"a": "a", "b": str(n), "same": n % 2, "half": half} for half in ("one", "two") for n in range(3)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(half, pairs.b, pairs.same.tolist()) for half, pairs in by_half(path)] == [
        ("one", ("0", "1", "2"), [False, True, False]),
        ("two", ("0", "1", "2"), [False, True, False]),
    ]
