"""Fits of gates: what is learned, that held-out rows stay out, and what ladders cost, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lab.answer_table import AnswerTable
from lab.calibrate_gates import main
from lab.gate_fit import Rows, as_matrix, fit_calibration, predict
from lab.gate_frontier import Option, choose
from lab.ladder import NOTE_TOKENS, Fitted, Ladder, Outcome, Rung, simulate
from services.executor.gates.calibration import BASELINE, DEFAULT_HEAD, load
from services.executor.gates.signals import NAMES, Signals
from spillway.routing import TaskType

MINI, LLAMA, SONNET = "gpt-4o-mini-2024-07-18", "Meta-Llama-3.1-70B-Instruct", "claude-3-5-sonnet-20241022"


def rows(count: int = 600, seed: int = 0) -> Rows:
    """Agreement decides, nine times in ten; hedges say nothing."""
    generator = np.random.default_rng(seed)
    agrees = generator.random(count) < 0.6
    right = np.where(generator.random(count) < 0.9, agrees, ~agrees)
    signals = [
        Signals(agrees_first=float(a), hedges=float(h)) if a is not None else Signals(hedges=float(h))
        for a, h in zip(agrees, generator.random(count), strict=True)
    ]
    tasks = [TaskType.MATH if index % 2 else TaskType.CODE for index in range(count)]
    return Rows(as_matrix(signals), right, tasks, np.ones(count))


def test_a_fit_learns_what_decides_and_is_calibrated() -> None:
    fit = fit_calibration({DEFAULT_HEAD: rows()}, version="t")
    yes, _ = fit.p_acceptable(Signals(agrees_first=1.0, hedges=0.5), None)
    no, _ = fit.p_acceptable(Signals(agrees_first=0.0, hedges=0.5), None)
    assert yes == pytest.approx(0.9, abs=0.06)
    assert no == pytest.approx(0.1, abs=0.06)


def test_a_signal_without_data_keeps_its_prior() -> None:
    fit = fit_calibration({DEFAULT_HEAD: rows()}, version="t")
    index = NAMES.index("self_confidence")
    assert fit.heads[DEFAULT_HEAD].models[None].values[index] == BASELINE.heads[DEFAULT_HEAD].models[None].values[index]
    assert fit.scaling.mean[index] == BASELINE.scaling.mean[index]


def test_many_rows_at_once_give_the_same_as_one_by_one() -> None:
    data = rows(300)
    fit = fit_calibration({DEFAULT_HEAD: data}, version="t")
    many = predict(fit.heads[DEFAULT_HEAD], fit.scaling, data)
    for index in range(0, 300, 37):
        one = Signals(*[None if np.isnan(v) else float(v) for v in data.signals[index]])
        assert fit.p_acceptable(one, data.task_types[index])[0] == pytest.approx(many[index])


def test_the_same_rows_give_the_same_weights() -> None:
    assert fit_calibration({DEFAULT_HEAD: rows()}, version="t") == fit_calibration({DEFAULT_HEAD: rows()}, version="t")


def table(correct: list[list[bool]], tokens: float = 1000.0) -> AnswerTable:
    count = len(correct)
    return AnswerTable(
        models=(MINI, LLAMA, SONNET),
        tasks=("gsm",) * count,
        task_types=(TaskType.MATH,) * count,
        alone=tuple((Signals(),) * 3 for _ in range(count)),
        agrees=np.ones((count, 3, 3), dtype=np.int8),
        correct=np.asarray(correct),
        input_tokens=np.zeros(count),
        output_tokens=np.full((count, 3), tokens),
    )


def test_a_ladder_pays_for_every_call_and_for_the_note() -> None:
    data = table([[True, True, True], [False, True, True], [False, True, False]])
    ladder = Ladder("l", (Rung(MINI, (LLAMA,), 1), Rung(SONNET)))
    p = np.array([0.9, 0.2, 0.2])
    fitted = Fitted(ladder, np.arange(3), (p,), (np.array([True, False, True]),))
    # 1,000 output tokens at sonnet cost 0.015 USD: of a wrong answer at 0.03 USD the threshold is 0.5.
    found = simulate(data, fitted, (0.03,))
    assert found.correct.tolist() == [True, True, False]
    assert found.rung.tolist() == [0, 1, 1]
    cheap, dear = 0.0006 + 0.0006, 0.015 + NOTE_TOKENS * 3e-6
    assert found.cost_usd.tolist() == pytest.approx([cheap, cheap + dear, cheap + dear])


def test_without_a_cost_of_wrong_answers_the_gate_is_agreement() -> None:
    data = table([[True, True, True]] * 2)
    ladder = Ladder("l", (Rung(MINI, (LLAMA,), 1), Rung(SONNET)))
    fitted = Fitted(ladder, np.arange(2), (np.zeros(2),), (np.array([True, False]),))
    assert simulate(data, fitted, (None,)).rung.tolist() == [0, 1]


def test_an_opinion_is_asked_only_while_the_gate_does_not_accept() -> None:
    data = table([[True, True, True]] * 2)
    ladder = Ladder("l", (Rung(MINI, (LLAMA,), 0), Rung(SONNET)))
    fitted = Fitted(ladder, np.arange(2), (np.array([0.9, 0.0]), np.array([0.0, 0.9])), (np.zeros(2, dtype=bool),) * 2)
    assert simulate(data, fitted, (0.03,)).cost_usd.tolist() == pytest.approx([0.0006, 0.0012])


def test_the_best_choice_within_the_budget_is_taken() -> None:
    def option(right: float, cost: float) -> Option:
        outcome = Outcome(np.array([right > 0, right > 1]), np.array([cost, 0.0]), np.zeros(2, dtype=np.int64))
        return Option("o", outcome, outcome)

    own = [option(0, 0.1), option(1, 0.3), option(2, 2.0)]
    everything = np.array([True, True])
    assert choose([own], [everything], flagship_usd=1.0, target=0.5) == [1]
    assert choose([own], [everything], flagship_usd=1.0, target=2.0) == [2]
    assert choose([own], [everything], flagship_usd=1.0, target=0.01) == [0]


def log_file(path: Path, count: int = 240) -> Path:
    lines = []
    for index in range(count):
        right = index % 3 != 0
        said = 4 + index if right or index % 12 == 0 else 5 + index
        lines.append(
            {
                "question": f"{' '.join(chr(97 + (index * k) % 26) * 4 for k in range(1, 9))} 2 + {2 + index}?",
                "answer": f"So it is #### {said}",
                "opinions": [f"#### {4 + index}"],
                "task_type": "math",
                "correct": right,
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_log_is_fitted_reported_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, held = tmp_path / "gate.json", tmp_path / "held.jsonl"
    file = log_file(tmp_path / "log.jsonl")
    code = main(
        [str(file), "--folds", "3", "--rounds", "60", "--out", str(out), "--holdout", str(held), "--report", "json"]
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["auroc"]["all"]["value"] > 0.8
    assert report["signals"]["agrees_first"]["low"] > 0.5
    assert any("log_question_chars" in warning or "words" in warning for warning in report["warnings"])
    fit = load(out)
    good, bad = (fit.p_acceptable(Signals(agrees_first=a), TaskType.MATH)[0] for a in (1.0, 0.0))
    assert good > bad
    card = json.loads(out.read_text())["card"]
    assert "all but the first fold" in card["fitted_to"]
    assert 40 <= len(held.read_text().splitlines()) <= 120


def test_too_little_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(log_file(tmp_path / "log.jsonl", 30))]) == 1
    assert "too few" in capsys.readouterr().err


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
