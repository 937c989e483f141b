"""What a head keeps of the prompts it was fitted to, so that near copies of them are left out of later figures. Pure.

Kept are, of each prompt, its embedding in half precision and at most SHINGLES_MAX of its rare word sequences as 32-bit
hashes (all of them up to some 130 words; of longer prompts those of least hash, an even sample), and the sequences that
were common. No text. Two prompts are near copies by the rule of `lab.near_duplicates`.

Layout, little-endian: MAGIC, four uint32 (prompts, dimensions, hashes, common ones), embeddings float16, a count of
hashes per prompt uint32, hashes uint32, common ones uint32.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.near_duplicates import BLOCK_ROWS, COSINE_MIN
from lab.recorded import OVERLAP_MIN, common_rows_max, shingles

__all__ = ["SHINGLES_MAX", "FittedPrompts", "FittedPromptsError"]

SHINGLES_MAX: Final = 128
MAGIC: Final = b"SWNEAR1\n"
_HEADER: Final = struct.Struct("<8sIIII")
# What half precision may take from a cosine of unit vectors, and some.
_ROUNDING: Final = 1e-3
_NO_LIMIT: Final = 2**32

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint32]


class FittedPromptsError(ValueError):
    """The bytes are not what `FittedPrompts.serialise` wrote."""


@dataclass(frozen=True, slots=True)
class FittedPrompts:
    """`vectors` [n, d]; `counts` [n] of `hashes`, which stand prompt by prompt, ascending; `common`, ascending."""

    vectors: npt.NDArray[np.float16]
    counts: npt.NDArray[np.uint32]
    hashes: Hashes
    common: Hashes

    @classmethod
    def of(cls, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> FittedPrompts:
        """Of prompts and their unit vectors [n, d]."""
        found = [shingles(text) for text in texts]
        rows = Counter(hash_ for each in found for hash_ in each)
        most = common_rows_max(len(texts))
        common = np.asarray(sorted(hash_ for hash_, count in rows.items() if count > most), dtype=np.uint32)
        kept = [_least(each, common) for each in found]
        return cls(
            vectors=vectors.astype(np.float16),
            counts=np.asarray([len(each) for each in kept], dtype=np.uint32),
            hashes=np.concatenate([np.zeros(0, dtype=np.uint32), *kept]),
            common=common,
        )

    def serialise(self) -> bytes:
        """As `parse` reads it."""
        rows, dimensions = self.vectors.shape
        header = _HEADER.pack(MAGIC, rows, dimensions, len(self.hashes), len(self.common))
        arrays = (self.vectors.astype("<f2"), *(each.astype("<u4") for each in (self.counts, self.hashes, self.common)))
        return b"".join([header, *(each.tobytes() for each in arrays)])

    @classmethod
    def parse(cls, data: bytes) -> FittedPrompts:
        """Raises FittedPromptsError."""
        if len(data) < _HEADER.size:
            raise FittedPromptsError("it is torn")
        magic, rows, dimensions, hashes, common = _HEADER.unpack_from(data)
        sizes = (2 * rows * dimensions, 4 * rows, 4 * hashes, 4 * common)
        if magic != MAGIC or len(data) != _HEADER.size + sum(sizes):
            raise FittedPromptsError("it is torn, or of another kind")
        at = np.cumsum([_HEADER.size, *sizes]).tolist()
        vectors = np.frombuffer(data, "<f2", rows * dimensions, at[0]).reshape(rows, dimensions)
        counts, kept, often = (
            np.frombuffer(data, "<u4", sizes[part] // 4, at[part]).astype(np.uint32) for part in (1, 2, 3)
        )
        if int(counts.sum(dtype=np.int64)) != hashes:
            raise FittedPromptsError("its counts do not add up")
        return cls(vectors.astype(np.float16), counts, kept, often)

    def copies(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> Mask:
        """Marks the prompts that are near copies of a kept one. Vectors of another size are not compared."""
        found = np.zeros(len(texts), dtype=np.bool_)
        if not len(self.vectors):
            return found
        if vectors.shape[1] == self.vectors.shape[1]:
            kept = self.vectors.astype(np.float32)
            for start in range(0, len(texts), BLOCK_ROWS):
                closest = (vectors[start : start + BLOCK_ROWS] @ kept.T).max(axis=1)
                found[start : start + BLOCK_ROWS] = closest >= COSINE_MIN - _ROUNDING
        index = _Index(self)
        for row in np.flatnonzero(~found).tolist():
            found[row] = index.has_copy(_least(shingles(texts[row]), self.common))
        return found


class _Index:
    """Which kept prompts have a hash."""

    def __init__(self, kept: FittedPrompts) -> None:
        self._counts = kept.counts.astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._by_prompt = kept.hashes
        order = np.argsort(kept.hashes, kind="stable")
        self._hashes = kept.hashes[order]
        self._prompts = np.repeat(np.arange(len(self._counts)), self._counts)[order]

    def has_copy(self, sketch: Hashes) -> bool:
        """Whether a kept prompt shares half of the hashes of the smaller of the two."""
        low, high = (np.searchsorted(self._hashes, sketch, side=side) for side in ("left", "right"))
        spans = [self._prompts[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True) if b > a]
        if not spans:
            return False
        prompts, shared = np.unique(np.concatenate(spans), return_counts=True)
        whole = (self._counts[prompts] < SHINGLES_MAX) & (len(sketch) < SHINGLES_MAX)
        smaller = np.minimum(self._counts[prompts], len(sketch))
        if bool((shared >= OVERLAP_MIN * smaller)[whole].any()):
            return True
        return any(
            count >= OVERLAP_MIN * self._smaller(prompt, sketch)
            for prompt, count in zip(prompts[~whole].tolist(), shared[~whole].tolist(), strict=True)
        )

    def _smaller(self, prompt: int, sketch: Hashes) -> int:
        """The size of the smaller of two samples, both cut to the range of hashes that both of them cover."""
        mine = self._by_prompt[self._starts[prompt] : self._starts[prompt + 1]]
        limit = min(int(each[-1]) if len(each) == SHINGLES_MAX else _NO_LIMIT for each in (mine, sketch))
        return min(int(np.searchsorted(each, limit, side="right")) for each in (mine, sketch))


def _least(found: set[int], common: Hashes) -> Hashes:
    rare = np.setdiff1d(np.asarray(sorted(found), dtype=np.uint32), common, assume_unique=True)
    return np.asarray(rare[:SHINGLES_MAX], dtype=np.uint32)
