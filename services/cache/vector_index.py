"""The nearest stored questions within one partition, by FAISS.

Promises: exact search (inner product of unit vectors, so cosine); a search sees one partition and no other; removed and
expired entries are never returned; at most `entries_max` entries, of which the oldest leaves first; no NaN, infinite or
zero vector gets in, and none of a dimension that its model did not have before.

A partition is a numpy matrix that grows and shrinks by halves, with the keys beside it; removal moves the last row into
the gap. Thousands of tiny partitions so cost no FAISS object each. From `FAISS_ROWS_MIN` rows on, FAISS's flat
inner-product kernel searches that same memory (`faiss.knn`, which is what IndexFlatIP.search runs). An IndexIDMap over
an IndexFlatIP would take 7 ms for one removal among 100,000 vectors, on the event loop, and must not change while a
thread searches it. Here a removal is one row copied; a search in a thread only yields candidate rows, and their
similarity is computed again, on the event loop, from what the rows hold by then.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

__all__ = [
    "Candidate",
    "DimensionMismatchError",
    "InvalidVectorError",
    "Vector",
    "VectorIndex",
    "unit_vector",
]

Vector = npt.NDArray[np.float32]

DIMENSIONS_MAX = 8_192
"""Longer vectors are refused: 32 KiB each."""

MODELS_MAX = 64
"""Embedding models known at a time; the one that came first is forgotten, and may come back with another dimension."""

FAISS_ROWS_MIN = 256
"""Below it a numpy product is as fast."""

INLINE_ROWS_MAX = 8_192
"""Larger partitions (0.2 ms and more at 384 dimensions) are searched in a thread, so that the event loop goes on."""

EXPIRED_PER_CALL_MAX = 64
"""Expired entries that one call removes on the side, so that no single call pays for many."""

_NORM_MIN = 1e-6
_CAPACITY_MIN = 1


class InvalidVectorError(ValueError):
    """Not a vector that can be compared: wrong length in bytes, NaN, infinite or zero."""


class DimensionMismatchError(ValueError):
    """The model's vectors had another dimension before."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question and its cosine similarity to the one searched for, -1 to 1."""

    key: str
    similarity: float


@dataclass(slots=True)
class _Partition:
    rows: Vector
    keys: list[str]


@dataclass(frozen=True, slots=True)
class _Place:
    partition: str
    row: int
    expires_at_unix_s: float


def unit_vector(values: bytes) -> Vector:
    """Little-endian float32 values as a vector of length 1. Raises InvalidVectorError."""
    if not values or len(values) % 4 or len(values) > 4 * DIMENSIONS_MAX:
        raise InvalidVectorError(f"the length must be a multiple of 4 bytes, up to {DIMENSIONS_MAX} values")
    exact = np.frombuffer(values, dtype="<f4").astype(np.float64)
    norm = float(np.linalg.norm(exact))
    if not math.isfinite(norm) or norm < _NORM_MIN:
        raise InvalidVectorError("the values must be finite and not all zero")
    return (exact / norm).astype(np.float32)


class VectorIndex:
    """Searches in `executor` when a partition is large; without one, always inline."""

    def __init__(self, *, entries_max: int, executor: Executor | None = None) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be at least 1")
        self._entries_max = entries_max
        self._executor = executor
        self._partitions: dict[str, _Partition] = {}
        self._places: dict[str, _Place] = {}  # in the order of insertion: the oldest first
        self._expiries: list[tuple[float, str]] = []
        self._dimensions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def partitions(self) -> int:
        """How many partitions hold at least one entry."""
        return len(self._partitions)

    def entries_in(self, partition: str) -> int:
        """How many entries the partition holds, those that expired a moment ago included."""
        found = self._partitions.get(partition)
        return 0 if found is None else len(found.keys)

    def check_dimension(self, model: str, vector: Vector) -> None:
        """Raises DimensionMismatchError when the model's vectors had another dimension before."""
        if self._dimensions.get(model, len(vector)) != len(vector):
            raise DimensionMismatchError(f"{len(vector)} dimensions, but this model had {self._dimensions[model]}")

    def add(self, key: str, *, partition: str, model: str, vector: Vector, expires_at_unix_s: float) -> None:
        """Adds an entry, or replaces the one with that key, as the newest.

        `partition` is of one model. `vector` comes from `unit_vector`. Raises DimensionMismatchError.
        """
        self.check_dimension(model, vector)
        self._dimensions.setdefault(model, len(vector))
        while len(self._dimensions) > MODELS_MAX:
            del self._dimensions[next(iter(self._dimensions))]
        self.remove(key)
        while len(self._places) >= self._entries_max:
            self.remove(next(iter(self._places)))
        found = self._partitions.get(partition)
        if found is None:
            found = _Partition(np.empty((_CAPACITY_MIN, len(vector)), np.float32), [])
            self._partitions[partition] = found
        elif found.rows.shape[1] != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        row = len(found.keys)
        if row == len(found.rows):
            found.rows = _resized(found.rows, row, 2 * row)
        found.rows[row] = vector
        found.keys.append(key)
        self._places[key] = _Place(partition, row, expires_at_unix_s)
        heapq.heappush(self._expiries, (expires_at_unix_s, key))
        if len(self._expiries) > 2 * len(self._places) + EXPIRED_PER_CALL_MAX:
            self._expiries = [(place.expires_at_unix_s, key) for key, place in self._places.items()]
            heapq.heapify(self._expiries)

    def remove(self, key: str) -> bool:
        """Removes the entry; False when there is none."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        found = self._partitions[place.partition]
        moved_key = found.keys.pop()
        if moved_key != key:
            found.rows[place.row] = found.rows[len(found.keys)]
            found.keys[place.row] = moved_key
            self._places[moved_key] = _Place(place.partition, place.row, self._places[moved_key].expires_at_unix_s)
        if not found.keys:
            del self._partitions[place.partition]
        elif len(found.keys) * 4 <= len(found.rows):
            found.rows = _resized(found.rows, len(found.keys), 2 * len(found.keys))
        return True

    def clear(self) -> None:
        """Forgets every entry and model."""
        self._partitions.clear()
        self._places.clear()
        self._expiries.clear()
        self._dimensions.clear()

    def expire(self, now_unix_s: float) -> None:
        """Removes entries whose time has come, at most `EXPIRED_PER_CALL_MAX`."""
        for _ in range(EXPIRED_PER_CALL_MAX):
            if not self._expiries or self._expiries[0][0] > now_unix_s:
                return
            _, key = heapq.heappop(self._expiries)
            place = self._places.get(key)
            if place is not None and place.expires_at_unix_s <= now_unix_s:
                self.remove(key)

    async def search(self, partition: str, vector: Vector, *, count: int, now_unix_s: float) -> Sequence[Candidate]:
        """The `count` nearest living entries of the partition, nearest first.

        Raises DimensionMismatchError when the partition's vectors have another dimension.
        """
        self.expire(now_unix_s)
        found = self._partitions.get(partition)
        if found is None:
            return ()
        if found.rows.shape[1] != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        rows = found.rows[: len(found.keys)]
        if self._executor is None or len(rows) <= INLINE_ROWS_MAX:
            nearest = _nearest(rows, vector, count)
        else:
            nearest = await asyncio.get_running_loop().run_in_executor(self._executor, _nearest, rows, vector, count)
        return self._living(partition, nearest, vector, now_unix_s)

    def _living(self, partition: str, nearest: list[int], vector: Vector, now_unix_s: float) -> Sequence[Candidate]:
        """What the rows hold by now, with their true similarity."""
        found = self._partitions.get(partition)
        keys = [] if found is None else [found.keys[row] for row in nearest if row < len(found.keys)]
        candidates = [
            Candidate(key, float(np.dot(found.rows[place.row], vector)))
            for key in keys
            if found is not None and (place := self._places[key]).expires_at_unix_s > now_unix_s
        ]
        return sorted(candidates, key=lambda candidate: -candidate.similarity)


def _nearest(rows: Vector, vector: Vector, count: int) -> list[int]:
    count = min(count, len(rows))
    if len(rows) >= FAISS_ROWS_MIN:
        _, found = faiss.knn(vector[np.newaxis], rows, count, metric=faiss.METRIC_INNER_PRODUCT)
        return [int(row) for row in found[0] if row >= 0]
    similarities = rows @ vector
    return [int(row) for row in np.argpartition(similarities, len(rows) - count)[len(rows) - count :]]


def _resized(rows: Vector, filled: int, capacity: int) -> Vector:
    """A copy with room for `capacity` rows. A search under way keeps the old one alive."""
    grown = np.empty((capacity, rows.shape[1]), np.float32)
    grown[:filled] = rows[:filled]
    return grown
