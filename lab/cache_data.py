"""Labelled questions for the cache's science: pairs and streams from JSON lines, and their embeddings, kept on disk.

Promises: a file is read as pairs (`a`, `b`, `same`) or as a stream (`text`, `answer`), by its first row, or where it
is asked for as broad answers (`answer`, `stored`, `near_misses`, `paraphrases`); anything else raises CacheDataError. A
text is embedded once: its vector is kept under ~/.cache/spillway/lab, in one file for each embedding model and set of
texts, and read without pickles.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BroadAnswer",
    "CacheDataError",
    "Pairs",
    "Stream",
    "embed",
    "read_broad_answers",
    "read_cache_file",
    "read_rows",
]

Vectors = npt.NDArray[np.float32]

BATCH_TEXTS = 64
"""Texts of like length that are embedded at a time."""

ROWS_MAX = 1_000_000


class CacheDataError(ValueError):
    """The file is neither pairs nor a stream, or has no broad answers where they are asked for."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two questions a row; `same` says whether one answer serves both. `kinds` may name what differs."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    same: npt.NDArray[np.bool_]
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.a)

    def take(self, rows: npt.NDArray[np.int64]) -> Pairs:
        """These rows alone."""
        chosen = rows.tolist()
        kinds = tuple(self.kinds[i] for i in chosen) if self.kinds else ()
        return Pairs(tuple(self.a[i] for i in chosen), tuple(self.b[i] for i in chosen), self.same[rows], kinds)


@dataclass(frozen=True, slots=True)
class Stream:
    """Questions as they might arrive, and for each the name of its one right answer, as a number."""

    texts: tuple[str, ...]
    answers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class BroadAnswer:
    """An answer with the questions that are stored of it, near misses of them, and paraphrases that are not stored."""

    name: str
    stored: tuple[str, ...]
    near_misses: tuple[str, ...]
    paraphrases: tuple[str, ...]
    half: str


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON lines, or one JSON list, plain or .gz. Raises CacheDataError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CacheDataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, EOFError, gzip.BadGzipFile, RecursionError) as error:
        raise CacheDataError(f"{path} is no JSON lines" + (", plain or gzip" * (path.suffix == ".gz"))) from error
    if not isinstance(rows, list) or not rows or len(rows) > ROWS_MAX or not all(isinstance(row, dict) for row in rows):
        raise CacheDataError(f"{path.name} must have 1 to {ROWS_MAX} rows, each an object")
    return list(rows)


def read_cache_file(path: Path) -> Pairs | Stream:
    """Pairs or a stream, by the keys of the first row. Raises CacheDataError."""
    rows = read_rows(path)
    is_stream = "answer" in rows[0]
    for number, row in enumerate(rows, 1):
        if not (_is_question(row) if is_stream else _is_pair(row)):
            what = "a question (text, answer)" if is_stream else "a pair (a, b: texts; same: 0 or 1)"
            also = " nor a question of a stream (text, answer)" if number == 1 and not is_stream else ""
            raise CacheDataError(f"{path}: row {number} is {'neither' if also else 'not'} {what}{also}")
    if is_stream:
        names = {name: index for index, name in enumerate(sorted({str(row["answer"]) for row in rows}))}
        answers = np.asarray([names[str(row["answer"])] for row in rows], dtype=np.int64)
        return Stream(tuple(row["text"] for row in rows), answers)
    same = np.asarray([bool(row["same"]) for row in rows], dtype=np.bool_)
    kinds = tuple(str(row.get("kind", "")) for row in rows) if "kind" in rows[0] else ()
    return Pairs(tuple(row["a"] for row in rows), tuple(row["b"] for row in rows), same, kinds)


def read_broad_answers(path: Path) -> list[BroadAnswer]:
    """One answer a row. Raises CacheDataError."""
    try:
        return [
            BroadAnswer(
                _text(row["answer"]),
                _texts(row["stored"]),
                _texts(row["near_misses"]),
                _texts(row["paraphrases"]),
                str(row.get("half", "all")),
            )
            for row in read_rows(path)
        ]
    except (KeyError, TypeError) as error:
        raise CacheDataError(
            f"{path}: each row has an answer (a text), and stored, near_misses and paraphrases (lists of texts)"
        ) from error


def _is_question(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("text"), str) and "answer" in row


def _is_pair(row: Mapping[str, Any]) -> bool:
    texts = isinstance(row.get("a"), str) and isinstance(row.get("b"), str)
    return texts and isinstance(row.get("same"), int | float) and row["same"] in {0, 1}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a question is a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("questions are a list")
    return tuple(map(_text, value))


def cache_folder() -> Path:
    """Where vectors are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "spillway" / "lab"


def embed(texts: Sequence[str]) -> Vectors:
    """Unit vectors, float32 [len(texts), 384], of the packaged model; about 3 ms a new text."""
    from services.classifier.encoder import Encoder  # noqa: PLC0415 - onnxruntime only where something is embedded
    from services.classifier.model import load_verified, model_directory  # noqa: PLC0415

    unique = sorted(set(texts), key=lambda text: (len(text), text))
    files = load_verified(model_directory(os.environ))
    digest = hashlib.sha256(json.dumps([files.model_id, unique]).encode()).hexdigest()[:32]
    path = cache_folder() / f"{digest}.npy"
    if path.exists():
        vectors = np.load(path, allow_pickle=False)
    else:
        encoder = Encoder(files, threads=1)
        parts = [encoder.encode(unique[at : at + BATCH_TEXTS]) for at in range(0, len(unique), BATCH_TEXTS)]
        vectors = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        partial.replace(path)
    row_of = {text: row for row, text in enumerate(unique)}
    return np.asarray(vectors[[row_of[text] for text in texts]], dtype=np.float32)
