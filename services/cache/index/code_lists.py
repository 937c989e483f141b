"""The codes of a large partition in inverted lists: a search looks through the lists near its query alone.

The centres of the lists are codes, found by k-means on a sample; a code lies in the list of the centre from which it
differs least, and of the rows near a query practically all lie in the eighth of the lists whose centres are nearest it
(recall: docs/cache-index.md). Adding or removing a row costs two microseconds among many, ten alone. The centres are
those of the rows that there were: when there are twice or half as many, lists are built anew.

Promises: what a search gives are rows that are there; a row is found by its own code, and by one that is like it.
Belongs to one thread at a time: FAISS's lists must not change under a search.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import numpy.typing as npt

from services.cache.index.sign_codes import CODE_BYTES, Codes

__all__ = ["CodeLists"]

LISTS = 1_024
PROBES = 128
"""Of all lists an eighth is looked through: at a million rows 0.2 ms instead of 2 to 3."""

SAMPLE_ROWS = 20 * LISTS
ITERATIONS = 4
"""Of k-means: a second of CPU, and more of either finds no more."""

_SEED = 20_240_229

Rows = npt.NDArray[np.int64]


class CodeLists:
    """Made by `built`."""

    def __init__(self, sample: Codes) -> None:
        bits = CODE_BYTES * 8
        self._centres = faiss.IndexBinaryFlat(bits)
        self._index = faiss.IndexBinaryIVF(self._centres, bits, min(LISTS, len(sample)))
        self._index.nprobe = PROBES
        self._index.cp.niter = ITERATIONS
        self._index.cp.min_points_per_centroid = 1  # or FAISS prints what it thinks of the sample
        self._index.train(sample)
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        self.rows_built = 0
        self.stale: set[int] = set()
        """Rows that are to be told to `update` before the next search: who changes them keeps it."""

    @classmethod
    def built(cls, chunks: Sequence[Codes]) -> CodeLists:
        """Of the rows of all chunks, numbered through them: three seconds for a million, in any thread."""
        starts = np.cumsum([0, *map(len, chunks)])
        rows = int(starts[-1])
        chosen = np.sort(np.random.default_rng(_SEED).choice(rows, min(rows, SAMPLE_ROWS), replace=False))
        parts = [
            chunk[chosen[(begin <= chosen) & (chosen < begin + len(chunk))] - begin]
            for begin, chunk in zip(starts.tolist(), chunks, strict=False)
        ]
        made = cls(np.concatenate(parts))
        for begin, chunk in zip(starts.tolist(), chunks, strict=False):
            made._add(np.arange(begin, begin + len(chunk)), chunk)
        made.rows_built = rows
        # A search so finds the same centres in 10 instead of 26 microseconds; to add a row takes half as much again.
        made._centres.use_heap = False  # type: ignore[attr-defined]
        return made

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def update(self, changed: Sequence[int], living: Sequence[int], codes: Codes) -> None:
        """Takes the `changed` rows out; puts those of them that are there in again, `codes[i]` at `living[i]`."""
        gone = np.array(changed, np.int64)
        self._index.remove_ids(faiss.IDSelectorArray(gone))
        if living:
            self._add(np.array(living, np.int64), codes)

    def add(self, first: int, codes: Codes) -> None:
        """New rows, from `first` on."""
        self._add(np.arange(first, first + len(codes)), codes)

    def search(self, code: Codes, count: int) -> list[int]:
        """About the `count` rows whose codes differ least from `code`, in any order."""
        _, found = self._index.search(code[np.newaxis], min(count, len(self)))
        rows: list[int] = found[0].tolist()
        return [row for row in rows if row >= 0]

    def _add(self, rows: Rows, codes: Codes) -> None:
        self._index.add_with_ids(np.ascontiguousarray(codes), rows)
