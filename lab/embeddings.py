"""Embeds sets of texts, and keeps what it embedded, so that an experiment pays for it once.

Sets are kept whole (`embed_cached`), for experiments; single texts (`KeptVectors`), for a log that grows.

Promises: row i of the result is the unit vector of text i; a set is read back only when its texts, their order and the
model are the same (the file's name is a hash of them); a file that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["CACHE_DIRECTORY", "KEPT_ROWS_MAX", "Embeds", "KeptVectors", "embed_all", "embed_cached"]

CACHE_DIRECTORY = Path.home() / ".cache" / "spillway" / "lab"
# Texts of like length share a batch, so hardly anything is padded; larger batches no longer help on one or two cores.
BATCH_TEXTS = 16
KEPT_ROWS_MAX = 50_000
KEY_BYTES = 16
# Bounds the file where vectors are wide; 50,000 rows of 384 are 77 MB.
KEPT_BYTES_MAX = 256 << 20


class Embeds(Protocol):
    """`services.classifier.encoder.Encoder`, or a stand-in: a model's id, and unit vectors [n, d] of n texts."""

    model_id: str

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


def embed_all(texts: Sequence[str], encoder: Embeds) -> npt.NDArray[np.float32]:
    """Unit vectors, float32 [len(texts), d], in the order of `texts`; embedded in batches of like length."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[at : at + BATCH_TEXTS] for at in range(0, len(order), BATCH_TEXTS)]
    made = [encoder.encode([texts[index] for index in batch]) for batch in batches]
    result = np.zeros((len(texts), made[0].shape[1] if made else 0), dtype=np.float32)
    for batch, vectors in zip(batches, made, strict=True):
        result[batch] = vectors
    return result


def _name(texts: Sequence[str], model_id: str) -> str:
    digest = hashlib.sha256(model_id.encode())
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"vectors-{digest.hexdigest()[:32]}.npy"


def embed_cached(texts: Sequence[str], encoder: Embeds, directory: Path = CACHE_DIRECTORY) -> npt.NDArray[np.float32]:
    """`embed_all`, read from `directory` when it was made before; written there, atomically, when it was not."""
    path = directory / _name(texts, encoder.model_id)
    try:
        kept: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        kept = np.zeros((0, 0), dtype=np.float32)
    if len(kept) == len(texts) and kept.dtype == np.float32:
        return kept
    vectors = embed_all(texts, encoder)
    directory.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    with partial.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    partial.replace(path)
    return vectors


class KeptVectors:
    """The vectors of single texts of one model, in one file: at most KEPT_ROWS_MAX and KEPT_BYTES_MAX, the last used.

    The file has 128-bit hashes of the texts, and no text. One that cannot be read is empty.
    """

    def __init__(self, directory: Path, model_id: str) -> None:
        self._path = directory / f"vectors-{hashlib.sha256(model_id.encode()).hexdigest()[:32]}.bin"

    def find(self, texts: Sequence[str], dimensions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Vectors [len(texts), dimensions], and which of them were kept; the others are zeros."""
        result = np.zeros((len(texts), dimensions), dtype=np.float32)
        known = np.zeros(len(texts), dtype=np.bool_)
        keys, vectors = self._read(dimensions)
        place = {key: row for row, key in enumerate(keys)}
        for row, text in enumerate(texts):
            at = place.get(_key(text))
            if at is not None:
                result[row], known[row] = vectors[at], True
        return result, known

    def keep(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Keeps these, and of those kept before as many as there is room for. Raises OSError."""
        rows_max = min(KEPT_ROWS_MAX, KEPT_BYTES_MAX // (4 * vectors.shape[1]))
        old_keys, old = self._read(vectors.shape[1])
        mine = {_key(text): row for row, text in enumerate(texts[:rows_max])}
        others = [row for row, key in enumerate(old_keys) if key not in mine][: rows_max - len(mine)]
        keys = b"".join([*mine, *(old_keys[row] for row in others)])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            with partial.open("wb") as stream:
                np.save(stream, np.frombuffer(keys, dtype=np.uint8).reshape(-1, KEY_BYTES), allow_pickle=False)
                np.save(stream, np.concatenate([vectors[list(mine.values())], old[others]]), allow_pickle=False)
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, dimensions: int) -> tuple[list[bytes], npt.NDArray[np.float32]]:
        try:
            with self._path.open("rb") as stream:
                keys, vectors = np.load(stream, allow_pickle=False), np.load(stream, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return [], np.zeros((0, dimensions), dtype=np.float32)
        fits = keys.dtype == np.uint8 and keys.shape == (len(vectors), KEY_BYTES) and vectors.dtype == np.float32
        if not fits or vectors.shape[1:] != (dimensions,) or not np.isfinite(vectors).all():
            return [], np.zeros((0, dimensions), dtype=np.float32)
        return [row.tobytes() for row in keys], vectors


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
