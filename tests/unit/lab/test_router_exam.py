"""Splits that stay, comparisons on the same rows, thresholds for a share of traffic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lab.curves import can_draw, curves_png, curves_text, reliability_text
from lab.router_exam import ExamError, compare, examine, held_out, lacking
from lab.router_outcomes import RouterData
from lab.router_scores import Scores, baselines
from lab.router_text import exam_text
from lab.share_of_traffic import share_at, threshold_for

SEED = 5

Floats = npt.NDArray[np.float64]


def data_of(weak: Floats, strong: float = 1.0) -> RouterData:
    texts = [f"prompt {'x' * (number % 7)}" for number in range(len(weak))]
    outcomes = np.stack([weak, np.full(len(weak), strong)], axis=1)
    return RouterData.of(texts, np.zeros((len(weak), 4), dtype=np.float32), ("simple", "complex"), outcomes)


def judges(count: int = 600) -> tuple[RouterData, Scores, Scores, Scores]:
    """Rows, and judges of them: a good one, one that only guesses, and the good one with all it says turned around."""
    generator = np.random.default_rng(SEED)
    p = generator.uniform(0.05, 0.95, size=(count, 1))
    weak = (generator.random(count) < p[:, 0]).astype(np.float64)
    noise = generator.random((count, 1))
    good, guess = Scores("good", 1.0 - p, p), Scores("guess", noise, np.full((count, 1), weak.mean()))
    return data_of(weak), good, guess, Scores("contrary", p, 1.0 - p)


def test_near_duplicates_are_held_out_together_and_the_share_is_about_kept() -> None:
    generator = np.random.default_rng(SEED)
    group = np.arange(4_000) // 2
    out = held_out(group, generator.integers(0, 2**63, 4_000).astype(np.uint64), 0.25, seed=SEED)
    assert (out[0::2] == out[1::2]).all()
    assert out.mean() == pytest.approx(0.25, abs=0.04)


def test_what_is_held_out_once_is_held_out_again_when_the_log_has_grown() -> None:
    prints = np.random.default_rng(SEED).integers(0, 2**63, 2_000).astype(np.uint64)
    before = held_out(np.arange(1_000), prints[:1_000], 0.3, seed=SEED)
    # The same rows, later in a longer file and under other numbers of groups.
    after = held_out(np.arange(2_000), np.concatenate([prints[1_000:], prints[:1_000]]), 0.3, seed=SEED)
    assert (before == after[1_000:]).all()
    assert (before != held_out(np.arange(1_000), prints[:1_000], 0.3, seed=SEED + 1)).any()


def test_a_judge_that_orders_worse_is_worse_and_one_that_orders_better_is_not() -> None:
    data, good, guess, contrary = judges()
    (found,) = compare(contrary, good, data, seed=SEED)
    assert "APGR of tier simple is lower" in found.worse
    assert found.apgr.high < 0.0
    (found,) = compare(good, contrary, data, seed=SEED)
    assert not found.worse
    (found,) = compare(good, good, data, seed=SEED)
    assert (found.worse, found.apgr.value, found.rows) == ("", 0.0, 600)
    assert compare(guess, good, data, seed=SEED)[0].worse


def test_a_judge_with_the_same_order_and_worse_probabilities_is_worse() -> None:
    data, good, _, _ = judges()
    boastful = Scores("boastful", good.need, np.sqrt(np.asarray(good.probabilities)))
    (found,) = compare(boastful, good, data, seed=SEED)
    assert found.apgr.value == 0.0
    assert "ECE of tier simple is greater" in found.worse


def test_the_exam_has_every_judge_on_the_same_rows_and_counts_what_it_assumes() -> None:
    data, good, guess, _ = judges()
    unknown = data.outcomes.copy()
    unknown[:50, 1] = np.nan
    data = RouterData.of(data.texts, data.vectors, data.tiers, unknown)
    all_judges = (good, guess, *baselines(data, SEED + 1))
    exam = examine(all_judges, data, ["other"] * 600, costs=np.asarray([1.0, 5.0]), seed=SEED)
    assert exam.assumed == 50
    found = {judge.name: judge.reports["simple"] for judge in exam.judges}
    assert list(found) == ["good", "guess", "length alone", "random", "oracle"]
    assert {report.rows for report in found.values()} == {600}
    assert found["guess"].apgr.value < found["good"].apgr.value < found["oracle"].apgr.value
    assert found["random"].apgr.low < 0.5 < found["random"].apgr.high
    assert found["good"].ece.value < 0.08
    assert (found["good"].curve[0].cost, found["good"].curve[-1].cost) == (1.0, 5.0)
    text = exam_text(exam, data.tiers, "good")
    assert "complex was not asked in 50" in text
    assert "length alone" in text


def test_where_the_dearest_tier_is_no_better_there_is_nothing_to_examine() -> None:
    alike, few = data_of(np.ones(100)), data_of(np.zeros(20))
    with pytest.raises(ExamError, match="nothing to route"):
        examine(baselines(alike, SEED), alike, ["other"] * 100, costs=None, seed=SEED)
    with pytest.raises(ExamError, match="20 held-out prompts"):
        examine(baselines(few, SEED), few, ["other"] * 20, costs=None, seed=SEED)


def test_a_tier_of_which_the_rows_tell_nothing_is_left_out_and_said() -> None:
    generator = np.random.default_rng(SEED)
    weak = (generator.random(200) < 0.5).astype(np.float64)
    thin = np.where(np.arange(200) < 20, 0.0, np.nan)
    outcomes = np.stack([weak, np.ones(200), thin, np.ones(200)], axis=1)
    data = RouterData.of(["p"] * 200, np.zeros((200, 4), dtype=np.float32), ("a", "b", "c", "d"), outcomes)
    exam = examine(baselines(data, SEED), data, ["other"] * 200, costs=None, seed=SEED)
    assert [list(judge.reports) for judge in exam.judges] == [["a"]] * 3
    assert [sentence for sentence in exam.left_out if "d is no better than b" in sentence]
    assert [sentence for sentence in exam.left_out if "20 held-out prompts have an outcome of tier c" in sentence]
    assert all(sentence in exam_text(exam, data.tiers, "random") for sentence in exam.left_out)
    first, second = baselines(data, SEED + 1)[:2]
    found = compare(first, second, data, seed=SEED)
    assert (found[0].worse, found[1].worse, np.isnan(found[1].apgr.value)) == ("", "", True)


def test_a_judge_that_only_guesses_is_of_no_use_and_one_that_length_beats_neither() -> None:
    data, good, guess, _ = judges()
    exam = examine((good, guess), data, ["other"] * 600, costs=None, seed=SEED)
    assert not lacking(exam.judges[0], compare(good, guess, data, seed=SEED))
    assert "not shown to order prompts better than chance" in lacking(exam.judges[1], ())
    blurred = Scores("blurred", good.need + np.random.default_rng(SEED).normal(size=good.need.shape))
    exam = examine((blurred,), data, ["other"] * 600, costs=None, seed=SEED)
    assert exam.judges[0].reports["simple"].apgr.low > 0.5
    assert "prompt length orders them better" in lacking(exam.judges[0], compare(blurred, good, data, seed=SEED))


def test_curves_are_drawn_with_plain_characters() -> None:
    data, good, guess, _ = judges()
    exam = examine((good, guess), data, ["other"] * 600, costs=None, seed=SEED)
    reports = {judge.name: judge.reports["simple"] for judge in exam.judges}
    drawn = curves_text({name: report.curve for name, report in reports.items()})
    assert drawn.isascii()
    assert "a good  b guess" in drawn
    assert max(map(len, drawn.splitlines())) <= 100
    assert "=" in reliability_text(reports["good"].reliability)
    if can_draw():
        png = curves_png({"good": reports["good"].curve}, {"good": reports["good"].reliability}, "title")
        assert png.startswith(b"\x89PNG")


def said(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Three tiers, the middle one at these values."""
    return np.stack([values / 2.0, values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_a_threshold_sends_the_share_that_was_asked_for(share: float) -> None:
    values = np.random.default_rng(SEED).uniform(0.1, 0.9, 1_000)
    found = threshold_for(said(values), share, seed=SEED)
    assert found.share.value == pytest.approx(share, abs=0.002)
    assert (values < found.threshold).mean() == found.share.value
    assert sum(found.mix) == pytest.approx(1.0)
    assert found.mix[-1] == found.share.value
    assert share_at(said(values), found.threshold, seed=SEED) == found


def test_equal_probabilities_are_not_parted() -> None:
    found = threshold_for(said(np.repeat([0.3, 0.6], 50)), 0.2, seed=SEED)
    assert found.share.value in {0.0, 0.5}


def test_the_interval_of_the_share_holds_for_other_prompts_of_the_kind() -> None:
    generator = np.random.default_rng(SEED)
    inside = 0
    for _ in range(200):
        found = threshold_for(said(generator.random(200)), 0.2, seed=SEED)
        # Uniform values: the true share below a threshold is the threshold.
        inside += found.share.low <= found.threshold <= found.share.high
    # 95 % of 200, less four standard deviations.
    assert inside >= 178
