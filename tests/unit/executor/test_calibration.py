"""The composite's probability: computed by hand on a small model, whole without any signal, refused when damaged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.gates.calibration import (
    BASELINE,
    DEFAULT_HEAD,
    Calibration,
    CalibrationError,
    Head,
    Logistic,
    Scaling,
    load,
    parse,
    serialise,
    threshold_for_cost,
)
from services.executor.gates.observation import Observed, observe
from services.executor.gates.signals import NAMES, Signals
from spillway.routing import TaskType

SIZE = len(NAMES)


def row(**named: float) -> tuple[float, ...]:
    return tuple(named.get(name, 0.0) for name in NAMES)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


SCALING = Scaling(row(agrees_first=0.5), tuple(0.5 for _ in NAMES), (("agrees_first", "hedges"),))
SHARED = Logistic(0.25, row(agrees_first=1.0, hedges=-0.5), row(agrees_first=-0.3), (0.125,))
MATH = Logistic(2.0, row(), row(), (0.0,))
HAND_MADE = Calibration("hand-made", SCALING, {DEFAULT_HEAD: Head({None: SHARED, TaskType.MATH: MATH})})


def test_the_log_odds_are_the_bias_and_what_each_present_signal_adds() -> None:
    p, contributions = HAND_MADE.p_acceptable(Signals(agrees_first=1.0, hedges=0.5), None)
    # z = 1 for both: 0.25 + 1 - 0.5 + 0.125 * 1 * 1
    assert p == pytest.approx(sigmoid(0.875))
    assert [(c.signal, c.log_odds) for c in contributions] == [("agrees_first", 1.125), ("hedges", -0.5)]


def test_a_missing_signal_adds_what_its_absence_is_worth() -> None:
    p, contributions = HAND_MADE.p_acceptable(Signals(hedges=0.5), None)
    assert p == pytest.approx(sigmoid(0.25 - 0.3 - 0.5))
    assert contributions[0].signal == "hedges"


def test_a_task_type_has_its_own_model_and_all_others_share_one() -> None:
    assert HAND_MADE.p_acceptable(Signals(), TaskType.MATH)[0] == pytest.approx(sigmoid(2.0))
    assert HAND_MADE.p_acceptable(Signals(), TaskType.CODE) == HAND_MADE.p_acceptable(Signals(), None)


def test_an_unknown_head_means_the_default_one() -> None:
    assert HAND_MADE.assess(Signals(), None, "no such") == HAND_MADE.assess(Signals(), None)


def test_a_far_value_counts_no_more_than_four_deviations() -> None:
    far = HAND_MADE.p_acceptable(Signals(hedges=2.0), None)[0]
    farther = HAND_MADE.p_acceptable(Signals(hedges=1e9), None)[0]
    assert far == farther


def test_a_reason_names_signals_and_quotes_nothing() -> None:
    assert HAND_MADE.assess(Signals(agrees_first=1.0), None).reason == "agrees_first +1.0"
    assert HAND_MADE.assess(Signals(), TaskType.MATH).reason == "no signal stands out"


def test_the_threshold_makes_both_choices_equally_dear() -> None:
    # Escalating costs 2 and a wrong answer 10: below 0.8 escalating is cheaper in expectation.
    assert threshold_for_cost(2, 10) == pytest.approx(0.8)
    assert threshold_for_cost(0, 10) == 1.0
    assert threshold_for_cost(20, 10) == 0.0
    assert threshold_for_cost(1, 0) == 0.0
    with pytest.raises(ValueError, match="negative"):
        threshold_for_cost(-1, 10)


@given(st.floats(0, 1), st.floats(0, 100), st.floats(0.01, 100))
def test_the_threshold_minimises_the_expected_cost(p: float, escalate: float, wrong: float) -> None:
    take = wrong * (1 - p)
    chosen, other = (take, escalate) if p >= threshold_for_cost(escalate, wrong) else (escalate, take)
    assert chosen <= other + 1e-9 * (1 + wrong + escalate)


def test_an_artifact_says_again_what_was_written() -> None:
    assert parse(serialise(HAND_MADE, {"seed": 1})) == HAND_MADE


def test_the_shipped_artifact_knows_where_it_comes_from_and_how_good_it_is() -> None:
    assert load().heads[DEFAULT_HEAD].models[None].values
    path = Path(sys.modules[load.__module__].__file__ or "").parent.parent / "data" / "gate-builtin-1.json"
    card = json.loads(path.read_text())["card"]
    assert {"date", "data", "seed", "split", "fitted_to", "figures"} <= card.keys()
    assert "Apache-2.0" in card["data"]["note"]


def test_agreement_and_right_sums_raise_the_shipped_probability() -> None:
    def p(answer: str, *opinions: str) -> float:
        question = "A box holds 4 pens. How many pens are in 3 boxes?"
        return load().p_acceptable(observe(Observed(question, answer, TaskType.MATH, opinions)), TaskType.MATH)[0]

    text = "3 * 4 = 12\n#### 12"
    assert p(text, text) > p(text) > p(text, "3 * 5 = 15\n#### 15")
    assert p(text, text, text) > p(text, text, "#### 15") > p(text, "#### 15", "#### 15")


def test_priors_prefer_agreement_confidence_and_form() -> None:
    def p(**named: float) -> float:
        return BASELINE.p_acceptable(Signals(**named), None)[0]

    assert p(agrees_first=1.0) > p() > p(agrees_first=0.0)
    assert p(self_confidence=1.0) > p(self_confidence=0.0)
    assert p(logprob_mean=0.99) > p(logprob_mean=0.5)
    assert 0.5 < p() < 0.9


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=SIZE, max_size=SIZE))
def test_any_signals_give_a_probability(values: list[float | None]) -> None:
    for calibration in (BASELINE, HAND_MADE):
        p = calibration.p_acceptable(Signals(*values), TaskType.CODE)[0]
        assert 0 <= p <= 1


def damaged(**changes: object) -> bytes:
    document = json.loads(serialise(HAND_MADE, {}))
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        damaged(format=2),
        damaged(signals=["other"]),
        damaged(mean=None),
        damaged(mean=[0.0]),
        damaged(scale=[0.0] * SIZE),
        damaged(mean=[1e999] * SIZE),
        damaged(products=[["agrees_first", "no such"]]),
        damaged(products=[["agrees_first", "hedges"]] * 500),
        damaged(heads={}),
        damaged(heads={"other": {}}),
        damaged(heads={"default": {}}),
        damaged(heads={"default": {"no such task": {}}}),
        damaged(heads=7),
    ],
)
def test_what_is_no_whole_artifact_is_refused(raw: bytes) -> None:
    with pytest.raises(CalibrationError):
        parse(raw)


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot read"):
        load(tmp_path / "none.json")


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    path.write_bytes(b" " * 5_000_000)
    with pytest.raises(CalibrationError, match="too large"):
        load(path)


def test_the_gate_imports_no_numeric_library() -> None:
    code = "import sys, services.executor.gates.calibration; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
