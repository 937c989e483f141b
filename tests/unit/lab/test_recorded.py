"""Files of answers: what is read, what counts as a near duplicate, and that folds keep duplicates together."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lab.recorded import RecordError, folds, groups, is_recorded, read_lines, recorded, task_type_of
from spillway.routing import TaskType

ROW = {"prompt": "2 + 2?", "task": "gsm", "answers": {"small": {"text": "#### 4", "correct": True}}}


def test_plain_and_gzipped_files_are_read_alike(tmp_path: Path) -> None:
    text = json.dumps(ROW) + "\n\n"
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    rows = read_lines([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"])
    assert rows == [ROW, ROW]
    assert is_recorded(rows)
    assert recorded(rows)[0].task_type is TaskType.MATH
    assert recorded(rows)[0].correct == {"small": True}


@pytest.mark.parametrize("line", ["nonsense", "[1]"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\n" + line)
    with pytest.raises(RecordError, match=r"a\.jsonl:2"):
        read_lines([tmp_path / "a.jsonl"])


@pytest.mark.parametrize(
    "row", [{}, {"prompt": "x"}, {"prompt": "x", "answers": []}, {"prompt": "x", "answers": {"m": {}}}]
)
def test_a_row_without_its_parts_is_named(row: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="row 2"):
        recorded([ROW, row])


def test_a_row_of_a_file_is_named_by_file_and_line_and_no_exception_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + json.dumps({"prompt": "x"}))
    with pytest.raises(RecordError, match=r"a\.jsonl:3: a recorded run has a prompt, and answers") as caught:
        recorded(read_lines([path]))
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.jsonl", "plain.jsonl.gz", "bytes.jsonl"])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.jsonl.gz").write_text("{}")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match=f"{name} cannot be read: [A-Za-z]") as caught:
        read_lines([tmp_path / name])
    assert "Errno" not in str(caught.value)


def test_a_task_may_be_a_benchmark_or_a_task_type() -> None:
    assert task_type_of("crux") is TaskType.CODE
    assert task_type_of("translation") is TaskType.TRANSLATION
    assert task_type_of("no such") is None


def test_one_question_with_other_numbers_is_a_duplicate() -> None:
    found = groups(
        [
            "A farmer has 12 cows and sells 5 of them at the market. How many are left?",
            "A farmer has 30 cows and sells 7 of them at the market. How many are left?",
            "The train leaves Boston at noon and travels west for two hours. How far does it get?",
        ]
    )
    assert found[0] == found[1] != found[2]


def test_a_shared_template_makes_no_duplicates() -> None:
    template = "You are given a function and an input to it. Complete the assertion with its output. "
    words = ["alpha", "beta", "gamma", "delta", "eta", "theta", "iota", "kappa"]
    bodies = [
        f"{words[i % 8]} {words[i // 8]} over {words[(i * 3) % 8]} under {words[(i * 5 + 1) % 8]}" for i in range(64)
    ]
    assert len(set(groups([template + body for body in bodies]).tolist())) > 40


def test_folds_keep_groups_together_and_spread_strata() -> None:
    group = np.repeat(np.arange(50), 2)
    strata = ["a" if index < 60 else "b" for index in range(100)]
    found = folds(group, strata, 5, seed=1)
    assert (found[::2] == found[1::2]).all()
    assert np.bincount(found[:60]).tolist() == [12] * 5
    assert np.bincount(found[60:]).tolist() == [8] * 5
    assert (found == folds(group, strata, 5, seed=1)).all()
    assert (found != folds(group, strata, 5, seed=2)).any()
