"""The labelled prompts: complete, clean, and apart from the held-out ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from spillway.routing import Complexity, TaskType

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "services" / "classifier" / "data" / "examples.jsonl"
HELDOUT = ROOT / "lab" / "data" / "heldout.jsonl"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("path", "least", "least_of_each"), [(EXAMPLES, 360, 10), (HELDOUT, 120, 3)])
def test_every_kind_of_work_has_examples_of_every_complexity(path: Path, least: int, least_of_each: int) -> None:
    found = rows(path)
    counts = Counter((TaskType(row["task_type"]), Complexity(row["complexity"])) for row in found)
    assert len(found) >= least
    assert len(counts) == len(TaskType) * len(Complexity)
    assert min(counts.values()) >= least_of_each
    assert all(set(row) == {"text", "task_type", "complexity"} and row["text"].strip() for row in found)


def test_no_held_out_prompt_is_an_example() -> None:
    def words(text: str) -> frozenset[str]:
        return frozenset(text.lower().split())

    known = [words(row["text"]) for row in rows(EXAMPLES)]
    for row in rows(HELDOUT):
        mine = words(row["text"])
        nearest = max(len(mine & other) / len(mine | other) for other in known)
        assert nearest < 0.7, row["text"]
