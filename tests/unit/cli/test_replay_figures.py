"""The replay's arithmetic, against figures worked out by hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.chat import Message, Role
from spillway.cli.recording import RecordedAnswer, RecordedRow, RecordingError, read_rows, sample
from spillway.cli.replay_figures import Result, figures, figures_by_task, judged
from spillway.intervals import paired_difference, wilson
from spillway.routing import CacheKind, CacheOutcome, CostSummary
from tests.support.jobs_parts import completion

ROW = RecordedRow("r1", "gsm", "2+2?", {"cheap": RecordedAnswer(" 4 \n", True), "big": RecordedAnswer("5", False)})
ANSWER = completion("4", target="cheap-1", model="cheap", cost=CostSummary(10, 100, "big-1"), escalations=1)


def result(task: str, *, correct: bool, cost: int, latency_s: float, tier: str = "simple", **other: object) -> Result:
    made = Result("id", task, correct, latency_s, cost_nanousd=cost, tier=tier, accepted=True)
    return replace(made, **other)  # type: ignore[arg-type]


def test_an_answer_is_right_when_it_is_the_models_own_recorded_right_answer() -> None:
    found = judged(ROW, ANSWER, 0.5)
    assert (found.correct, found.mismatch, found.cost_nanousd, found.flagship_cost_nanousd) == (True, False, 10, 100)
    assert (found.latency_s, found.escalations, found.hit) == (0.5, 1, False)


def test_a_recorded_wrong_answer_is_wrong() -> None:
    found = judged(ROW, replace(ANSWER, model="big", message=Message.of(Role.ASSISTANT, "5")), 0.5)
    assert (found.correct, found.mismatch) == (False, False)


@pytest.mark.parametrize(("model", "text"), [("cheap", "4!"), ("cheap", "5"), ("unheard-of", "4")])
def test_a_text_that_was_not_recorded_for_that_model_is_wrong_and_reported(model: str, text: str) -> None:
    found = judged(ROW, replace(ANSWER, model=model, message=Message.of(Role.ASSISTANT, text)), 0.5)
    assert (found.correct, found.mismatch) == (False, True)


@pytest.mark.parametrize("kind", [CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT])
def test_both_kinds_of_hit_count(kind: CacheKind) -> None:
    assert judged(ROW, replace(ANSWER, cache=CacheOutcome(kind)), 0.5).hit


def test_figures_by_hand() -> None:
    routed = [
        result("a", correct=True, cost=10, latency_s=0.1),
        result("a", correct=False, cost=30, latency_s=0.4, tier="complex", escalations=1, fallbacks=2),
        result("a", correct=True, cost=10, latency_s=0.2, mismatch=True, accepted=False),
        result("b", correct=True, cost=0, latency_s=0.3, hit=True),
        result("b", correct=False, cost=0, latency_s=9.0, tier="", accepted=False, error="NO_MODEL_AVAILABLE"),
    ]
    flagship = [
        result("a", correct=True, cost=40, latency_s=1, tier="complex"),
        result("a", correct=True, cost=40, latency_s=1, tier="complex"),
        result("a", correct=False, cost=40, latency_s=1, tier="complex"),
        result("b", correct=True, cost=80, latency_s=1, tier="complex"),
        result("b", correct=False, cost=0, latency_s=1, tier="", error="DEADLINE_EXCEEDED"),
    ]
    a, b, mix = figures_by_task(routed, flagship)
    assert [one.task for one in (a, b, mix)] == ["a", "b", "mix"]
    assert (a.prompts, b.prompts, mix.prompts) == (3, 2, 5)
    assert a.accuracy.value == pytest.approx(2 / 3)
    assert mix.accuracy.value == pytest.approx(3 / 5)
    assert mix.flagship_accuracy is not None
    assert mix.flagship_accuracy.value == pytest.approx(3 / 5)
    assert mix.accuracy_difference is not None
    assert mix.accuracy_difference.value == 0
    assert (mix.cost_nanousd, mix.flagship_cost_nanousd) == (50, 200)
    assert mix.savings == pytest.approx(0.75)
    assert mix.tier_mix == {"simple": 3, "complex": 1}
    assert mix.escalation_rate == pytest.approx(1 / 5)
    assert (mix.fallbacks, mix.cache_hits) == (2, 1)
    assert (mix.unproven, mix.mismatches, mix.errors, mix.flagship_errors) == (1, 1, {"NO_MODEL_AVAILABLE": 1}, 1)
    assert (mix.latency_p50_s, mix.latency_p95_s) == (0.3, 9.0)
    assert a.latency_p50_s == 0.2


def test_without_a_second_pass_the_suites_estimate_is_compared() -> None:
    found = figures("a", [result("a", correct=True, cost=10, latency_s=1, flagship_cost_nanousd=40)], None)
    assert found.flagship_cost_nanousd == 40
    assert found.savings == pytest.approx(0.75)
    assert found.flagship_accuracy is None


def test_nothing_spent_on_the_flagship_means_no_savings_figure() -> None:
    assert figures("a", [result("a", correct=True, cost=10, latency_s=1)], None).savings is None


# Reference values computed from the formulas with a calculator: 8 of 10 is Wilson (0.4902, 0.9433).
def test_wilson_by_hand() -> None:
    found = wilson(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.49016, abs=5e-5)
    assert found.high == pytest.approx(0.94332, abs=5e-5)


def test_wilson_at_the_edges() -> None:
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)
    assert wilson(0, 5).high == pytest.approx(0.43449, abs=5e-5)  # z²/(n+z²)


def test_a_difference_by_hand() -> None:
    # Shares 0.8 and 0.8; association 8*2 - 10/2 = 11 over sqrt(8*2*8*2) = 16: phi 0.6875. Wilson's margins are
    # 0.30984 below and 0.14332 above: sqrt(0.30984² - 2*0.6875*0.30984*0.14332 + 0.14332²) = 0.23555.
    found = paired_difference(8, 0, 0, 2)
    assert found.value == 0
    assert found.low == pytest.approx(-0.23555, abs=1e-4)
    assert found.high == pytest.approx(0.23555, abs=1e-4)


def test_a_published_difference() -> None:
    # Fagerland, Lydersen and Laake (2014), airway hyper-responsiveness, Newcombe's square-and-add: -0.507 to -0.026.
    found = paired_difference(1, 1, 7, 12)
    assert found.value == pytest.approx(-6 / 21)
    assert found.low == pytest.approx(-0.507, abs=5e-4)
    assert found.high == pytest.approx(-0.026, abs=5e-4)


counts = st.integers(0, 300)


@given(counts, counts, counts, counts)
def test_the_difference_lies_in_its_interval_and_mirrors(both: int, first: int, second: int, neither: int) -> None:
    if both + first + second + neither == 0:
        return
    found, mirrored = paired_difference(both, first, second, neither), paired_difference(both, second, first, neither)
    assert -1.0000001 <= found.low <= found.value <= found.high <= 1.0000001
    assert found.low == pytest.approx(-mirrored.high)


def line(number: int, **other: object) -> str:
    row = {"id": f"r{number}", "task": "t", "prompt": f"p{number}", "answers": {"m": {"text": "x", "correct": True}}}
    return json.dumps({**row, **other})


def test_rows_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_text(f"{line(1, gold='g')}\n\n{line(2)}\n")
    packed.write_bytes(gzip.compress(line(3).encode()))
    rows = read_rows([plain, packed])
    assert [row.row_id for row in rows] == ["r1", "r2", "r3"]
    assert rows[0].answers == {"m": RecordedAnswer("x", True)}


@pytest.mark.parametrize(
    "bad", ["nonsense", "[1]", line(2, prompt=3), line(2, answers={"m": {"text": 1}}), "[" * 99999]
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line(1)}\n{bad}\n")
    with pytest.raises(RecordingError, match=r"a\.jsonl, line 2: "):
        read_rows([path])


def test_a_broken_gzip_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(RecordingError, match=r"a\.jsonl\.gz"):
        read_rows([path])


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    rows = [replace(ROW, row_id=str(number)) for number in range(100)]
    assert sample(rows, 10, 1) == sample(rows, 10, 1) != sample(rows, 10, 2)
    assert len(sample(rows, 10, 1)) == 10
    assert sample(rows, None, 1) == sample(rows, 1000, 1) == rows
