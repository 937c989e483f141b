"""Answers with outcomes, from files: recorded runs of several models, or a log of gated answers. One JSON object
a line, gzipped or not.

Recorded: {"prompt", "task" | "task_type", "answers": {MODEL: {"text", "correct"}}}. Logged: {"question", "answer",
"correct", "opinions": [...], "task_type", "self_confidence", "logprob_mean", "logprob_min"}, of which
the first three are needed.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from lab.joined import Joined
from spillway.routing import TaskType

__all__ = [
    "OVERLAP_MIN",
    "RecordError",
    "Recorded",
    "common_rows_max",
    "folds",
    "groups",
    "is_recorded",
    "place_of",
    "read_lines",
    "recorded",
    "shingles",
    "task_type_of",
]

ROWS_MAX: Final = 1_000_000
# Task names of the recorded benchmarks, which are no task types.
_TASK_TYPES: Final = {"gsm": TaskType.MATH, "math-l5": TaskType.MATH, "crux": TaskType.CODE}
_SHINGLE_WORDS: Final = 4
_COMMON_SHARE: Final = 0.02  # a shingle in more prompts than this is a template's
_COMMON_LEAST: Final = 20
OVERLAP_MIN: Final = 0.5  # of the smaller prompt's shingles


class RecordError(ValueError):
    """A file or a line is not what it should be; the message names it."""


class PlacedRow(dict[str, Any]):
    """A row that knows where it stands, e.g. "answers.jsonl:7"."""

    __slots__ = ("place",)

    def __init__(self, values: dict[str, Any], place: str) -> None:
        super().__init__(values)
        self.place = place


@dataclass(frozen=True, slots=True)
class Recorded:
    """One question, and what each model wrote: its text and whether it was right."""

    prompt: str
    task: str
    texts: dict[str, str]
    correct: dict[str, bool]

    @property
    def task_type(self) -> TaskType | None:
        """The type of the task, None when its name says nothing."""
        return task_type_of(self.task)


def task_type_of(name: str) -> TaskType | None:
    """The task type of a benchmark or by its own name."""
    try:
        return _TASK_TYPES.get(name) or TaskType(name)
    except ValueError:
        return None


def read_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All rows of all files, each of which knows its place. Raises RecordError."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            for number, line in _lines(path):
                rows.append(_row(line, f"{path}:{number}"))
                if len(rows) > ROWS_MAX:
                    raise RecordError(f"more than {ROWS_MAX} rows")
        except UnicodeDecodeError as error:
            raise RecordError(f"{path} cannot be read: it is not UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or "it is no gzip file, or cut off"
            raise RecordError(f"{path} cannot be read: {why}") from error
    return rows


def place_of(row: dict[str, Any], number: int) -> str:
    """Where a row stands: its file and line, or that it is the `number`-th."""
    return row.place if isinstance(row, PlacedRow) else f"row {number}"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


def _row(line: str, place: str) -> PlacedRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: not JSON") from error
    if not isinstance(row, dict):
        raise RecordError(f"{place}: not an object")
    return PlacedRow(row, place)


def is_recorded(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the rows are recorded runs rather than a log."""
    return bool(rows) and "answers" in rows[0]


def recorded(rows: Iterable[dict[str, Any]]) -> list[Recorded]:
    """The rows as values. Raises RecordError."""
    found = []
    for number, row in enumerate(rows, 1):
        try:
            answers = row["answers"]
            found.append(
                Recorded(
                    prompt=str(row["prompt"]),
                    task=str(row.get("task_type") or row.get("task") or "other"),
                    texts={str(model): str(answer["text"] or "") for model, answer in answers.items()},
                    correct={str(model): bool(answer["correct"]) for model, answer in answers.items()},
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"{place_of(row, number)}: a recorded run has a prompt, and answers by model, each with text and "
                "correct"
            ) from error
    return found


def groups(prompts: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for each prompt, the same for near duplicates: prompts that share half of their rare word sequences.

    Digits are blanked first, so that one question with other numbers is a duplicate, and what many prompts share (a
    template) does not count.
    """
    found_in = [shingles(prompt) for prompt in prompts]
    places: dict[int, list[int]] = defaultdict(list)
    for index, found in enumerate(found_in):
        for shingle in found:
            places[shingle].append(index)
    common = common_rows_max(len(prompts))
    rare = [sum(len(places[s]) <= common for s in found) for found in found_in]
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for where in places.values():
        if 1 < len(where) <= common:
            for position, one in enumerate(where):
                for other in where[position + 1 :]:
                    shared[one, other] += 1
    near = Joined(range(len(prompts)))
    for (one, other), count in shared.items():
        if count >= OVERLAP_MIN * min(rare[one], rare[other]):
            near.join(one, other)
    return np.asarray([near.root(index) for index in range(len(prompts))], dtype=np.int64)


def folds(group: npt.NDArray[np.int64], strata: Sequence[str], count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row: near duplicates together, each stratum spread evenly."""
    generator = np.random.default_rng(seed)
    result = np.zeros(len(group), dtype=np.int64)
    first: dict[int, str] = {}
    for number, stratum in zip(group.tolist(), strata, strict=True):
        first.setdefault(number, stratum)
    for stratum in sorted(set(first.values())):
        members = np.asarray(sorted(number for number, name in first.items() if name == stratum))
        dealt = {number: index % count for index, number in enumerate(generator.permutation(members).tolist())}
        for row, number in enumerate(group.tolist()):
            if number in dealt:
                result[row] = dealt[number]
    return result


def common_rows_max(prompts: int) -> int:
    """A word sequence in more of so many prompts than this is a template's."""
    return max(_COMMON_LEAST, int(_COMMON_SHARE * prompts))


def shingles(prompt: str) -> set[int]:
    """32-bit hashes of a prompt's word sequences, case and numbers blanked."""
    words = re.findall(r"[^\W\d_]+|#+|[^\w\s]", re.sub(r"\d+", "#", prompt.casefold()))
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return {crc32(" ".join(words[at : at + _SHINGLE_WORDS]).encode()) for at in range(last)}
