"""P(one answer serves both questions), from the features of a pair: the starting verifier, trained offline.

Promises: pure; symmetric; an artifact is .npz arrays without pickles, checked for layout, size, digest, shape and range
before it is used; a judgement is finite and takes well under 0.1 ms. Without vectors, or with those of another
embedding model, the part that reads vectors is left out and the text decides alone.

The log odds are
    slope * mean(text network, vector network) + offset
of two networks with one hidden layer of rectified units and a direct connection, each the mean of several; slope and
offset are fitted to pairs that the networks had not seen (`lab.cache_pairs`).
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.packed_arrays import PackedArraysError, unpack_arrays
from services.cache.matching.pair_features import IDF_BUCKETS, NAMES, Idf

__all__ = [
    "ARTIFACT_BYTES_MAX",
    "FEATURE_BOUND",
    "Calibration",
    "Network",
    "PairModel",
    "PairModelError",
    "parse_pair_model",
    "serialise_pair_model",
    "vector_features",
]

Floats = npt.NDArray[np.float32]

ARTIFACT_BYTES_MAX: Final = 4 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 16 * 1024 * 1024
LAYOUT: Final = 2
"""Of the arrays; another one is refused. 1 had no digest, and two numbers for each dimension."""

VECTOR_PARTS: Final = 3
"""Numbers that the vector network reads for each dimension of the vectors."""

DIMENSIONS_MAX: Final = 8_192
HIDDEN_MAX: Final = 1_024
FEATURE_BOUND: Final = 6.0
"""Features farther from their mean, in standard deviations, are taken to be so far: nothing is known of them."""

_TEXT_CHARS_MAX: Final = 200


class PairModelError(ValueError):
    """The artifact is no pair model that this version can use."""


@dataclass(frozen=True, slots=True)
class Network:
    """One hidden layer: weights [inputs, hidden], bias [hidden], out [hidden], direct [inputs], offset []."""

    weights: Floats
    bias: Floats
    out: Floats
    direct: Floats
    offset: float

    def logits(self, rows: Floats) -> Floats:
        """[n, inputs] -> [n]."""
        hidden = np.maximum(rows @ self.weights + self.bias, 0.0)
        return np.asarray(hidden @ self.out + rows @ self.direct + self.offset, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a network's output to log odds, and the log odds from which a pair may be served.

    `served_from` is chosen offline (see the artifact's card), for figures on pairs alone: the service has no fixed bar.
    """

    slope: float
    offset: float
    served_from: float


@dataclass(frozen=True, slots=True)
class PairModel:
    """A loaded model. Arrays must not be written to. `embedding_model` names whose vectors `vector` reads."""

    version: str
    embedding_model: str
    idf: Idf
    mean: Floats
    scale: Floats
    text: Network
    vector: Network
    with_vectors: Calibration
    without_vectors: Calibration

    def logits(self, features: Floats, vectors: Floats | None) -> Floats:
        """Log odds of pairs: features [n, len(NAMES)]; `vectors` are `vector_features` [n, 3 d], or None."""
        rows = np.minimum(np.maximum((features - self.mean) / self.scale, -FEATURE_BOUND), FEATURE_BOUND)
        raw = self.text.logits(rows)
        calibration = self.without_vectors
        if vectors is not None:
            raw = (raw + self.vector.logits(np.concatenate([rows, vectors], axis=1))) / np.float32(2.0)
            calibration = self.with_vectors
        return np.asarray(calibration.slope * raw + calibration.offset, dtype=np.float32)

    def logit(self, features: Floats, a: Floats | None, b: Floats | None) -> float:
        """The log odds of one pair, with the unit vectors of its questions where they are of `embedding_model`."""
        vectors = None
        if a is not None and b is not None and a.shape == b.shape and VECTOR_PARTS * len(a) == self.vector_inputs:
            vectors = vector_features(a[np.newaxis], b[np.newaxis])
        found = float(self.logits(features[np.newaxis], vectors)[0])
        return found if math.isfinite(found) else 0.0

    @property
    def vector_inputs(self) -> int:
        """How many of the vector network's inputs come from vectors: VECTOR_PARTS times their dimension."""
        return len(self.vector.direct) - len(NAMES)


def vector_features(a: Floats, b: Floats) -> Floats:
    """Where two unit vectors differ and agree, and what they are about: [n, d], [n, d] -> [n, 3 d]. The same both
    ways."""
    return np.concatenate([np.abs(a - b), a * b, a + b], axis=1)


def serialise_pair_model(model: PairModel, card: str) -> bytes:
    """A model as .npz bytes; the same model gives the same bytes. `card` is JSON that says where it comes from."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "layout": np.asarray(LAYOUT),
        "version": np.asarray(model.version),
        "embedding_model": np.asarray(model.embedding_model),
        "card": np.asarray(card),
        "names": np.asarray(NAMES),
        "idf": model.idf.astype(np.float16),
        "mean": model.mean,
        "scale": model.scale,
    }
    for name, network in (("text", model.text), ("vector", model.vector)):
        for field in fields(Network):
            arrays[f"{name}_{field.name}"] = np.asarray(getattr(network, field.name), dtype=np.float32)
    for name, found in (("with_vectors", model.with_vectors), ("without_vectors", model.without_vectors)):
        arrays[name] = np.asarray([found.slope, found.offset, found.served_from])
    arrays["digest"] = np.asarray(_digest(arrays))
    stream = io.BytesIO()
    # numpy's stubs take the keyword allow_pickle for one of the arrays.
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def parse_pair_model(data: bytes) -> PairModel:
    """Reads what `serialise_pair_model` wrote. Raises PairModelError on anything else; never unpickles."""
    if len(data) > ARTIFACT_BYTES_MAX:
        raise PairModelError("the pair model's file is too large")
    try:
        arrays = unpack_arrays(data, unpacked_bytes_max=UNPACKED_BYTES_MAX)
        if int(arrays["layout"]) != LAYOUT:
            raise PairModelError("the pair model is of another layout")
        if str(arrays["digest"]) != _digest(arrays):
            raise PairModelError("the pair model's arrays are not those that were written")
        if tuple(str(name) for name in arrays["names"]) != NAMES:
            raise PairModelError("the pair model is of other features")
        model = PairModel(
            version=str(arrays["version"])[:_TEXT_CHARS_MAX],
            embedding_model=str(arrays["embedding_model"])[:_TEXT_CHARS_MAX],
            idf=arrays["idf"].astype(np.float32),
            mean=arrays["mean"].astype(np.float32),
            scale=arrays["scale"].astype(np.float32),
            text=_network(arrays, "text"),
            vector=_network(arrays, "vector"),
            with_vectors=Calibration(*map(float, arrays["with_vectors"].astype(np.float64))),
            without_vectors=Calibration(*map(float, arrays["without_vectors"].astype(np.float64))),
        )
    except PairModelError:
        raise
    except PackedArraysError as error:
        raise PairModelError(f"the pair model's file is unreadable ({error})") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise PairModelError(f"the pair model's file is unreadable ({type(error).__name__})") from error
    _check(model)
    return model


def _digest(arrays: dict[str, npt.NDArray[np.generic]]) -> str:
    """SHA-256 of names, types, shapes and contents, but its own."""
    found = hashlib.sha256()
    for name in sorted(arrays.keys() - {"digest"}):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _network(arrays: dict[str, npt.NDArray[np.generic]], name: str) -> Network:
    weights, bias, out, direct, offset = (arrays[f"{name}_{part.name}"].astype(np.float32) for part in fields(Network))
    return Network(weights, bias, out, direct, float(offset))


def _check(model: PairModel) -> None:
    count = len(NAMES)
    fits = model.idf.shape == (IDF_BUCKETS,) and model.mean.shape == model.scale.shape == (count,)
    for network, inputs_min, inputs_max in (
        (model.text, count, count),
        (model.vector, count + VECTOR_PARTS, count + VECTOR_PARTS * DIMENSIONS_MAX),
    ):
        inputs, hidden = network.weights.shape if network.weights.ndim == 2 else (0, 0)
        fits = fits and inputs_min <= inputs <= inputs_max and 1 <= hidden <= HIDDEN_MAX
        fits = fits and network.bias.shape == network.out.shape == (hidden,) and network.direct.shape == (inputs,)
        fits = fits and all(np.isfinite(a).all() for a in (network.weights, network.bias, network.out, network.direct))
        fits = fits and math.isfinite(network.offset)
    fits = fits and bool((model.scale > 0).all() and np.isfinite(model.mean).all() and np.isfinite(model.idf).all())
    for found in (model.with_vectors, model.without_vectors):
        fits = fits and 0.0 < found.slope <= 100.0 and abs(found.offset) <= 100.0 and abs(found.served_from) <= 100.0
    if not fits:
        raise PairModelError("the pair model's arrays have wrong shapes or values")
