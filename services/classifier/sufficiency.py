"""P(a tier suffices) of a prompt, before any model runs: a learned score over its embedding and its words. Pure.

A tier *suffices* where its answer is good, or where the dearest tier's is no better. For each tier but the dearest the
model scores the *gain*, what the dearest tier is expected to add (0 to 1, negative where it harms); P(suffices) is a
logistic function of that score, fitted on prompts that the score had not seen, so that order and probability agree.

The score is a kernel ridge regression on three views of the prompt, which are added:
    the embedding v:        sum over landmarks l of exp(-|v - v_l|² / 2h²) · a_l
    the surface counts s:   sum over landmarks l of exp(-|s - s_l|² / 2g²) · b_l
    the words:              z · c, z being n-grams of words and of characters, TF-IDF, each kind of unit length
Landmarks are training prompts.

Promises: read from bytes without pickles, every size bounded, checked before use; probabilities are finite, within 0 to
1, never fall from a tier to a dearer one, and are 1 for the dearest. Far from what it was trained on (in meaning, in
its counts or in its words) they are pulled down to a floor: a cheap tier is not trusted there. Reads no files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from services.classifier.array_archive import ArrayArchiveError, arrays_of
from services.classifier.lexical import BUCKETS, SURFACE_NAMES, Lexical, read

__all__ = [
    "ARTIFACT_BYTES_MAX",
    "CENTROIDS_MAX",
    "LANDMARKS_MAX",
    "SURFACE_BOUND",
    "TIERS_MAX",
    "WORD_BUCKETS",
    "SufficiencyError",
    "SufficiencyJudgement",
    "SufficiencyModel",
    "distances",
    "gram_values",
    "kernel",
    "parse_sufficiency",
    "pull_down",
    "serialise_sufficiency",
    "squared_distances",
]

ARTIFACT_BYTES_MAX = 16 * 1024 * 1024
# Unpacked, an artifact of the sizes below has at most some 60 MB (`array_archive` refuses more).
LANDMARKS_MAX = 2_048
CENTROIDS_MAX = 1_024
DIMENSIONS_MAX = 4_096
TIERS_MAX = 16
NAME_CHARACTERS_MAX = 200
WORD_BUCKETS = BUCKETS // 2
# Fitted numbers are below a thousand; sums and products of such as these stay far from the largest float.
MAGNITUDE_MAX = 1e6
# Kept as float16, unit vectors are off by this at most, and a narrower kernel would make much of it.
UNIT_TOLERANCE = 0.01
VECTOR_WIDTH_MIN = 0.05
# Of a model that is loaded: judgements by way of trial, some milliseconds.
TRIALS = 4
TRIAL_TEXTS = ("", "What is the capital of France?", "1 + 1 = 2, \u00e9\u4e2d " * 20)
# A count further from its mean than this many standard deviations says no more.
SURFACE_BOUND = 4.0
DISTANCE_NEIGHBOURS = 5
# The out-of-domain score at the training prompts' own median and 95th percentile; it grows on in a straight line to 1.
OUT_OF_DOMAIN_AT_QUANTILES = (0.0, 0.5)
# What P comes down to at out-of-domain 1. The pull begins at the 95th percentile: nearer, the calibration holds, and a
# pull would only spoil the order.
FLOOR = 0.25
PULL_FROM = 0.5
FORMAT = "sufficiency-1"

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


class SufficiencyError(ValueError):
    """The artifact is no model that this version can use, or the vector does not fit it."""


@dataclass(frozen=True, slots=True)
class SufficiencyJudgement:
    """What the model says of one prompt.

    `probabilities`: P(suffices) of each of the model's tiers, cheapest first, the last 1. `gains`: the score behind
    each, before the pull. `out_of_domain`: 0 near, 1 far. `cluster`: the index of the nearest centroid, None without
    centroids. `evidence`: what the cheapest tier's score rests on, strongest first; names of features, no prompt.
    """

    probabilities: tuple[float, ...]
    gains: tuple[float, ...]
    out_of_domain: float
    cluster: int | None
    evidence: tuple[str, ...]


def squared_distances(rows: Singles, others: Singles) -> Singles:
    """[n, d] and [m, d] -> [n, m], never negative."""
    inner = rows @ others.T
    lengths = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", others, others)[None]
    return np.asarray(np.maximum(lengths - 2.0 * inner, 0.0), dtype=np.float32)


def kernel(rows: Singles, others: Singles, width: float) -> Singles:
    """exp(-|x - y|² / 2 width²) of every pair."""
    return np.asarray(np.exp(squared_distances(rows, others) * np.float32(-0.5 / width**2)), dtype=np.float32)


def distances(similarities: Singles) -> Floats:
    """One minus the mean similarity to the nearest landmarks. [n, m] -> [n]."""
    count = min(DISTANCE_NEIGHBOURS, similarities.shape[1])
    closest = np.partition(similarities, -count, axis=1)[:, -count:]
    return np.asarray(1.0 - closest.mean(axis=1, dtype=np.float64), dtype=np.float64)


def gram_values(text: Lexical, idf: Singles) -> Singles:
    """TF-IDF values of `text.buckets`, words and characters each scaled to unit length (zero when none is known)."""
    values = ((1.0 + np.log(text.counts)) * idf[text.buckets]).astype(np.float32)
    border = int(np.searchsorted(text.buckets, WORD_BUCKETS))
    words, characters = values[:border], values[border:]
    lengths = (max(float(np.sqrt(words @ words)), 1e-9), max(float(np.sqrt(characters @ characters)), 1e-9))
    return np.concatenate([words / np.float32(lengths[0]), characters / np.float32(lengths[1])])


def pull_down(probabilities: Floats, out_of_domain: Floats) -> Floats:
    """Draws P [n, k] to the floor as the out-of-domain score [n] grows; never up."""
    pull = np.clip((out_of_domain - PULL_FROM) / (1.0 - PULL_FROM), 0.0, 1.0)[:, None]
    return np.asarray(np.minimum(probabilities, (1.0 - pull) * probabilities + pull * FLOOR), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class SufficiencyModel:
    """A fitted model; its arrays must not be written to. m landmarks, d dimensions, s counts, k tiers but the dearest.

    `tiers`: all of them, cheapest first. `landmarks` [m, d] and `centroids` [c, d] are unit vectors; `landmark_surface`
    [m, s]. `idf` [BUCKETS] is 0 for what training did not know; `known_words` [WORD_BUCKETS] marks words seen at all.
    Weights have one column a tier. `calibration` [k, 2]: P = sigmoid(first - second * gain). `..._quantiles` [2]:
    training prompts' median and 95th percentile of the distance in meaning, in counts, and of the share of new words.
    """

    version: str
    embedding_model: str
    tiers: tuple[str, ...]
    vector_width: float
    surface_width: float
    bias: Floats
    calibration: Floats
    landmarks: Singles
    landmark_weights: Singles
    surface_mean: Singles
    surface_scale: Singles
    landmark_surface: Singles
    landmark_surface_weights: Singles
    idf: Singles
    known_words: npt.NDArray[np.bool_]
    gram_weights: Singles
    distance_quantiles: Floats
    surface_quantiles: Floats
    novelty_quantiles: Floats
    centroids: Singles

    def standardised(self, surface: Floats) -> Singles:
        """Counts [..., s] in standard deviations from training's mean, bounded."""
        scaled = (surface.astype(np.float32) - self.surface_mean) / self.surface_scale
        return np.asarray(np.clip(scaled, -SURFACE_BOUND, SURFACE_BOUND), dtype=np.float32)

    def novelty(self, text: Lexical) -> float:
        """The share of the text's distinct words that training never saw, 0 to 1."""
        return 1.0 - float(self.known_words[text.words].mean()) if len(text.words) else 0.0

    def probabilities(self, gains: Floats) -> Floats:
        """Calibrated P(suffices) [n, k] of scores [n, k], before the pull; never falling along a row."""
        logits = self.calibration[:, 0] - self.calibration[:, 1] * gains
        return np.asarray(
            np.maximum.accumulate(1.0 / (1.0 + np.exp(-np.clip(logits, -40.0, 40.0))), axis=1), dtype=np.float64
        )

    def judge_many(self, vectors: Singles, texts: Sequence[Lexical]) -> tuple[Floats, Floats, Floats]:
        """Gains [n, k], P(suffices) after the pull [n, k] and out-of-domain [n] of unit vectors [n, d] and texts."""
        parts, strange = self._parts(vectors, texts)
        gains = np.sum(parts, axis=0) + self.bias
        return gains, pull_down(self.probabilities(gains), strange), strange

    def _parts(self, vectors: Singles, texts: Sequence[Lexical]) -> tuple[list[Floats], Floats]:
        """What each view adds to the gains, [n, k] each, in the order of _VIEWS; and out-of-domain [n]."""
        inner = vectors @ self.landmarks.T
        near = np.exp((inner - 1.0) * np.float32(1.0 / self.vector_width**2))
        surface = self.standardised(np.stack([text.surface for text in texts]))
        alike = kernel(surface, self.landmark_surface, self.surface_width)
        grams = np.stack([gram_values(text, self.idf) @ self.gram_weights[text.buckets] for text in texts])
        parts = [
            np.asarray(near @ self.landmark_weights, dtype=np.float64),
            np.asarray(alike @ self.landmark_surface_weights, dtype=np.float64),
            np.asarray(grams, dtype=np.float64),
        ]
        novelty = np.asarray([self.novelty(text) for text in texts])
        strange = np.stack(
            [
                _grown(distances(inner), self.distance_quantiles),
                _grown(distances(alike), self.surface_quantiles),
                _grown(novelty, self.novelty_quantiles),
            ]
        )
        return parts, np.asarray(strange.max(axis=0), dtype=np.float64)

    def judge(self, vector: npt.NDArray[np.float32], text: str) -> SufficiencyJudgement:
        """Judges one prompt by its unit vector [d] and its text.

        Raises SufficiencyError on a vector of the wrong size or not finite, or so large that no P comes of it; accepts
        any text.
        """
        row = np.asarray(vector, dtype=np.float32).reshape(1, -1)
        if row.shape[1] != self.landmarks.shape[1] or not np.isfinite(row).all():
            message = "the vector does not fit the model"
            raise SufficiencyError(message)
        parts, strange = self._parts(row, [read(text)])
        gains = np.sum(parts, axis=0) + self.bias
        probabilities = pull_down(self.probabilities(gains), strange)[0]
        if not np.isfinite(gains).all() or not np.isfinite(strange).all():
            message = "the model makes nothing of this vector"
            raise SufficiencyError(message)
        return SufficiencyJudgement(
            probabilities=(*probabilities.tolist(), 1.0),
            gains=tuple(gains[0].tolist()),
            out_of_domain=float(strange[0]),
            cluster=int(np.argmax(self.centroids @ row[0])) if len(self.centroids) else None,
            evidence=self._evidence([float(part[0, 0]) for part in parts], float(strange[0])),
        )

    @staticmethod
    def _evidence(parts: Sequence[float], strange: float) -> tuple[str, ...]:
        found = [(abs(value), f"{name} {value:+.3f}") for name, value in zip(_VIEWS, parts, strict=True)]
        said = [words for _, words in sorted(found, reverse=True)]
        if strange >= OUT_OF_DOMAIN_AT_QUANTILES[1]:
            said.append(f"far from training ({strange:.2f}): drawn down towards {FLOOR:.2f}")
        return tuple(said)


_VIEWS = ("embedding", "counts", "words")


def _grown(values: Floats, quantiles: Floats) -> Floats:
    """0 up to the median, one half at the 95th percentile, on in a straight line, 1 at most."""
    middle, high = float(quantiles[0]), float(quantiles[1])
    return np.asarray(np.clip(0.5 * (values - middle) / (high - middle), 0.0, 1.0), dtype=np.float64)


def serialise_sufficiency(model: SufficiencyModel) -> bytes:
    """A model as .npz bytes; the same model gives the same bytes. Unit vectors and landmarks are kept as float16."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    names = {}
    for field in fields(model):
        value = getattr(model, field.name)
        if not isinstance(value, np.ndarray):
            names[field.name] = value
        elif field.name == "known_words":
            arrays[field.name] = np.packbits(value)
        elif field.name in _HALVES:
            arrays[field.name] = value.astype(np.float16)
        else:
            arrays[field.name] = value
    header = json.dumps({"format": FORMAT, **names}, sort_keys=True)
    arrays["header"] = np.frombuffer(header.encode(), dtype=np.uint8)
    stream = io.BytesIO()
    # numpy's stubs take the keyword allow_pickle for one of the arrays.
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


_HALVES = frozenset({"landmarks", "landmark_surface", "centroids"})
_DOUBLES = frozenset({"bias", "calibration", "distance_quantiles", "surface_quantiles", "novelty_quantiles"})


def parse_sufficiency(data: bytes) -> SufficiencyModel:
    """Reads what `serialise_sufficiency` wrote. Raises SufficiencyError on anything else; never unpickles."""
    if len(data) > ARTIFACT_BYTES_MAX:
        message = "the model's file is too large"
        raise SufficiencyError(message)
    try:
        arrays = arrays_of(data)
        header = json.loads(arrays.pop("header").tobytes())
        if header.pop("format") != FORMAT:
            message = f"the file is no {FORMAT}"
            raise SufficiencyError(message)
        known = np.unpackbits(arrays.pop("known_words").astype(np.uint8)).astype(bool)
        numbers = {name: array.astype(np.float64 if name in _DOUBLES else np.float32) for name, array in arrays.items()}
        model = SufficiencyModel(
            version=str(header["version"]),
            embedding_model=str(header["embedding_model"]),
            tiers=tuple(str(name) for name in header["tiers"]),
            vector_width=float(header["vector_width"]),
            surface_width=float(header["surface_width"]),
            known_words=known,
            **numbers,  # type: ignore[arg-type]
        )
        _check(model)
    except SufficiencyError:
        raise
    except ArrayArchiveError as error:
        message = f"the model's file {error}"
        raise SufficiencyError(message) from error
    # Whatever comes of arrays and a header that are no model: it is no model.
    except Exception as error:
        message = f"the model's file is unreadable ({type(error).__name__})"
        raise SufficiencyError(message) from error
    return model


def _check(model: SufficiencyModel) -> None:
    named = (
        all(0 < len(name) <= NAME_CHARACTERS_MAX for name in (model.version, model.embedding_model, *model.tiers))
        and 2 <= len(model.tiers) <= TIERS_MAX
        and len(set(model.tiers)) == len(model.tiers)
    )
    if not named or model.landmarks.ndim != 2 or model.centroids.ndim != 2:
        message = "the model's names or arrays have wrong shapes"
        raise SufficiencyError(message)
    (count, dimensions), counts, scored = model.landmarks.shape, len(SURFACE_NAMES), len(model.tiers) - 1
    shapes: dict[str, tuple[int, ...]] = {
        "bias": (scored,),
        "calibration": (scored, 2),
        "landmarks": (count, dimensions),
        "landmark_weights": (count, scored),
        "surface_mean": (counts,),
        "surface_scale": (counts,),
        "landmark_surface": (count, counts),
        "landmark_surface_weights": (count, scored),
        "idf": (BUCKETS,),
        "known_words": (WORD_BUCKETS,),
        "gram_weights": (BUCKETS, scored),
        "distance_quantiles": (2,),
        "surface_quantiles": (2,),
        "novelty_quantiles": (2,),
        "centroids": (len(model.centroids), dimensions),
    }
    fits = all(getattr(model, name).shape == shape for name, shape in shapes.items())
    # False for what is not a number, too.
    bounded = fits and all(bool((np.abs(getattr(model, name)) <= MAGNITUDE_MAX).all()) for name in shapes)
    ranges = (
        bounded
        and 1 <= count <= LANDMARKS_MAX
        and len(model.centroids) <= CENTROIDS_MAX
        and 1 <= dimensions <= DIMENSIONS_MAX
        and VECTOR_WIDTH_MIN <= model.vector_width <= 100.0
        and 0.01 <= model.surface_width <= 1_000.0
        and _are_units(model.landmarks)
        and _are_units(model.centroids)
        and bool((model.surface_scale > 0.0).all())
        and bool((model.calibration[:, 1] >= 0.0).all())
        and bool((np.diff(model.distance_quantiles) > 0.0).all())
        and bool((np.diff(model.surface_quantiles) > 0.0).all())
        and bool((np.diff(model.novelty_quantiles) > 0.0).all())
    )
    if not ranges:
        message = "the model's arrays have wrong shapes or values"
        raise SufficiencyError(message)
    _try(model)


def _are_units(rows: Singles) -> bool:
    return bool((np.abs(np.linalg.norm(rows, axis=1) - 1.0) <= UNIT_TOLERANCE).all())


def _try(model: SufficiencyModel) -> None:
    """Judges some of the landmarks, and what is opposite to them. Raises SufficiencyError where no P comes of it."""
    for row in model.landmarks[:TRIALS]:
        for vector in (row, -row):
            for text in TRIAL_TEXTS:
                found = model.judge(vector, text).probabilities
                if not all(0.0 <= value <= 1.0 for value in found) or list(found) != sorted(found):
                    message = "the model's judgements are no probabilities"
                    raise SufficiencyError(message)
