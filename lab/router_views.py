"""The explicit features that the model of which tier suffices is fitted to. Pure; same input, same features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.router_outcomes import RouterData
from services.classifier.lexical import BUCKETS, SURFACE_NAMES
from services.classifier.sufficiency import SURFACE_BOUND, WORD_BUCKETS, gram_values, kernel

__all__ = ["VECTOR_WIDTH", "Views", "views_of"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

LANDMARKS = 1_024
# The most frequent n-grams take part, of words and of characters each; rarer ones tell little and cost memory.
GRAMS_MAX = 8_192
GRAM_ROWS_MIN = 2
VECTOR_WIDTH = 0.7
# In root mean square standard deviations of a count.
SURFACE_WIDTH = 0.6
KERNEL_JITTER = 1e-4


@dataclass(frozen=True, slots=True)
class Views:
    """The explicit features of the training rows, and what is needed to say their weights in the model's terms."""

    features: Singles
    sizes: tuple[int, ...]
    landmarks: Labels
    vectors: Singles
    vector_root: Singles
    surface_mean: Singles
    surface_scale: Singles
    surfaces: Singles
    surface_root: Singles
    surface_width: float
    idf: Singles
    words: Labels
    characters: Labels
    inner: Singles
    alike: Singles


def _inverse_root(gram: Singles) -> Singles:
    """K^(-1/2) of a kernel matrix, small eigenvalues cut off."""
    values, basis = np.linalg.eigh(gram.astype(np.float64))
    kept = np.where(values > KERNEL_JITTER * values[-1], values, np.inf)
    return np.asarray((basis / np.sqrt(kept)) @ basis.T, dtype=np.float32)


def _vocabulary(frequency: Floats) -> Labels:
    """The buckets that take part: known by several rows, the most frequent first, at most GRAMS_MAX; ascending."""
    order = np.argsort(-frequency, kind="stable")[:GRAMS_MAX]
    return np.asarray(np.sort(order[frequency[order] >= GRAM_ROWS_MIN]), dtype=np.int64)


def _grams(data: RouterData, idf: Singles, vocabulary: Labels, *, out: Singles) -> None:
    """Writes the values of the vocabulary's n-grams into `out` [n, vocabulary], which is all zeros."""
    column = np.full(BUCKETS, -1, dtype=np.int64)
    column[vocabulary] = np.arange(len(vocabulary))
    for row, text in enumerate(data.lexical):
        place = column[text.buckets]
        known = place >= 0
        out[row, place[known]] = gram_values(text, idf)[known]


def views_of(data: RouterData, seed: int) -> Views:
    """The features of all rows: kernels to LANDMARKS of them in meaning and in counts, and frequent n-grams."""
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(data))[:LANDMARKS])
    raw = np.stack([text.surface for text in data.lexical])
    mean, deviation = raw.mean(axis=0).astype(np.float32), raw.std(axis=0).astype(np.float32)
    # A count that never varies says nothing; scaled like this it stays at 0 here and modest elsewhere.
    scale = np.where(deviation > 1e-3, deviation, 1.0).astype(np.float32)
    surface = np.clip((raw.astype(np.float32) - mean) / scale, -SURFACE_BOUND, SURFACE_BOUND)
    width = SURFACE_WIDTH * float(np.sqrt(len(SURFACE_NAMES)))
    # Rounded first, as the artifact keeps them, so that what is fitted is what is served.
    vectors = data.vectors[chosen].astype(np.float16).astype(np.float32)
    surfaces = surface[chosen].astype(np.float16).astype(np.float32)
    vector_root = _inverse_root(kernel(vectors, vectors, VECTOR_WIDTH))
    surface_root = _inverse_root(kernel(surfaces, surfaces, width))

    frequency = np.zeros(BUCKETS)
    for text in data.lexical:
        frequency[text.buckets] += 1.0
    words = _vocabulary(np.where(np.arange(BUCKETS) < WORD_BUCKETS, frequency, 0.0))
    characters = _vocabulary(np.where(np.arange(BUCKETS) >= WORD_BUCKETS, frequency, 0.0))
    idf = np.zeros(BUCKETS, dtype=np.float32)
    for vocabulary in (words, characters):
        idf[vocabulary] = np.log((1.0 + len(data)) / (1.0 + frequency[vocabulary])) + 1.0

    inner = data.vectors @ vectors.T
    near = np.exp((inner - 1.0) * np.float32(1.0 / VECTOR_WIDTH**2))
    alike = kernel(surface, surfaces, width)
    # Each view has about length 1, so that the sum of their kernels gives each the same say.
    sizes = (len(chosen), len(chosen), len(words), len(characters))
    # Filled in place: each further copy of it would be another gigabyte of 20,000 rows.
    features = np.zeros((len(data), sum(sizes)), dtype=np.float32)
    blocks = np.split(features, np.cumsum(sizes)[:-1], axis=1)
    np.matmul(near, vector_root, out=blocks[0])
    np.matmul(alike, surface_root, out=blocks[1])
    _grams(data, idf, words, out=blocks[2])
    _grams(data, idf, characters, out=blocks[3])
    return Views(
        features=features,
        sizes=sizes,
        landmarks=chosen,
        vectors=vectors,
        vector_root=vector_root,
        surface_mean=mean,
        surface_scale=scale,
        surfaces=surfaces,
        surface_root=surface_root,
        surface_width=width,
        idf=idf,
        words=words,
        characters=characters,
        inner=inner,
        alike=alike,
    )
