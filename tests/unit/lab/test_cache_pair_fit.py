"""Fitting the pair model to made pairs, and choosing thresholds on what was held out."""

from __future__ import annotations

import numpy as np
import pytest

from lab.cache_data import Pairs
from lab.cache_pair_fit import Fitted, PairRows, fit_pair_model, mean_network, recall_at
from lab.cache_pairs import chosen
from lab.cache_terse import terse_form, terse_pairs
from lab.metrics import auroc
from services.cache.matching.pair_features import IDF_BUCKETS, NAMES
from services.cache.matching.pair_model import Network, serialise_pair_model, vector_features

ROWS = 1_200
DIMENSIONS = 4


def made_rows(seed: int, count: int = ROWS) -> PairRows:
    """Pairs whose likeness one feature and the vectors both tell a little of."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    features = rng.normal(size=(count, len(NAMES))).astype(np.float32)
    features[:, 0] += np.where(same, 1.5, -1.5)
    a = rng.normal(size=(count, DIMENSIONS)).astype(np.float32)
    b = (a + rng.normal(size=a.shape) * np.where(same, 0.3, 1.5)[:, None]).astype(np.float32)
    return PairRows(features, vector_features(a, b), same)


def fitted(rows: PairRows, seed: int, made_count: int = 9) -> Fitted:
    idf = np.ones(IDF_BUCKETS, np.float32)
    made = PairRows(rows.features[:made_count], rows.vectors[:made_count], rows.same[:made_count])
    groups = np.arange(len(rows.same))
    return fit_pair_model(
        rows, groups, idf, made=(made, groups[:made_count]), version="v", embedding_model="m", seed=seed
    )


def test_the_same_pairs_and_seed_give_the_same_artifact() -> None:
    rows = made_rows(1, 200)
    first, again, other = (serialise_pair_model(fitted(rows, seed).model, "{}") for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_pairs_that_were_held_out_are_told_apart_with_and_without_vectors() -> None:
    rows = made_rows(2)
    found = fitted(rows, 3)
    assert recall_at(found.held_out, rows.same, 0.05) > 0.5
    assert recall_at(found.held_out_text, rows.same, 0.05) > 0.3
    new = made_rows(4)
    assert recall_at(found.model.logits(new.features, new.vectors).astype(float), new.same, 0.05) > 0.5


def test_what_is_held_out_was_not_fitted_to() -> None:
    rng = np.random.default_rng(6)
    rows = made_rows(5)
    drawn = PairRows(rng.permutation(rows.features), rng.permutation(rows.vectors), rows.same)
    found = fitted(drawn, 1)
    assert auroc(found.held_out, drawn.same) == pytest.approx(0.5, abs=0.05)
    fitted_to = found.model.logits(drawn.features, drawn.vectors).astype(float)
    assert auroc(fitted_to, drawn.same) > 0.58


def test_the_mean_of_networks_is_a_network() -> None:
    rng = np.random.default_rng(7)

    def drawn(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(size=shape).astype(np.float32)

    found = [Network(drawn(5, 3), drawn(3), drawn(3), drawn(5), float(n)) for n in range(3)]
    rows = drawn(9, 5)
    expected = np.mean([network.logits(rows) for network in found], axis=0)
    np.testing.assert_allclose(mean_network(found).logits(rows), expected, rtol=1e-4, atol=1e-5)


def test_a_threshold_stays_a_standard_error_below_the_rate_that_is_meant() -> None:
    scores = np.arange(10_000.0)
    same = np.zeros(10_000, np.bool_)
    found = chosen(scores, scores, same)
    for rate, threshold in found["similarity"].items():
        share = float((scores > threshold).mean())
        assert share == pytest.approx(rate - np.sqrt(rate * (1 - rate) / 10_000), abs=2e-4)
        assert found["verifier"][rate] < threshold


@pytest.mark.parametrize(
    ("text", "terse"),
    [
        ("What is the capital of France?", "capital France"),
        ("How do I cancel order 48213?", "cancel order 48213"),
        ("capital France", ""),
        ("Why is it?", ""),
        ("What does foo_bar(x) do in this code?", ""),
    ],
)
def test_a_terse_form_keeps_the_words_of_content_or_there_is_none(text: str, terse: str) -> None:
    assert terse_form(text) == terse


def test_a_terse_question_has_the_label_and_the_group_of_its_pair() -> None:
    count = 100
    rows = Pairs(
        tuple(f"What is the capital of country {i}?" for i in range(count)),
        tuple(f"Which city is the seat of country {i}?" for i in range(count)),
        np.arange(count) % 2 == 0,
    )
    made, groups = terse_pairs(rows, np.arange(count), seed=3)
    assert len(made) == len(groups) > 0
    for a, b, is_same, group in zip(made.a, made.b, made.same, groups, strict=True):
        assert a == f"capital country {group}"
        assert (b == rows.a[group] and is_same) or (b == rows.b[group] and is_same == rows.same[group])


def test_where_no_terse_form_is_made_a_model_is_fitted_as_well() -> None:
    foreign = Pairs(("wo ist das Museum",) * 50, ("wo ist der Bahnhof",) * 50, np.zeros(50, np.bool_))
    made, groups = terse_pairs(foreign, np.zeros(50, np.int64), seed=1)
    assert len(made) == len(groups) == 0
    assert np.isfinite(fitted(made_rows(1, 200), 1, made_count=0).held_out).all()
