"""The hard guards and the features on any text: total, symmetric, finite, and never talked out of a refusal."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from services.cache.differences import certain_difference, exchanged_content
from services.cache.neighbourhood import Near, evidence, propose
from services.cache.pair_features import IDF_BUCKETS, pair_features, sketch
from services.cache.proposal_guard import proposal_refusal
from services.cache.reading import read

IDF = np.full(IDF_BUCKETS, 3.0, np.float32)
SENTENCE = (
    "how do i turn the heater on off what is capital of France 5 10 not my your 'a' foo() x.y who why 3kg 東京 ?? I'm"
)
sentences = st.lists(st.sampled_from(SENTENCE.split(" ")), max_size=10).map(" ".join)
texts = st.text(max_size=60) | sentences


@given(texts, texts)
def test_guards_are_total_symmetric_and_quote_nothing(a: str, b: str) -> None:
    x, y = read(a), read(b)
    assert certain_difference(x, y) == certain_difference(y, x)
    assert exchanged_content(x, y) == exchanged_content(y, x)
    assert certain_difference(x, x) == exchanged_content(x, x) == ""


@given(texts, texts, st.floats(allow_nan=True))
def test_features_are_finite_and_the_same_both_ways(a: str, b: str, similarity: float) -> None:
    x, y = sketch(a, IDF), sketch(b, IDF)
    there = pair_features(x, y, min(max(similarity, -1.0), 1.0))
    assert np.isfinite(there).all()
    np.testing.assert_array_equal(there, pair_features(y, x, min(max(similarity, -1.0), 1.0)))


@given(sentences, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10_000))
def test_another_number_is_refused_however_well_proven_the_answer(text: str, a: int, b: int, aliases: int) -> None:
    assume(a != b)
    assert proposal_refusal(read(f"{text} {a}"), [read(f"{text} {b}")], aliases=aliases)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1, 1)), min_size=1, max_size=40), st.randoms())
def test_a_proposal_does_not_depend_on_the_order_of_what_is_near(rows: list[tuple[str, float]], random: Random) -> None:
    near = [Near(group, similarity) for group, similarity in rows]
    shuffled = near.copy()
    random.shuffle(shuffled)
    first, second = propose(near), propose(shuffled)
    assert first is not None
    assert second is not None
    assert first.group == second.group
    np.testing.assert_allclose(evidence(first, 0.0), evidence(second, 0.0))
