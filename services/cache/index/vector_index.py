"""The nearest stored questions within one partition, by FAISS.

Promises: a search sees one partition and no other; removed and expired entries are never returned; every key once, with
the similarity of its nearest vector (an entry may have several: the question it was stored for, and confirmed
paraphrases); at most `entries_max` entries, of which the oldest leaves first; no NaN, infinite or zero vector gets in,
and none of a dimension that its model did not have before; no add, removal or growth copies more than one chunk of a
few megabytes, so nothing has to be trained, rebuilt or compacted beside the lookups.

A partition has one of two kinds, by its size (measurements: docs/cache-index.md):

- exact, up to `EXACT_ROWS_MAX` rows: one float32 matrix, searched whole. Thousands of tiny partitions so cost no FAISS
  object each.
- coded, above: 1-bit codes searched whole by Hamming distance, then `SECOND_LOOKS` rows by their vectors, which are
  kept as float16.

Removal moves the last row into the gap. A search in a thread only yields candidate rows; whose they are, and how near,
is read on the event loop from what the rows hold by then.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import faiss
import numpy as np
import numpy.typing as npt

from services.cache.index.sign_codes import SignCoder, nearest_codes, prepare
from services.cache.index.vector_rows import ChunkedRows, Matrix

__all__ = [
    "ALIASES_MAX",
    "Candidate",
    "DimensionMismatchError",
    "FrozenPartition",
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

ALIASES_MAX = 8
"""Further vectors of one entry."""

EXACT_ROWS_MAX = 1_024
"""Larger partitions are coded: 25 microseconds of search at 384 dimensions, and 1.5 MiB in one piece."""

CODED_ROWS_MIN = 256
"""A coded partition that shrinks below it becomes exact again; far from the other bound, so none goes to and fro."""

VECTORS_CHUNK_ROWS = 4_096
CODES_CHUNK_ROWS = 65_536
"""3 MiB each: what is copied at once when a matrix grows or changes under a snapshot."""

FAISS_ROWS_MIN = 256
"""Below it a numpy product is as fast."""

SECOND_LOOKS = 64
"""Coded rows whose vectors are compared: the nearest is then among them for practically all near questions."""

INLINE_ROWS_MAX = 131_072
"""Larger partitions (0.3 ms and more) are searched in a thread, so that the event loop goes on."""

EXPIRED_PER_CALL_MAX = 64
"""Expired entries that one call removes on the side, so that no single call pays for many."""

_NORM_MIN = 1e-6


class InvalidVectorError(ValueError):
    """Not a vector that can be compared: wrong length in bytes, NaN, infinite or zero."""


class DimensionMismatchError(ValueError):
    """The model's vectors had another dimension before."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question and its cosine similarity to the one searched for, -1 to 1."""

    key: str
    similarity: float


@dataclass(frozen=True, slots=True)
class FrozenPartition:
    """A partition as it was at one moment. Rows of one key belong to one entry."""

    name: str
    keys: list[str]
    expires_at_unix_s: array[float]
    vectors: list[Matrix]
    codes: list[Matrix] = field(default_factory=list)
    centre: Vector | None = None


@dataclass(slots=True)
class _Partition:
    """Row i of `vectors` (and of `codes`, when there is a coder) belongs to the entry `keys[i]`."""

    vectors: ChunkedRows
    keys: list[str] = field(default_factory=list)
    expires_at_unix_s: array[float] = field(default_factory=lambda: array("d"))
    codes: ChunkedRows | None = None
    coder: SignCoder | None = None
    aliases: int = 0


_Place = tuple[str, tuple[int, ...]]
"""An entry's partition and rows. A plain tuple of plain values, which the garbage collector need not visit: among a
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
    """Searches in `executor` when a partition has more than `inline_rows_max` rows; without one, always inline."""

    def __init__(
        self, *, entries_max: int, executor: Executor | None = None, inline_rows_max: int = INLINE_ROWS_MAX
    ) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be at least 1")
        self._entries_max = entries_max
        self._executor = executor
        self._inline_rows_max = inline_rows_max
        self._partitions: dict[str, _Partition] = {}
        self._places: dict[str, _Place] = {}  # in the order of insertion: the oldest first
        self._expiries: list[tuple[float, str]] = []
        self._dimensions: dict[str, int] = {}
        self._aliases = 0

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
        return sum(
            partition.vectors.bytes_held + (partition.codes.bytes_held if partition.codes else 0)
            for partition in self._partitions.values()
        )

    def entries_in(self, partition: str) -> int:
        """How many entries the partition holds, those that expired a moment ago included."""
        found = self._partitions.get(partition)
        return 0 if found is None else len(found.keys) - found.aliases

    def check_dimension(self, model: str, vector: Vector) -> None:
        """Raises DimensionMismatchError when the model's vectors had another dimension before."""
        if self._dimensions.get(model, len(vector)) != len(vector):
            raise DimensionMismatchError(f"{len(vector)} dimensions, but this model had {self._dimensions[model]}")

    def add(self, key: str, *, partition: str, model: str, vector: Vector, expires_at_unix_s: float) -> None:
        """Adds an entry, or replaces the one with that key and all its vectors, as the newest.

        `partition` is of one model. `vector` comes from `unit_vector`. Raises DimensionMismatchError.
        """
        self.check_dimension(model, vector)
        if model not in self._dimensions:
            self._dimensions[model] = len(vector)
            if self._executor is not None:
                self._executor.submit(prepare, len(vector))
        while len(self._dimensions) > MODELS_MAX:
            del self._dimensions[next(iter(self._dimensions))]
        found = self._partitions.get(partition)
        if found is not None and found.vectors.width != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        self.remove(key)
        while len(self._places) >= self._entries_max:
            self.remove(next(iter(self._places)))
        found = self._partitions.get(partition)
        if found is None:
            found = _Partition(ChunkedRows(len(vector), np.float32, EXACT_ROWS_MAX))
            self._partitions[partition] = found
        self._places[key] = (partition, (_append(found, key, vector, expires_at_unix_s),))
        heapq.heappush(self._expiries, (expires_at_unix_s, key))
        if len(self._expiries) > 2 * len(self._places) + EXPIRED_PER_CALL_MAX:
            self._expiries = [(self._expires_at_unix_s(key), key) for key in self._places]
            heapq.heapify(self._expiries)

    def add_alias(self, key: str, vector: Vector) -> bool:
        """One more vector by which the entry is found, until it leaves.

        False when there is no such entry, when it has `ALIASES_MAX` of them, when all entries together have as many as
        there may be entries, or when the vector is one that the entry has. Raises DimensionMismatchError.
        """
        place = self._places.get(key)
        if place is None or len(place[1]) > ALIASES_MAX or self._aliases >= self._entries_max:
            return False
        name, rows = place
        found = self._partitions[name]
        if found.vectors.width != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        if any(np.array_equal(found.vectors[row], vector.astype(found.vectors[row].dtype)) for row in rows):
            return False
        row = _append(found, key, vector, found.expires_at_unix_s[rows[0]])
        self._places[key] = (name, (*rows, row))
        found.aliases += 1
        self._aliases += 1
        return True

    def remove(self, key: str) -> bool:
        """Removes the entry with all its vectors; False when there is none."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        name, rows = place
        found = self._partitions[name]
        found.aliases -= len(rows) - 1
        self._aliases -= len(rows) - 1
        for row in sorted(rows, reverse=True):  # so that the row that moves into the gap is never one of them
            self._remove_row(found, row)
        if not found.keys:
            del self._partitions[name]
        elif found.codes is not None and len(found.keys) < CODED_ROWS_MIN:
            _make_exact(found)
        return True

    def clear(self) -> None:
        """Forgets every entry and model."""
        self._partitions.clear()
        self._places.clear()
        self._expiries.clear()
        self._dimensions.clear()
        self._aliases = 0

    def expire(self, now_unix_s: float) -> None:
        """Removes entries whose time has come, at most `EXPIRED_PER_CALL_MAX`."""
        for _ in range(EXPIRED_PER_CALL_MAX):
            if not self._expiries or self._expiries[0][0] > now_unix_s:
                return
            _, key = heapq.heappop(self._expiries)
            if key in self._places and self._expires_at_unix_s(key) <= now_unix_s:
                self.remove(key)

    async def search(self, partition: str, vector: Vector, *, count: int, now_unix_s: float) -> Sequence[Candidate]:
        """The `count` nearest living entries of the partition, nearest first.

        Raises DimensionMismatchError when the partition's vectors have another dimension.
        """
        self.expire(now_unix_s)
        found = self._partitions.get(partition)
        if found is None:
            return ()
        if found.vectors.width != len(vector):
            raise DimensionMismatchError("the partition's vectors have another dimension")
        looks = count + min(found.aliases, count * ALIASES_MAX)
        if found.codes is None or found.coder is None:
            rows = _nearest(found.vectors.chunks()[0], vector, looks)
        else:
            chunks, code = found.codes.chunks(), found.coder.encode(vector)
            looks = max(looks, SECOND_LOOKS)
            if self._executor is None or len(found.keys) <= self._inline_rows_max:
                rows = nearest_codes(chunks, code, looks)
            else:
                loop = asyncio.get_running_loop()
                rows = await loop.run_in_executor(self._executor, nearest_codes, chunks, code, looks)
                found = self._partitions.get(partition)  # other tasks may have changed everything meanwhile
        return () if found is None else self._living(found, rows, vector, count, now_unix_s)

    def _living(
        self, found: _Partition, rows: list[int], vector: Vector, count: int, now_unix_s: float
    ) -> Sequence[Candidate]:
        """The nearest of these rows by what they hold now, one for each entry that is alive."""
        rows = [row for row in rows if row < len(found.keys)]
        similarities = found.vectors.take(rows) @ vector
        nearest: dict[str, float] = {}
        for position in np.argsort(-similarities, kind="stable").tolist():
            row = rows[position]
            key = found.keys[row]
            if key not in nearest and found.expires_at_unix_s[row] > now_unix_s:
                nearest[key] = float(similarities[position])
                if len(nearest) == count:
                    break
        return [Candidate(key, similarity) for key, similarity in nearest.items()]

    def _expires_at_unix_s(self, key: str) -> float:
        name, rows = self._places[key]
        return self._partitions[name].expires_at_unix_s[rows[0]]

    def _remove_row(self, found: _Partition, row: int) -> None:
        last = len(found.keys) - 1
        moved_key, moved_expiry = found.keys.pop(), found.expires_at_unix_s.pop()
        if row != last:
            found.keys[row], found.expires_at_unix_s[row] = moved_key, moved_expiry
            found.vectors[row] = found.vectors[last]
            if found.codes is not None:
                found.codes[row] = found.codes[last]
            name, rows = self._places[moved_key]
            self._places[moved_key] = (name, tuple(row if each == last else each for each in rows))
        found.vectors.pop()
        if found.codes is not None:
            found.codes.pop()

    def freeze(self) -> tuple[list[FrozenPartition], dict[str, int]]:
        """All partitions as they are now, for a snapshot, and the dimensions of the models.

        Copies keys and expiry times alone (milliseconds for a million entries); vectors are shared until they change.
        """
        frozen = [
            FrozenPartition(
                name,
                list(found.keys),
                found.expires_at_unix_s[:],
                found.vectors.freeze(),
                [] if found.codes is None else found.codes.freeze(),
                None if found.coder is None else found.coder.centre,
            )
            for name, found in self._partitions.items()
        ]
        return frozen, dict(self._dimensions)

    def thaw(self, partitions: Iterable[FrozenPartition], dimensions: dict[str, int], *, now_unix_s: float) -> None:
        """Puts the partitions into an empty index; those beyond `entries_max` and the expired are left out.

        Trusts what it is given: it comes from `freeze`, through a checked file.
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
        name, places = frozen.name, self._places
        width = frozen.vectors[0].shape[1]
        if frozen.centre is None:
            made = _Partition(ChunkedRows(width, np.float32, EXACT_ROWS_MAX))
        else:
            made = _Partition(ChunkedRows(width, np.float16, VECTORS_CHUNK_ROWS))
            made.coder = SignCoder(frozen.centre)
            made.codes = ChunkedRows(made.coder.code_bytes, np.uint8, CODES_CHUNK_ROWS)
            made.codes.extend(_joined(frozen.codes))
        made.vectors.extend(_joined(frozen.vectors))
        made.keys, made.expires_at_unix_s = frozen.keys, frozen.expires_at_unix_s
        self._partitions[name] = made
        for row, key in enumerate(made.keys):
            known = places.get(key)
            if known is None:
                places[key] = (name, (row,))
                self._expiries.append((made.expires_at_unix_s[row], key))
            else:
                places[key] = (name, (*known[1], row))
                made.aliases += 1
        self._aliases += made.aliases


def _append(found: _Partition, key: str, vector: Vector, expires_at_unix_s: float) -> int:
    """The row where the vector is now."""
    if found.codes is None and len(found.keys) == EXACT_ROWS_MAX:
        _make_coded(found)
    found.vectors.append(vector)
    if found.codes is not None and found.coder is not None:
        found.codes.append(found.coder.encode(vector))
    found.keys.append(key)
    found.expires_at_unix_s.append(expires_at_unix_s)
    return len(found.keys) - 1


def _make_coded(found: _Partition) -> None:
    """Some five milliseconds, once in a partition's growth, when the directions are known by then."""
    rows = found.vectors.chunks()[0]
    coder = SignCoder(rows.mean(axis=0))
    codes = ChunkedRows(coder.code_bytes, np.uint8, CODES_CHUNK_ROWS)
    vectors = ChunkedRows(found.vectors.width, np.float16, VECTORS_CHUNK_ROWS)
    vectors.extend(rows)
    codes.extend(coder.encode(rows))
    found.vectors, found.codes, found.coder = vectors, codes, coder


def _make_exact(found: _Partition) -> None:
    vectors = ChunkedRows(found.vectors.width, np.float32, EXACT_ROWS_MAX)
    vectors.extend(found.vectors.take(range(len(found.keys))))
    found.vectors, found.codes, found.coder = vectors, None, None


def _nearest(rows: Vector, vector: Vector, count: int) -> list[int]:
    count = min(count, len(rows))
    if len(rows) >= FAISS_ROWS_MIN:
        _, found = faiss.knn(vector[np.newaxis], rows, count, metric=faiss.METRIC_INNER_PRODUCT)
        return [int(row) for row in found[0] if row >= 0]
    similarities = rows @ vector
    nearest: list[int] = np.argpartition(similarities, len(rows) - count)[len(rows) - count :].tolist()
    return nearest


def _joined(chunks: Sequence[Matrix]) -> Matrix:
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
