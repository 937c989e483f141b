"""Prompts and how each tier did on them, from files of JSON lines (`lab.router_line`), plain or .gz.

Promises: a line that does not fit is left out, counted, and named with its file, its number and the reason; records
that kept no prompt are counted; the same prompt in several lines becomes one row, with the mean of its outcomes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt

from lab.router_line import Line, RefusedError, Wanted, parse_line

__all__ = [
    "PROBLEMS_SHOWN_MAX",
    "FileFacts",
    "RouterDataError",
    "RouterRows",
    "fingerprint",
    "fingerprints",
    "read_router_files",
]

Floats = npt.NDArray[np.float64]

ROWS_MAX: Final = 1_000_000
# Also bounds what a line of a hostile gzip file can unfold to.
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
PROBLEMS_SHOWN_MAX: Final = 10


class RouterDataError(Exception):
    """The files cannot be used. The message says which and why."""


@dataclass(slots=True)
class FileFacts:
    """What became of a file's lines; all of `lines` are in one of the other counts. `cut` ones are among the used."""

    name: str
    sha256: str
    lines: int = 0
    used: int = 0
    without_prompt: int = 0
    without_outcome: int = 0
    refused: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True)
class RouterRows:
    """One row a prompt. `outcomes` [n, tiers], 0 to 1, nan where unknown; `costs` [tiers], a call's mean, nan unknown;
    `counts` [n], how many lines have the prompt.

    `problems`: the first refused lines, as "file:line: reason".
    """

    prompts: tuple[str, ...]
    kinds: tuple[str, ...]
    tiers: tuple[str, ...]
    outcomes: Floats
    costs: Floats
    counts: npt.NDArray[np.int64]
    files: tuple[FileFacts, ...]
    problems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> RouterRows:
        """These rows alone; what is said of files and costs stays."""
        picked = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in picked),
            kinds=tuple(self.kinds[row] for row in picked),
            outcomes=self.outcomes[chosen],
            counts=self.counts[chosen],
        )


def fingerprint(prompt: str) -> int:
    """64 bits that are the same for prompts that differ only in case, blanks and numbers."""
    plain = re.sub(r"\d+", "#", " ".join(prompt.casefold().split()))
    digest = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def fingerprints(prompts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Of each prompt."""
    return np.asarray([fingerprint(prompt) for prompt in prompts], dtype=np.uint64)


def read_router_files(paths: Sequence[Path], wanted: Wanted) -> RouterRows:
    """All rows of all files. Raises RouterDataError when a file cannot be opened or no line can be used."""
    rows = _Rows(wanted.tiers)
    files: list[FileFacts] = []
    problems: list[str] = []
    for path in paths:
        facts = FileFacts(path.name, _sha256(path))
        files.append(facts)
        for number, line in _lines(path):
            facts.lines += 1
            try:
                if isinstance(line, str):
                    raise RefusedError(line)
                found = parse_line(line, wanted)
            except RefusedError as error:
                facts.refused += 1
                if len(problems) < PROBLEMS_SHOWN_MAX:
                    problems.append(f"{path}:{number}: {error}")
                continue
            if found.prompt is None:
                facts.without_prompt += 1
            elif wanted.outcomes and not found.outcomes:
                facts.without_outcome += 1
            else:
                facts.used += 1
                facts.cut += found.cut
                rows.add(found.prompt, found)
    if not rows.prompts:
        said = "; ".join(
            f"{facts.name}: {facts.refused} refused, {facts.without_prompt} without their prompt, "
            f"{facts.without_outcome} without an outcome"
            for facts in files
        )
        raise RouterDataError("\n".join([f"no line can be used ({said})", *problems]))
    return rows.result(tuple(files), tuple(problems))


class _Rows:
    """Gathers lines into rows, one a prompt."""

    def __init__(self, tiers: tuple[str, ...]) -> None:
        self._tiers = tiers
        self.prompts: dict[str, int] = {}
        self._kinds: list[str] = []
        self._counts: list[int] = []
        self._places: list[tuple[int, int, float]] = []
        self._costs: dict[str, list[float]] = {tier: [] for tier in tiers}

    def add(self, prompt: str, line: Line) -> None:
        row = self.prompts.setdefault(prompt, len(self.prompts))
        if row == len(self._kinds):
            self._kinds.append(line.kind)
            self._counts.append(0)
        self._counts[row] += 1
        self._places.extend((row, self._tiers.index(tier), value) for tier, value in line.outcomes.items())
        for tier, cost in line.costs.items():
            self._costs[tier].append(cost)

    def result(self, files: tuple[FileFacts, ...], problems: tuple[str, ...]) -> RouterRows:
        total, count = np.zeros((2, len(self.prompts), len(self._tiers)))
        for row, tier, value in self._places:
            total[row, tier] += value
            count[row, tier] += 1.0
        return RouterRows(
            prompts=tuple(self.prompts),
            kinds=tuple(self._kinds),
            tiers=self._tiers,
            outcomes=np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan),
            costs=np.asarray([np.mean(found) if found else np.nan for found in self._costs.values()]),
            counts=np.asarray(self._counts, dtype=np.int64),
            files=files,
            problems=problems,
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise RouterDataError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, bytes | str]]:
    """Numbered lines that are not blank; instead of one that cannot be had, why, and then no more."""
    number = 0
    try:
        with cast("BinaryIO", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if number > ROWS_MAX or len(line) > LINE_BYTES_MAX:
                    yield number, f"more than {ROWS_MAX} lines, or a line of more than {LINE_BYTES_MAX} bytes"
                    return
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        yield number + 1, f"the file ends in the middle ({error})"
