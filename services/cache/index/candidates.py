"""What a search found: stored questions, the nearest first, in columns.

Promises: immutable; every key once. Most lookups read a few keys and no vector, so an object for each question is made
for who asks for it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, overload

import numpy as np

from services.cache.index.vector_rows import Vector

__all__ = ["NO_CANDIDATES", "Candidate", "Candidates"]


class Candidate(NamedTuple):
    """A stored question, its cosine similarity to the one searched for, -1 to 1, and its vector as it is kept."""

    key: str
    similarity: float
    vector: Vector


class Candidates(Sequence[Candidate]):
    """`keys` and `similarities` must not be changed; the vector of the one at `i` is row `rows[i]` of `matrix`."""

    __slots__ = ("_matrix", "_rows", "keys", "similarities")

    def __init__(self, keys: list[str], similarities: list[float], matrix: Vector, rows: list[int]) -> None:
        self.keys = keys
        self.similarities = similarities
        self._matrix = matrix
        self._rows = rows

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...

    @overload
    def __getitem__(self, at: slice) -> Candidates: ...

    def __getitem__(self, at: int | slice) -> Candidate | Candidates:
        if isinstance(at, slice):
            return Candidates(self.keys[at], self.similarities[at], self._matrix, self._rows[at])
        return Candidate(self.keys[at], self.similarities[at], self._matrix[self._rows[at]])

    @property
    def vectors(self) -> Vector:
        """Of all, [len, dimensions], copied."""
        return self._matrix[self._rows]

    def without(self, keys: Collection[str]) -> Candidates:
        """All but those."""
        left = [at for at, key in enumerate(self.keys) if key not in keys]
        if len(left) == len(self.keys):
            return self
        rows, similarities = self._rows, self.similarities
        return Candidates(
            [self.keys[at] for at in left], [similarities[at] for at in left], self._matrix, [rows[at] for at in left]
        )


NO_CANDIDATES = Candidates([], [], np.zeros((0, 0), np.float32), [])
