"""Embeds sets of texts, and keeps what it embedded, so that an experiment pays for it once.

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

__all__ = ["CACHE_DIRECTORY", "Embeds", "embed_all", "embed_cached"]

CACHE_DIRECTORY = Path.home() / ".cache" / "spillway" / "lab"
# Texts of like length share a batch, so hardly anything is padded; larger batches no longer help on one or two cores.
BATCH_TEXTS = 16


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
