"""Many entries that come at once, made ready for the index: the work that needs no event loop.

Promises: pure, for any thread; the entries of a batch by partition, in their order, each key once (the last of a key
counts); a batch with a vector that is none, or is too long, or with several lengths, is not arranged: such ones are for
`unit_vector`, one after the other, which says what is wrong with each. Why at all: numpy and BLAS are paid for each
call, and an entry that comes alone costs five times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.cache.index.partition_rows import NewRows
from services.cache.index.sign_codes import SignCoder
from services.cache.index.vector_index import DIMENSIONS_MAX, InvalidVectorError, unit_vector
from services.cache.index.vector_rows import Vector
from services.cache.store.answer_store import IndexedMany

__all__ = ["arrange"]

UNIT_TOLERANCE = 1e-5
"""Vectors whose squared length is this near to 1 are taken as they are, as stores keep unit vectors."""


def arrange(batch: IndexedMany, coders: Mapping[str, SignCoder | None]) -> dict[str, NewRows] | None:
    """The batch as rows of its partitions, with codes for those that have a coder."""
    if not batch.keys:
        return {}
    if len(set(batch.keys)) != len(batch.keys):
        batch = _picked(batch, list({key: at for at, key in enumerate(batch.keys)}.values()))
    vectors = _matrix(batch.vectors)
    if vectors is None:
        return None
    places: dict[str, list[int]] = {}
    for at, partition in enumerate(batch.partitions):
        places.setdefault(partition, []).append(at)
    if len(places) == 1:
        (partition,) = places
        return {partition: _rows(batch, vectors, coders.get(partition))}
    return {
        partition: _rows(_picked(batch, chosen), vectors[chosen], coders.get(partition))
        for partition, chosen in places.items()
    }


def _rows(batch: IndexedMany, vectors: Vector, coder: SignCoder | None) -> NewRows:
    if coder is None or len(coder.centre) != vectors.shape[1]:
        return NewRows(batch.keys, batch.expires_at_unix_s, vectors)
    return NewRows(batch.keys, batch.expires_at_unix_s, vectors.astype(np.float16), coder, coder.encode(vectors))


def _matrix(vectors: Sequence[bytes]) -> Vector | None:
    """As unit vectors."""
    width = len(vectors[0])
    if not width or width % 4 or width > 4 * DIMENSIONS_MAX or any(len(each) != width for each in vectors):
        return None
    values: Vector = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)
    squared = np.einsum("ij,ij->i", values, values)
    if np.all(np.abs(squared - 1.0) <= UNIT_TOLERANCE):
        return values
    try:
        return np.stack([unit_vector(each) for each in vectors])
    except InvalidVectorError:
        return None


def _picked(batch: IndexedMany, chosen: Sequence[int]) -> IndexedMany:
    return replace(
        batch,
        keys=[batch.keys[at] for at in chosen],
        partitions=[batch.partitions[at] for at in chosen],
        vectors=[batch.vectors[at] for at in chosen],
        expires_at_unix_s=[batch.expires_at_unix_s[at] for at in chosen],
    )
