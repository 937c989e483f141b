"""The ways to decide a hit, side by side, on a made stream; and how runs are counted."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from lab.cache_baselines import exact_run, per_entry_run, threshold_run, verifier_run
from lab.cache_data import CacheDataError, Pairs, Stream, read_cache_file
from lab.cache_online import PairJudge, online_run
from lab.cache_pair_fit import pair_groups, recall_at
from lab.cache_runs import Run, Tally, summary
from lab.cache_stream import PACKAGED_MODEL
from lab.calibrate_cache import pair_points
from services.cache.matching.pair_model import parse_pair_model
from services.cache.matching.risk_control import RiskPolicy

TOPICS = 6
ROWS = 900


@pytest.fixture(scope="module")
def stream() -> tuple[Stream, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Questions of six topics: unit vectors around the topic's own, words of the topic."""
    rng = np.random.default_rng(3)
    answers = rng.integers(0, TOPICS, ROWS)
    middles = rng.normal(size=(TOPICS, 16))
    vectors = middles[answers] + rng.normal(scale=0.9, size=(ROWS, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = ("card", "parcel", "login", "refund", "invoice", "garden")
    texts = tuple(f"tell me about my {words[a]} {'please ' * (i % 3)}now{'?' * (i % 2)}" for i, a in enumerate(answers))
    return Stream(texts, answers), vectors.astype(np.float32)


class Lenient:
    """A judge to whom all are the same."""

    def logit(self, a: int, b: int, similarity: float) -> float:
        return 9.0

    def refusal(self, asked: int, stored: object, aliases: int) -> str:
        return ""


def test_exact_match_serves_only_what_was_stored() -> None:
    run = exact_run(("a b", "A  b", "c"), np.array([1, 1, 2]), [0, 1, 2])
    assert run.hits == pytest.approx(1 / 3)
    assert run.wrong == 0.0


def test_the_lower_a_threshold_the_more_hits_and_wrong_answers() -> None:
    similarities = np.array([[1, 0.9, 0.6], [0.9, 1, 0.5], [0.6, 0.5, 1]], np.float32)
    answers = np.array([0, 0, 1])
    runs = [threshold_run(similarities, answers, [0, 1, 2], bar) for bar in (0.95, 0.8, 0.4)]
    assert [round(3 * run.hits) for run in runs] == [0, 1, 2]
    assert [round(3 * run.wrong) for run in runs] == [0, 0, 1]


def test_a_verifier_without_doubt_is_the_nearest_neighbour() -> None:
    similarities = np.ones((3, 3), np.float32)
    run = verifier_run(similarities, np.array([0, 0, 1]), [0, 1, 2], 0.0, Lenient())
    assert (round(3 * run.hits), round(3 * run.wrong)) == (2, 1)


def test_a_per_entry_rule_serves_nothing_that_it_never_checked(
    stream: tuple[Stream, np.ndarray[tuple[int, int], np.dtype[np.float32]]],
) -> None:
    questions, vectors = stream
    order = list(range(ROWS))
    strict = per_entry_run(vectors @ vectors.T, questions.answers, order, 1e-6, Random(1))
    loose = per_entry_run(vectors @ vectors.T, questions.answers, order, 0.05, Random(1))
    assert strict.hits < 0.01
    assert loose.hits > strict.hits


def test_online_control_learns_a_stream_and_is_the_same_for_the_same_seed(
    stream: tuple[Stream, np.ndarray[tuple[int, int], np.dtype[np.float32]]],
) -> None:
    questions, vectors = stream
    judge = PairJudge(parse_pair_model(PACKAGED_MODEL.read_bytes()), questions.texts, np.zeros((ROWS, 384), np.float32))
    similarities = vectors @ vectors.T
    runs = [online_run(similarities, questions.answers, judge, RiskPolicy(0.03), seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert all(run.hits > 0.05 and run.worst <= 0.03 for run in runs)


def test_the_worst_point_is_looked_for_after_the_first_lookups() -> None:
    early, late = Tally(), Tally()
    for number in range(1_000):
        early.add(hit=True, wrong=number < 3)
        late.add(hit=True, wrong=number >= 997)
    assert early.run().worst == pytest.approx(3 / 500)
    assert late.run().worst == pytest.approx(3 / 1_000)


def test_a_summary_counts_the_orders_that_held() -> None:
    told = summary([Run(0.4, 0.001, 0.004), Run(0.6, 0.003, 0.006)], 0.005)
    assert (told.held, told.orders, told.worst) == (1, 2, 0.006)
    assert told.hits == pytest.approx(0.5)
    assert told.hits_half == pytest.approx(1.96 * np.std([0.4, 0.6], ddof=1) / np.sqrt(2))


def test_recall_is_of_what_lies_above_the_allowed_false_ones() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    same = np.array([True, False, True, False, True])
    assert recall_at(scores, same, 0.0) == pytest.approx(1 / 3)
    assert recall_at(scores, same, 0.5) == pytest.approx(2 / 3)
    assert recall_at(scores, same, 1.0) == 1.0


def test_pairs_that_are_linked_by_a_question_are_of_one_group() -> None:
    groups = pair_groups(Pairs(("a", "c", "x"), ("b", "b", "y"), np.array([True, False, True])))
    assert groups[0] == groups[1] != groups[2]


def test_every_way_is_reported_with_its_shares() -> None:
    rng = np.random.default_rng(1)
    same = rng.random(400) < 0.5
    pairs = Pairs(tuple(map(str, range(400))), tuple(map(str, range(400))), same)
    similarity = np.where(same, 0.9, 0.3)
    points = pair_points(
        pairs, similarity, similarity, np.ones(400, np.bool_), {"similarity": [0.5], "verifier": [0.5]}, seed=1
    )
    found = {point.way: (point.hits[0], point.wrong[0]) for point in points}
    assert found["exact match"] == (1.0, 1.0)
    assert found["one threshold"] == found["guards, verifier"] == (1.0, 0.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '[{"a": 1, "b": "x", "same": 1}]', '[{"a": "x", "b": "y", "same": 2}]']
)
def test_what_is_neither_pairs_nor_a_stream_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(CacheDataError):
        read_cache_file(path)
