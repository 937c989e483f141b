"""Runs of a stream that are done, one a line in a file, so that a long comparison may be made in several sittings.

Promises: a run is added whole or not at all; a file of another stream, limit or model is not read. What is not said: by
which code a run was made. After a change of the code begin another file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lab.cache_data import CacheDataError, Stream
from lab.cache_runs import Run

__all__ = ["RunLog", "Task", "fingerprint"]

Task = tuple[str, float, int]
"""A way, its setting, the seed of its order."""

LINES_MAX: Final = 100_000


def fingerprint(stream: Stream, *, limit: float, model: str) -> str:
    """Of what the runs are of."""
    digest = hashlib.sha256(f"{limit!r} {model}".encode())
    for text, answer in zip(stream.texts, stream.answers.tolist(), strict=True):
        digest.update(f"{len(text)} {text} {answer}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


class RunLog:
    """Runs by their task; in `path` when there is one. Raises CacheDataError for a file of something else, OSError."""

    def __init__(self, path: Path | None, of: str) -> None:
        self._path = path
        self._runs: dict[Task, Run] = {}
        lines = path.read_text().splitlines()[:LINES_MAX] if path is not None and path.exists() else []
        try:
            if lines and json.loads(lines[0]) != {"of": of}:
                raise CacheDataError(f"the runs of {path} are of another stream, limit or model")
            for line in lines[1:]:
                row = json.loads(line)
                self._runs[str(row["way"]), float(row["setting"]), int(row["seed"])] = Run(**row["run"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, CacheDataError):
                raise
            raise CacheDataError(f"{path} has no runs ({type(error).__name__})") from error
        if path is not None and not lines:
            path.write_text(json.dumps({"of": of}) + "\n")

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that are not done."""
        return [task for task in dict.fromkeys(tasks) if task not in self._runs]

    def runs(self, tasks: Sequence[Task]) -> list[Run]:
        """Of tasks that are done."""
        return [self._runs[task] for task in tasks]

    def add(self, task: Task, run: Run) -> None:
        """One more."""
        self._runs[task] = run
        if self._path is not None:
            way, setting, seed = task
            with self._path.open("a") as file:
                file.write(json.dumps({"way": way, "setting": setting, "seed": seed, "run": asdict(run)}) + "\n")
