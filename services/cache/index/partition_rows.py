"""The vectors of a partition, searched whole, of one of two kinds by their number (measurements: docs/cache-index.md):

- exact, up to `EXACT_ROWS_MAX` rows: one float32 matrix. Thousands of tiny partitions so cost no FAISS object each.
- coded, above: 1-bit codes searched by Hamming distance, then `SECOND_LOOKS` rows by their vectors, kept as float16;
  in a large one, once they are made, by `code_lists` of them.

Promises: rows are numbered without gaps: a removal moves the last row into the gap; no addition or removal copies more
than one chunk of a few megabytes, so nothing has to be trained, rebuilt or compacted for a search to be right: lists of
codes are made beside the lookups (`code_lister`), and thrown away at will. A search in a thread only yields candidate
rows: whose they are, and how near, is read on the event loop from what they hold by then.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

import faiss
import numpy as np

from services.cache.index.code_lists import CodeLists
from services.cache.index.sign_codes import CODE_BYTES, Codes, SignCoder, nearest_codes
from services.cache.index.vector_rows import ChunkedRows, Matrix, Vector

__all__ = [
    "CHANGES_TAKEN_MAX",
    "CODED_ROWS_MIN",
    "EXACT_ROWS_MAX",
    "FAISS_ROWS_MIN",
    "STALE_ROWS_MAX",
    "FrozenPartition",
    "NewRows",
    "PartitionRows",
]

EXACT_ROWS_MAX = 1_024
"""Larger partitions are coded: 25 microseconds of search at 384 dimensions, and 1.5 MiB in one piece."""

CODED_ROWS_MIN = 256
"""A coded partition that shrinks below it becomes exact again; far from the other bound, so none goes to and fro."""

VECTORS_CHUNK_ROWS = 4_096
CODES_CHUNK_ROWS = 65_536
"""3 and 4 MiB each: what is copied at once when a matrix grows or changes under a snapshot."""

FAISS_ROWS_MIN = 256
"""Below it a numpy product is as fast."""

STALE_ROWS_MAX = 64
"""Rows whose lists are entered together, before the next search or when there are so many: FAISS is paid for each call,
and so a row costs 2 microseconds instead of 5."""

CHANGES_TAKEN_MAX = 2_048
"""Rows of which `changes` tells at a time: 0.7 ms on the event loop."""

SECOND_LOOKS = 64
"""Coded rows whose vectors are compared: the nearest is then among them for practically all near questions."""


@dataclass(frozen=True, slots=True)
class FrozenPartition:
    """A partition as it was at one moment. Row i belongs to the entry `keys[i]`."""

    name: str
    keys: list[str]
    expires_at_unix_s: array[float]
    vectors: list[Matrix]
    codes: list[Matrix] = field(default_factory=list)
    centre: Vector | None = None


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows on their way into a partition: unit vectors, and their codes by `coder` if that is what the partition had
    when they were made."""

    keys: Sequence[str]
    expires_at_unix_s: Sequence[float]
    vectors: Matrix
    coder: SignCoder | None = None
    codes: Codes | None = None


class ListChanges(NamedTuple):
    """For `CodeLists.update`."""

    changed: Sequence[int]
    living: Sequence[int]
    codes: Codes


class PartitionRows:
    """Row i belongs to the entry `keys[i]`, which expires at `expires_at_unix_s[i]`."""

    __slots__ = ("_changed", "_coder", "_codes", "_lists", "_vectors", "expires_at_unix_s", "keys")

    def __init__(self, width: int) -> None:
        self._vectors = ChunkedRows(width, np.float32, EXACT_ROWS_MAX)
        self._codes: ChunkedRows | None = None
        self._coder: SignCoder | None = None
        self._lists: CodeLists | None = None
        self._changed: set[int] | None = None  # rows, while lists of their codes are made elsewhere
        self.keys: list[str] = []
        self.expires_at_unix_s: array[float] = array("d")

    @classmethod
    def thawed(cls, frozen: FrozenPartition) -> PartitionRows:
        """As it was; takes over the lists."""
        made = cls(frozen.vectors[0].shape[1])
        if frozen.centre is not None:
            made._vectors = ChunkedRows(made.width, np.float16, VECTORS_CHUNK_ROWS)
            made._coder = SignCoder(frozen.centre)
            made._codes = ChunkedRows(CODE_BYTES, np.uint8, CODES_CHUNK_ROWS)
            made._codes.extend(_joined(frozen.codes))
        made._vectors.extend(_joined(frozen.vectors))
        made.keys, made.expires_at_unix_s = frozen.keys, frozen.expires_at_unix_s
        return made

    def freeze(self, name: str) -> FrozenPartition:
        """As it is now. Copies keys and expiry times alone; vectors are shared until they change."""
        return FrozenPartition(
            name,
            list(self.keys),
            self.expires_at_unix_s[:],
            self._vectors.freeze(),
            [] if self._codes is None else self._codes.freeze(),
            None if self._coder is None else self._coder.centre,
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def width(self) -> int:
        """Dimensions of the vectors."""
        return self._vectors.width

    @property
    def vector_bytes(self) -> int:
        """What vectors and codes take."""
        return self._vectors.bytes_held + (self._codes.bytes_held if self._codes else 0)

    def append(self, key: str, vector: Vector, expires_at_unix_s: float) -> int:
        """The row where the vector is now."""
        if self._codes is None and len(self.keys) == EXACT_ROWS_MAX:
            self._make_coded()
        self._vectors.append(vector)
        if self._codes is not None and self._coder is not None:
            self._codes.append(self._coder.encode(vector))
            self._relist(len(self.keys))
        self.keys.append(key)
        self.expires_at_unix_s.append(expires_at_unix_s)
        return len(self.keys) - 1

    @property
    def coder(self) -> SignCoder | None:
        """What codes the vectors now; None while they are exact."""
        return self._coder

    def extend(self, rows: NewRows) -> int:
        """`append`, one after the other; where the first is now."""
        first, vectors, codes = len(self.keys), rows.vectors, rows.codes
        if rows.coder is not self._coder:
            codes = None
        if self._codes is None:
            room = EXACT_ROWS_MAX - first
            self._vectors.extend(vectors[:room])
            vectors = vectors[room:]
            if len(vectors):
                self._make_coded()
        if self._codes is not None and self._coder is not None:
            codes = self._coder.encode(vectors) if codes is None else codes
            self._list()
            self._codes.extend(codes)
            if self._lists is not None:
                self._lists.add(len(self._codes) - len(codes), codes)
            if self._changed is not None:
                self._changed.update(range(len(self._codes) - len(codes), len(self._codes)))
            self._vectors.extend(vectors)
        self.keys.extend(rows.keys)
        self.expires_at_unix_s.extend(rows.expires_at_unix_s)
        return first

    def remove(self, row: int) -> str | None:
        """Removes the row; the key of the entry that lies there now, if the last one was moved."""
        last = len(self.keys) - 1
        moved_key, moved_expiry = self.keys.pop(), self.expires_at_unix_s.pop()
        if row != last:
            self.keys[row], self.expires_at_unix_s[row] = moved_key, moved_expiry
            self._vectors[row] = self._vectors[last]
            if self._codes is not None:
                self._codes[row] = self._codes[last]
        self._vectors.pop()
        if self._codes is not None:
            self._codes.pop()
            self._relist(*{row, last})
            if len(self.keys) < CODED_ROWS_MIN:
                self._make_exact()
        return moved_key if row != last else None

    async def search(
        self, vector: Vector, *, count: int, executor: Executor | None, inline_rows_max: int
    ) -> Sequence[int]:
        """Rows among which the `count` nearest are, in any order; the rows may have changed by then.

        Coded rows beyond `inline_rows_max` are searched in `executor`, if there is one.
        """
        if self._codes is None or self._coder is None:
            return _nearest(self._vectors.chunks()[0], vector, count)
        code, looks = self._coder.encode(vector), max(count, SECOND_LOOKS)
        if self._lists is not None:
            self._list()
            return self._lists.search(code, looks)
        chunks = self._codes.chunks()
        if executor is None or len(self.keys) <= inline_rows_max:
            return nearest_codes(chunks, code, looks)
        return await asyncio.get_running_loop().run_in_executor(executor, nearest_codes, chunks, code, looks)

    def wants_lists(self, rows_min: int) -> bool:
        """Whether it has at least so many coded rows, and no lists of them, or lists of another size of it."""
        if self._codes is None or self._changed is not None or len(self.keys) < rows_min:
            return False
        return self._lists is None or not self._lists.rows_built <= 2 * len(self.keys) <= 4 * self._lists.rows_built

    def begin_lists(self) -> list[Codes]:
        """The codes of which lists are to be made; what changes from now on is noted."""
        self._changed = set()
        return [] if self._codes is None else self._codes.freeze()

    def changes(self) -> ListChanges | None:
        """What changed since `begin_lists` and was not told yet, of up to `CHANGES_TAKEN_MAX` rows: of fewer, when
        there are no more. None when the codes are none any more.
        """
        if self._changed is None or self._codes is None:
            return None
        taken = [self._changed.pop() for _ in range(min(len(self._changed), CHANGES_TAKEN_MAX))]
        return self._changes(self._codes, sorted(taken))

    def keep_lists(self) -> None:
        """Those that it has, or none: no others come of what `begin_lists` began."""
        self._changed = None

    def use_lists(self, lists: CodeLists) -> None:
        """Searches by these from now on, in which nothing is missing."""
        self._changed = None
        self._lists = lists

    def _relist(self, *rows: int) -> None:
        """Notes rows whose codes changed, or that are gone."""
        if self._changed is not None:
            self._changed.update(rows)
        if self._lists is not None and self._codes is not None:
            self._lists.stale.update(rows)
            if 4 * len(self._codes) < self._lists.rows_built:  # FAISS's lists keep the memory that they had
                self._lists = None
            elif len(self._lists.stale) >= STALE_ROWS_MAX:
                self._list()

    def _list(self) -> None:
        """Enters into the lists, if there are some, what changed since it was last done."""
        if self._lists is not None and self._lists.stale and self._codes is not None:
            self._lists.update(*self._changes(self._codes, sorted(self._lists.stale)))
            self._lists.stale.clear()

    def _changes(self, codes: ChunkedRows, rows: Sequence[int]) -> ListChanges:
        living = [row for row in rows if row < len(codes)]
        taken = np.array([codes[row] for row in living], np.uint8).reshape(-1, CODE_BYTES)
        return ListChanges(rows, living, taken)

    def vectors(self, rows: Sequence[int]) -> Vector:
        """Of these rows, float32 [len(rows), width]."""
        return self._vectors.take(rows)

    def _make_coded(self) -> None:
        """Some five milliseconds, once in a partition's growth, when the directions are known by then."""
        rows = self._vectors.chunks()[0]
        coder = SignCoder(rows.mean(axis=0))
        codes = ChunkedRows(CODE_BYTES, np.uint8, CODES_CHUNK_ROWS)
        vectors = ChunkedRows(self.width, np.float16, VECTORS_CHUNK_ROWS)
        vectors.extend(rows)
        codes.extend(coder.encode(rows))
        self._vectors, self._codes, self._coder = vectors, codes, coder

    def _make_exact(self) -> None:
        vectors = ChunkedRows(self.width, np.float32, EXACT_ROWS_MAX)
        if self.keys:
            vectors.extend(self._vectors.take(range(len(self.keys))))
        self._vectors, self._codes, self._coder, self._lists, self._changed = vectors, None, None, None, None


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
