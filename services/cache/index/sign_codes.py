"""One bit for each direction of a vector, and the rows whose bits differ least from a query's.

The angle between two unit vectors is about pi times the share of random directions on whose two sides they lie
(Goemans and Williamson, 1995; Charikar, 2002, as a hash). So the rows with the fewest differing bits are candidates,
and a second look at their vectors finds the nearest. A code takes 64 bytes, and FAISS counts 1.4 nanoseconds a row.
There is nothing to train but a centre, and a row is added or removed by copying 64 bytes.

Promises: pure; the same dimensions have the same directions in every process of one numpy version, and `fingerprint`
tells others apart.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

__all__ = ["CODE_BYTES", "Codes", "SignCoder", "nearest_codes", "prepare"]

Vector = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

BITS_MIN = 384
"""Fewer bits than this need too many second looks; vectors of fewer dimensions are coded in more directions."""

BITS_MAX = 512
"""Longer vectors are coded in this many directions: a projection of 3,072 dimensions takes 0.3 ms."""

CODE_BYTES = 64
"""Of every code, filled up with zeros: FAISS counts 64 bytes in two thirds of the time that it needs for 48, for which
it has no code of its own."""

_SEED = 20_240_229


@functools.lru_cache(maxsize=64)
def _directions(dimensions: int) -> Vector:
    """Random directions as columns, orthogonal as far as the dimensions allow."""
    bits = min(BITS_MAX, max(BITS_MIN, -(-dimensions // 64) * 64))
    drawn = np.random.default_rng((_SEED, dimensions)).standard_normal((dimensions, bits))
    by_columns: Vector = np.ascontiguousarray(drawn.T, np.float32)
    if bits <= dimensions:  # by FAISS, as below: numpy would take half a second of all cores
        faiss.matrix_qr(dimensions, bits, faiss.swig_ptr(by_columns))  # type: ignore[attr-defined]
    directions: Vector = np.ascontiguousarray(by_columns.T)
    return directions


@functools.lru_cache(maxsize=64)
def _projection(dimensions: int) -> Any:
    """The same for many vectors at once, by FAISS, on as many threads as it is told: numpy's product would take all
    cores, and many times as long where others use them."""
    directions = _directions(dimensions)
    made = faiss.LinearTransform(*directions.shape, False)  # type: ignore[call-arg]
    faiss.copy_array_to_vector(np.ascontiguousarray(directions.T).ravel(), made.A)
    made.is_trained = True
    return made


def prepare(dimensions: int) -> None:
    """Draws the directions of vectors of this length: ten milliseconds or more, once in a process, in any thread."""
    _directions(dimensions)


class SignCoder:
    """Codes vectors around `centre`: embeddings of one kind of text all point one way, which says nothing."""

    def __init__(self, centre: Vector) -> None:
        self.centre = centre
        self._directions = _directions(len(centre))
        self._offsets = centre @ self._directions

    def encode(self, vectors: Vector) -> Codes:
        """The codes of one vector or of rows of vectors."""
        if vectors.ndim == 1:
            projected = vectors @ self._directions
        else:
            projected = _projection(len(self.centre)).apply(np.ascontiguousarray(vectors, np.float32))
        bits = np.packbits(projected > self._offsets, axis=-1)
        codes = np.zeros((*bits.shape[:-1], CODE_BYTES), np.uint8)
        codes[..., : bits.shape[-1]] = bits
        return codes

    def fingerprint(self) -> int:
        """Differs when another process would code vectors otherwise."""
        return zlib.crc32(self._directions.tobytes(), CODE_BYTES)


def nearest_codes(chunks: Sequence[Codes], code: Codes, count: int) -> list[int]:
    """The rows, numbered through all chunks, whose codes differ least from `code`; at most `count`, in any order.

    Lets go of the interpreter while it counts, so it may run beside an event loop in a thread.
    """
    query = code[np.newaxis]
    distances, rows = [], []
    begin = 0
    for chunk in chunks:
        differing, found = faiss.knn_hamming(query, chunk, min(count, len(chunk)))
        distances.append(differing[0])
        rows.append(found[0] + begin)
        begin += len(chunk)
    if not rows:
        return []
    all_rows = rows[0] if len(rows) == 1 else np.concatenate(rows)
    if len(all_rows) > count:
        best = np.argpartition(np.concatenate(distances), count - 1)[:count]
        all_rows = all_rows[best]
    nearest: list[int] = all_rows.tolist()
    return nearest
