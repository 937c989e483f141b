"""The nearest stored questions within one partition, by FAISS.

Promises: a search sees one partition and no other; removed and expired entries are never returned; every key once; at
most `entries_max` entries, of which the oldest leaves first; no NaN, infinite or zero vector gets in, and none of a
dimension that its model did not have before. How a partition keeps its vectors is the part of `partition_rows`.

Belongs to one event loop.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from itertools import islice, repeat

import numpy as np

from services.cache.index.candidates import NO_CANDIDATES, Candidates
from services.cache.index.code_lister import CodeLister
from services.cache.index.partition_rows import FrozenPartition, NewRows, PartitionRows
from services.cache.index.sign_codes import SignCoder, prepare
from services.cache.index.vector_rows import Vector

__all__ = [
    "DIMENSIONS_MAX",
    "DimensionMismatchError",
    "InvalidVectorError",
    "Vector",
    "VectorIndex",
    "unit_vector",
]

DIMENSIONS_MAX = 8_192
"""Longer vectors are refused: 32 KiB each."""

MODELS_MAX = 64
"""Embedding models known at a time; the one that came first is forgotten, and may come back with another dimension."""

INLINE_ROWS_MAX = 131_072
"""Larger partitions of which there are no lists of codes yet are searched in a thread (0.3 ms and more)."""

LISTED_ROWS_MIN = 65_537
"""Of partitions from this size on lists of codes are made: 100,000 rows are searched in a third of the time by them,
30,000 in about the same."""

EXPIRED_PER_CALL_MAX = 64
"""Expired entries that one call removes on the side, so that no single call pays for many."""

_NORM_MIN = 1e-6


class InvalidVectorError(ValueError):
    """Not a vector that can be compared: wrong length in bytes, NaN, infinite or zero."""


class DimensionMismatchError(ValueError):
    """The model's vectors had another dimension before."""


_Place = tuple[str, int]
"""An entry's partition and row. A plain tuple of plain values, which the garbage collector need not visit: among a
million entries a full collection would otherwise hold up lookups for a second."""


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
    """Partitions of LISTED_ROWS_MIN rows and more, and of more than `inline_rows_max`, are searched by lists of their
    codes, which `executor` makes. Until they are made, the larger ones are searched whole in the executor too; without
    one, all are, inline."""

    def __init__(
        self, *, entries_max: int, executor: Executor | None = None, inline_rows_max: int = INLINE_ROWS_MAX
    ) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be at least 1")
        self._entries_max = entries_max
        self.executor = executor
        self._inline_rows_max = inline_rows_max
        rows_min = min(LISTED_ROWS_MIN, inline_rows_max + 1)
        self._lister = None if executor is None else CodeLister(executor, rows_min=rows_min)
        self._partitions: dict[str, PartitionRows] = {}
        self._places: dict[str, _Place] = {}  # in the order of insertion: the oldest first
        self._expiries: list[tuple[float, str]] = []
        self._dimensions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @property
    def partitions(self) -> int:
        """How many partitions hold at least one entry."""
        return len(self._partitions)

    @property
    def vector_bytes(self) -> int:
        """What vectors and codes take."""
        return sum(partition.vector_bytes for partition in self._partitions.values())

    def entries_in(self, partition: str) -> int:
        """How many entries the partition holds, those that expired a moment ago included."""
        found = self._partitions.get(partition)
        return 0 if found is None else len(found)

    def newest(self, count: int) -> list[str]:
        """The keys of the entries that came last, the last first."""
        return list(islice(reversed(self._places), count))

    def check_dimension(self, model: str, vector: Vector) -> None:
        """Raises DimensionMismatchError when the model's vectors had another dimension before."""
        if self._dimensions.get(model, len(vector)) != len(vector):
            raise DimensionMismatchError(f"{len(vector)} dimensions, but this model had {self._dimensions[model]}")

    def add(self, key: str, *, partition: str, model: str, vector: Vector, expires_at_unix_s: float) -> None:
        """Adds an entry, or replaces the one with that key, as the newest.

        `partition` is of one model. `vector` comes from `unit_vector`. Raises DimensionMismatchError.
        """
        self._check_width(partition, model, len(vector))
        self.remove(key)
        while len(self._places) >= self._entries_max:
            self.remove(next(iter(self._places)))
        found = self._partitions.get(partition)
        if found is None:
            found = self._partitions[partition] = PartitionRows(len(vector))
        self._places[key] = (partition, found.append(key, vector, expires_at_unix_s))
        heapq.heappush(self._expiries, (expires_at_unix_s, key))
        self._forget_old_records()

    def coder_of(self, partition: str) -> SignCoder | None:
        """What codes the partition's vectors now; None while they are exact, or there is none."""
        found = self._partitions.get(partition)
        return None if found is None else found.coder

    def add_many(self, partition: str, model: str, rows: NewRows) -> None:
        """As `add`, one after the other; every key once. Raises DimensionMismatchError, and then adds nothing."""
        keys, width = rows.keys, rows.vectors.shape[1]
        self._check_width(partition, model, width)
        for key in keys:
            if key in self._places:
                self.remove(key)
        while self._places and len(self._places) + len(keys) > self._entries_max:
            self.remove(next(iter(self._places)))
        found = self._partitions.get(partition)
        if found is None:
            found = self._partitions[partition] = PartitionRows(width)
        first = found.extend(rows)
        places = zip(repeat(partition), range(first, first + len(keys)), strict=False)
        self._places.update(zip(keys, places, strict=True))
        for record in zip(rows.expires_at_unix_s, keys, strict=True):
            heapq.heappush(self._expiries, record)
        self._forget_old_records()
        while len(self._places) > self._entries_max:
            self.remove(next(iter(self._places)))

    def remove(self, key: str) -> bool:
        """Removes the entry; False when there is none."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        name, row = place
        found = self._partitions[name]
        if (moved_key := found.remove(row)) is not None:
            self._places[moved_key] = (name, row)
        if not found:
            del self._partitions[name]
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
            if key in self._places and self._expires_at_unix_s(key) <= now_unix_s:
                self.remove(key)

    async def search(self, partition: str, vector: Vector, *, count: int, now_unix_s: float) -> Candidates:
        """The `count` nearest living entries of the partition, nearest first.

        Raises DimensionMismatchError when the partition's vectors have another dimension.
        """
        self.expire(now_unix_s)
        found = self._partitions.get(partition)
        if found is None:
            return NO_CANDIDATES
        if found.width != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        if self._lister is not None:
            self._lister.look_at(found)
        rows = await found.search(vector, count=count, executor=self.executor, inline_rows_max=self._inline_rows_max)
        found = self._partitions.get(partition)  # other tasks may have changed everything meanwhile
        return NO_CANDIDATES if found is None else _living(found, rows, vector, count, now_unix_s)

    def make_lists(self) -> None:
        """Begins what makes searches of the largest partition fast, and would else begin with the first one."""
        if self._lister is not None and self._partitions:
            self._lister.look_at(max(self._partitions.values(), key=len))

    def _check_width(self, partition: str, model: str, width: int) -> None:
        """Before vectors of that width are added. Raises DimensionMismatchError."""
        if self._dimensions.get(model, width) != width:
            raise DimensionMismatchError(f"{width} dimensions, but this model had {self._dimensions[model]}")
        if model not in self._dimensions:
            self._dimensions[model] = width
            if self.executor is not None:
                self.executor.submit(prepare, width)
        while len(self._dimensions) > MODELS_MAX:
            del self._dimensions[next(iter(self._dimensions))]
        found = self._partitions.get(partition)
        if found is not None and found.width != width:
            raise DimensionMismatchError("the partition's vectors have another dimension")

    def _forget_old_records(self) -> None:
        if len(self._expiries) > 2 * len(self._places) + EXPIRED_PER_CALL_MAX:
            self._expiries = [(self._expires_at_unix_s(key), key) for key in self._places]
            heapq.heapify(self._expiries)

    def _expires_at_unix_s(self, key: str) -> float:
        name, row = self._places[key]
        return self._partitions[name].expires_at_unix_s[row]

    def freeze(self) -> tuple[list[FrozenPartition], dict[str, int]]:
        """All partitions as they are now, for a snapshot, and the dimensions of the models.

        Copies keys and expiry times alone (milliseconds for a million entries); vectors are shared until they change.
        """
        frozen = [found.freeze(name) for name, found in self._partitions.items()]
        return frozen, dict(self._dimensions)

    def thaw(self, partitions: Iterable[FrozenPartition], dimensions: dict[str, int], *, now_unix_s: float) -> None:
        """Puts the partitions into an empty index; those beyond `entries_max` and the expired are left out.

        Trusts what it is given, every key once: it comes from `freeze`, through a checked file.
        """
        if self._places:
            raise ValueError("the index is not empty")
        self._dimensions.update(dimensions)
        for frozen in partitions:
            self._thaw(frozen)
        heapq.heapify(self._expiries)
        while self._expiries and self._expiries[0][0] <= now_unix_s:
            self.expire(now_unix_s)
        while len(self._places) > self._entries_max:
            self.remove(next(iter(self._places)))

    def _thaw(self, frozen: FrozenPartition) -> None:
        made = self._partitions[frozen.name] = PartitionRows.thawed(frozen)
        for row, key in enumerate(made.keys):
            self._places[key] = (frozen.name, row)
            self._expiries.append((made.expires_at_unix_s[row], key))


def _living(found: PartitionRows, rows: Sequence[int], vector: Vector, count: int, now_unix_s: float) -> Candidates:
    """The nearest of these rows by what they hold now, of entries that are alive."""
    keys, expiries, size = found.keys, found.expires_at_unix_s, len(found)
    rows = [row for row in rows if row < size and expiries[row] > now_unix_s]
    if not rows:
        return NO_CANDIDATES
    vectors = found.vectors(rows)
    similarities = vectors @ vector
    order = (-similarities).argsort(kind="stable")[:count]
    nearest: list[float] = similarities[order].tolist()
    places: list[int] = order.tolist()
    return Candidates([keys[rows[at]] for at in places], nearest, vectors, places)
