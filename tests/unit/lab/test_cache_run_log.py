"""Runs that are kept, and near misses held against whole answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab.cache_data import CacheDataError, Pairs, Stream
from lab.cache_run_log import RunLog, Task, fingerprint
from lab.cache_runs import Run
from lab.cache_stream import PACKAGED_MODEL
from lab.cache_whole_answers import whole_answers
from services.cache.matching.pair_model import parse_pair_model

DONE: Task = ("one threshold", 0.9, 3)
LEFT: Task = ("one threshold", 0.9, 4)


def test_what_was_done_is_not_done_again_in_the_next_sitting(tmp_path: Path) -> None:
    first = RunLog(tmp_path / "runs", "x")
    first.add(DONE, Run(0.4, 0.001, 0.002, covered=False))
    second = RunLog(tmp_path / "runs", "x")
    assert second.missing([DONE, LEFT, LEFT]) == [LEFT]
    assert second.runs([DONE]) == first.runs([DONE]) == [Run(0.4, 0.001, 0.002, covered=False)]


@pytest.mark.parametrize("text", ['{"of": "y"}\n', "{\n", '{"of": "x"}\n{"way": "a"}\n', '{"of": "x"}\n[]\n'])
def test_runs_of_something_else_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs").write_text(text)
    with pytest.raises(CacheDataError):
        RunLog(tmp_path / "runs", "x")


def test_another_stream_limit_or_model_has_another_fingerprint() -> None:
    stream = Stream(("a", "b"), np.array([0, 1]))
    others = [
        fingerprint(Stream(("a", "c"), np.array([0, 1])), limit=0.005, model="m"),
        fingerprint(Stream(("a", "b"), np.array([0, 0])), limit=0.005, model="m"),
        fingerprint(stream, limit=0.01, model="m"),
        fingerprint(stream, limit=0.005, model="n"),
    ]
    assert len({fingerprint(stream, limit=0.005, model="m"), *others}) == 5


def test_a_near_miss_is_held_against_every_question_of_the_answer() -> None:
    pairs = Pairs(
        ("How do I turn on the heater?",) * 3,
        ("Turn on the heater", "How do I turn off the heater?", "turn on the heater please"),
        np.array([True, False, False]),
    )
    texts = sorted({*pairs.a, *pairs.b})
    model = parse_pair_model(PACKAGED_MODEL.read_bytes())
    vectors = np.full((len(texts), 384), 384**-0.5, np.float32)
    found = whole_answers(pairs, vectors, texts, model)
    assert (found.near_misses, found.passed) == (2, 1)
    assert found.served <= found.served_lifted <= found.passed
