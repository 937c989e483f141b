"""The fit of the router's model: targets, determinism, and that it learns what there is to learn and no more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lab.metrics import apgr, cpt
from lab.near_duplicates import group_near_duplicates, grouped_folds, grouped_split
from lab.recorded_router import decide
from lab.routellm import corrected
from lab.router_fit import fit_router
from lab.router_outcomes import RouterData, gains_of, sufficed_of
from lab.router_report import evaluate_router, order_figures, reliability
from services.classifier.sufficiency import serialise_sufficiency
from tests.support.sufficiency_rows import easy_and_hard

NAN = float("nan")


def test_a_gain_is_what_the_dearest_tier_adds() -> None:
    outcomes = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.25, 1.0]])
    assert gains_of(outcomes).ravel().tolist() == [1.0, 0.0, -1.0, 0.0, 0.75]
    assert sufficed_of(outcomes).ravel().tolist() == [0.0, 1.0, 1.0, 1.0, 0.25]


def test_what_was_not_asked_is_unknown_unless_a_cheaper_answer_was_good() -> None:
    outcomes = np.array([[1.0, NAN, NAN], [0.0, NAN, 1.0], [NAN, 1.0, NAN], [0.0, 1.0, NAN]])
    np.testing.assert_array_equal(gains_of(outcomes), [[0.0, 0.0], [1.0, NAN], [NAN, 0.0], [1.0, 0.0]])


def test_the_model_orders_prompts_that_it_has_not_seen_and_its_probabilities_hold() -> None:
    model = fit_router(easy_and_hard(600, seed=1), version="v", embedding_model="m", seed=1)
    held = easy_and_hard(400, seed=2)
    gains, _, _ = model.judge_many(held.vectors, held.lexical)
    report = evaluate_router(
        gains[:, 0], held.outcomes, probabilities=model.probabilities(gains)[:, 0], kinds=["a", "b"] * 200, rounds=50
    )
    assert report.rows == 400
    assert report.apgr.low > 0.65
    assert report.apgr.low <= report.apgr.value <= report.apgr.high
    assert report.ece.value < 0.1
    assert [row.kind for row in report.kinds] == ["a", "b"]
    assert report.curve[0].accuracy == pytest.approx(report.weak_accuracy)
    assert report.curve[-1].accuracy == pytest.approx(report.strong_accuracy)


def test_outcomes_without_a_pattern_teach_nothing() -> None:
    rows = easy_and_hard(400, seed=3)
    shuffled = rows.outcomes[np.random.default_rng(3).permutation(len(rows))]
    data = RouterData.of(rows.texts, rows.vectors, rows.tiers, shuffled)
    model = fit_router(data, version="v", embedding_model="m", seed=1)
    held = easy_and_hard(200, seed=4)
    said = model.probabilities(model.judge_many(held.vectors, held.lexical)[0])[:, 0]
    share = float(sufficed_of(shuffled)[:, 0].mean())
    assert float(np.abs(said - share).mean()) < 0.15


def test_the_same_rows_and_seed_give_the_same_bytes() -> None:
    first, second = (
        serialise_sufficiency(fit_router(easy_and_hard(120, seed=5), version="v", embedding_model="m", seed=7))
        for _ in range(2)
    )
    assert first == second


def test_a_rare_tier_among_many_rows_is_fitted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = easy_and_hard(200, seed=9)
    outcomes = rows.outcomes.copy()
    outcomes[:140, 1] = NAN
    outcomes[outcomes[:, 0] == 1.0, 0] = 0.9  # a grade short of good says nothing of dearer tiers
    data = RouterData.of(rows.texts, rows.vectors, rows.tiers, outcomes)
    monkeypatch.setattr("lab.router_fit.SELECTION_ROWS", 50)
    model = fit_router(data, version="v", embedding_model="m", seed=1)
    easy, hard = (model.judge(rows.vectors[row], rows.texts[row]).gains for row in (0, 1))
    assert easy[0] < hard[0]
    assert easy[1] < hard[1]


def test_too_few_outcomes_of_a_tier_are_refused() -> None:
    rows = easy_and_hard(100, seed=6)
    outcomes = rows.outcomes.copy()
    outcomes[10:, 0] = NAN
    with pytest.raises(ValueError, match="outcomes"):
        fit_router(
            RouterData.of(rows.texts, rows.vectors, rows.tiers, outcomes), version="v", embedding_model="m", seed=1
        )


@pytest.mark.parametrize(
    ("vectors", "outcomes"),
    [
        (np.ones((2, 3)), np.ones((3, 2))),
        (np.full((2, 3), np.nan), np.ones((2, 2))),
        (np.ones((2, 3)), np.full((2, 2), 1.5)),
        (np.ones((2, 3)), np.ones((2, 1))),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(
    vectors: npt.NDArray[np.float32], outcomes: npt.NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="must"):
        RouterData.of(["a", "b"], vectors, ["t"] * outcomes.shape[1], outcomes)


def test_near_duplicates_by_words_or_by_meaning_share_a_group() -> None:
    texts = [
        "How many apples do 3 boxes of 12 hold in all?",
        "How many apples do 5 boxes of 40 hold in all?",
        "x",
        "y",
        "z",
    ]
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.0, 0.02, 1], [0, 0, 1], [1, 1, 1]], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = group_near_duplicates(texts, vectors)
    assert group[0] == group[1]
    assert group[2] == group[3]
    assert len(set(group.tolist())) == 3


def test_no_group_is_split() -> None:
    group = np.repeat(np.arange(40), 3)
    train = grouped_split(group, 60, seed=1)
    assert 60 <= train.sum() <= 62
    assert not set(group[train].tolist()) & set(group[~train].tolist())
    fold = grouped_folds(group, 5, seed=1)
    assert all(len(set(fold[group == number].tolist())) == 1 for number in range(40))
    assert np.bincount(fold).tolist() == [24] * 5


def test_the_report_has_the_figures_of_the_metrics() -> None:
    generator = np.random.default_rng(8)
    need = generator.random(200)
    weak, strong = generator.random(200) < 0.5, generator.random(200) < 0.9
    gain = strong.astype(float) - weak.astype(float)
    expected = (apgr(need, weak, strong), cpt(need, weak, strong, 0.5), cpt(need, weak, strong, 0.8))
    assert order_figures(need, gain) == pytest.approx(expected)
    report = evaluate_router(need, np.stack([weak, strong], axis=1).astype(float), rounds=10)
    assert (report.apgr.value, report.cpt50.value, report.cpt80.value) == pytest.approx(expected)
    assert report.reliability == ()
    assert np.isnan(report.ece.value)


def test_rows_without_both_outcomes_are_left_out_of_a_report() -> None:
    outcomes = np.array([[0.0, 1.0], [NAN, 1.0], [1.0, NAN], [1.0, 1.0]])
    assert evaluate_router(np.arange(4.0), outcomes, rounds=2).rows == 2
    with pytest.raises(ValueError, match="no row"):
        evaluate_router(np.arange(2.0), outcomes[1:3], rounds=2)


def test_reliability_sets_what_was_said_beside_what_was() -> None:
    first, second = reliability(np.array([0.15, 0.15, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert (first.rows, first.was) == (2, 0.5)
    assert first.said == pytest.approx(0.15)
    assert (second.low, second.rows, second.was) == (0.9, 2, 1.0)


def test_a_decision_keeps_what_the_strong_tier_would_have_answered() -> None:
    outcomes = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    found = decide(np.array([0.95, 0.95, 0.2, 0.2]), outcomes, 0.9, seed=1)
    assert (found.strong_share.value, found.accuracy.value, found.kept.value) == (0.5, 0.5, -0.25)
    assert decide(np.zeros(4), outcomes, 0.9, seed=1).kept.value == 0.0


def test_answers_are_graded_by_their_last_number() -> None:
    assert corrected("so 1,040.00 in all", "work #### 1040")
    assert corrected("12 then\n#### 7\n", "#### 7")
    assert not corrected("7 apples in 2 boxes", "#### 7")
    assert not corrected("no number", "#### 7")
