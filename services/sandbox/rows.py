"""Recorded rows: what a line of a recording says, and reading lines from files.

A recording is a file of JSON lines, plain or gzip-compressed (`.gz`). One line is
`{"id", "task", "prompt", "gold", "answers": {MODEL: {"text", "parsed", "correct", "confidence"?, "logprobs"?}}}`; only
`prompt` and `answers` are used here, other keys are allowed and ignored. A line that does not fit stops the reading
with an error that names the file and the line; nothing is skipped silently.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from services.sandbox.logprobs import LogprobSpec

__all__ = ["EXAMPLES_PATH", "RecordedAnswer", "RecordingError", "Row", "parse_row", "read_rows"]

EXAMPLES_PATH: Final = Path(__file__).with_name("examples.jsonl")
"""The rows that come with the sandbox: written by hand for this project, not recorded from any model."""

ROWS_MAX: Final = 500_000
"""Rows per file: a recording is held in memory, and a wrong file should be refused rather than fill it."""
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one line, which also bounds what a hostile gzip file can unfold to at once."""

_LOGPROBS: Final[TypeAdapter[LogprobSpec | None]] = TypeAdapter(LogprobSpec | None)


class RecordingError(ValueError):
    """A recording cannot be read; the message says where and why. The fault of whoever wrote or named the file."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedAnswer:
    """What a model answered. Compared by identity, so that counts can be kept per answer without hashing its text."""

    text: str
    confidence: int | None = None
    """How sure the model is, 1 to 5; None when the recording does not say."""
    logprobs: LogprobSpec | None = None
    """As in a script; None when the recording has none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and what each model answered to it."""

    prompt: str
    answers: dict[str, RecordedAnswer]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file. Raises RecordingError when it cannot be opened, unfolded or understood."""
    number = 0
    try:
        with _open(path) as lines:
            while line := lines.readline(LINE_BYTES_MAX + 1):
                number += 1
                if number > ROWS_MAX:
                    raise RecordingError(f"more than {ROWS_MAX} rows")
                if len(line) > LINE_BYTES_MAX:
                    raise RecordingError(f"longer than {LINE_BYTES_MAX} bytes")
                if line.strip():
                    yield parse_row(line)
    except (OSError, EOFError, RecordingError) as error:
        raise RecordingError(f"{path}, line {number}: {error}" if number else f"{path}: {error}") from error


def parse_row(line: bytes) -> Row:
    """Read one line. Raises RecordingError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError("not JSON") from error
    if not isinstance(value, dict):
        raise RecordingError("not a JSON object")
    prompt, answers = value.get("prompt"), value.get("answers")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RecordingError('"prompt" is not a text')
    if not isinstance(answers, dict):
        raise RecordingError('"answers" is not an object')
    return Row(prompt, {model: _parse_answer(model, answer) for model, answer in answers.items()})


def _parse_answer(model: str, value: object) -> RecordedAnswer:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise RecordingError(f"the answer of {model!r} has no text")
    confidence = value.get("confidence")
    if confidence is not None and (type(confidence) is not int or not 1 <= confidence <= 5):
        raise RecordingError(f"the confidence of {model!r} is not a whole number from 1 to 5")
    try:
        logprobs = _LOGPROBS.validate_python(value.get("logprobs"))
    except ValidationError as error:
        raise RecordingError(f'the logprobs of {model!r} are no number, list of numbers or "pseudo"') from error
    return RecordedAnswer(value["text"], confidence, logprobs)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
