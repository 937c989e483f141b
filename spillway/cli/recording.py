"""Recorded prompts with the answers that real models gave, read from files of JSON lines, plain or gzip.

A line is `{"id", "task", "prompt", "answers": {MODEL: {"text", "correct"}}}`; other keys are allowed and ignored.
Promises: a line that does not fit stops the reading with the file and the line; nothing is skipped silently.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["RecordedAnswer", "RecordedRow", "RecordingError", "read_rows", "sample"]

ROWS_MAX = 500_000
# Also bounds what a line of a hostile gzip file can unfold to.
LINE_BYTES_MAX = 4 * 1024 * 1024


class RecordingError(ValueError):
    """A recording cannot be read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What a model wrote, and whether its final answer was right."""

    text: str
    correct: bool


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """A prompt, and each model's answer by the model's name."""

    row_id: str
    task: str
    prompt: str
    answers: Mapping[str, RecordedAnswer]


def read_rows(paths: Iterable[Path]) -> list[RecordedRow]:
    """All rows of all files. Raises RecordingError."""
    return [row for path in paths for row in _read_file(path)]


def sample(rows: Sequence[RecordedRow], limit: int | None, seed: int) -> list[RecordedRow]:
    """`limit` rows chosen at random, the same ones for the same seed, in their original order; all without a limit."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def _read_file(path: Path) -> Iterator[RecordedRow]:
    number = 0
    try:
        with _open(path) as lines:
            while line := lines.readline(LINE_BYTES_MAX + 1):
                number += 1
                if number > ROWS_MAX or len(line) > LINE_BYTES_MAX:
                    raise RecordingError(f"more than {ROWS_MAX} rows, or a row of more than {LINE_BYTES_MAX} bytes")
                if line.strip():
                    yield _parse(line)
    except (OSError, EOFError, RecordingError) as error:
        where = f"{path}, line {number}" if number else str(path)
        why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        raise RecordingError(f"{where}: {why}") from error


def _parse(line: bytes) -> RecordedRow:
    try:
        value = json.loads(line)
        answers = {
            str(model): RecordedAnswer(_text(answer["text"]), bool(answer["correct"]))
            for model, answer in value["answers"].items()
        }
        return RecordedRow(str(value["id"]), str(value["task"]), _text(value["prompt"]), answers)
    except KeyError as error:
        raise RecordingError(f"a recorded row has id, task, prompt and answers; there is no {error.args[0]}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RecordingError("not a recorded row") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))
