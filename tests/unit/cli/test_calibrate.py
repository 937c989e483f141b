"""`spillway calibrate gates` as a user runs it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lab import calibrate_cache, calibrate_gates
from services.executor.gates.calibration import load

ROWS = 160
SEED = 7


def calibrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spillway.cli", "calibrate", "gates", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def recorded(path: Path) -> None:
    """Sums, of which one model gets four in five right and the other nine in ten."""
    chance = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            one, other = chance.randrange(10, 99_999), chance.randrange(10, 99_999)
            answers = {}
            for model, right in (("weak", 0.8), ("other", 0.9)):
                said = one + other if chance.random() < right else one + other + chance.randrange(1, 9)
                correct = said == one + other
                answers[model] = {
                    "text": f"{one} + {other} = {said}\n#### {said}",
                    "parsed": str(said),
                    "correct": correct,
                }
            prompt = (
                f"{chance.choice(['Ann', 'Bob', 'Eve'])} has {one} coins and finds {other} more. How many are there?"
            )
            row = {"id": str(number), "task": "gsm", "prompt": prompt, "gold": str(one + other), "answers": answers}
            file.write(json.dumps(row) + "\n")


def test_it_fits_reports_and_writes_what_the_executor_loads(tmp_path: Path) -> None:
    data, weights = tmp_path / "recorded.jsonl", tmp_path / "weights.json"
    recorded(data)
    run = calibrate(
        str(data), "--answer", "weak", "--opinions", "other", "--folds", "2", "--seed", "3", "--out", str(weights)
    )
    assert run.returncode == 0, run.stderr
    assert "agrees_first" in run.stdout
    assert "AUROC" in run.stdout
    assert load(weights).heads


def test_a_file_that_is_not_there_is_a_sentence_and_a_failure(tmp_path: Path) -> None:
    run = calibrate(str(tmp_path / "none.jsonl"))
    assert run.returncode == 1
    assert "none.jsonl" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("kind", "row", "says"),
    [
        ("gates", {"question": "x"}, "rows.jsonl:2: neither a recorded run"),
        ("cache", {"a": "x", "b": "y"}, "rows.jsonl: row 2 is not a pair"),
    ],
)
def test_a_row_that_lacks_something_is_a_sentence_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, row: dict[str, str], says: str
) -> None:
    good = {"question": "x", "answer": "y", "correct": True, "a": "x", "b": "y", "same": 1}
    good.pop("answer" if kind == "cache" else "same")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (good, row)))
    main = calibrate_gates.main if kind == "gates" else calibrate_cache.main
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "Error" not in said


def test_a_missing_file_of_pairs_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate_cache.main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl cannot be read: No such file" in capsys.readouterr().err


def test_without_numpy_it_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['numpy'] = None; from spillway.cli import main; main()"
    command = [sys.executable, "-c", code, "calibrate", "gates", "x.jsonl"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "numpy is not installed" in run.stderr
    assert "Traceback" not in run.stderr
