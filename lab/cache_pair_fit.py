"""Fits the cache's pair model to labelled pairs: words' weights, two small networks by Adam, calibration by folds.

Promises: deterministic for a seed; questions that share a pair are on one side of every split, so that no figure is of
a question that was fitted to; the log odds and the bar that an artifact carries come from held-out folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.cache_data import Pairs
from lab.joined import Joined
from services.cache.matching.pair_features import (
    IDF_BUCKETS,
    NAMES,
    Idf,
    Sketch,
    bucket_of,
    pair_features,
    sketch,
    tokens_of,
)
from services.cache.matching.pair_model import FEATURE_BOUND, Calibration, Network, PairModel, vector_features
from services.cache.matching.reading import read

__all__ = ["Fitted", "PairRows", "fit_pair_model", "idf_of", "mean_network", "pair_groups", "pair_rows", "recall_at"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

FOLDS: Final = 4
NETWORKS: Final = 3
"""Of each kind, from other starting weights; what is served is their mean, which is one wider network."""

HIDDEN_TEXT: Final = 24
HIDDEN_VECTOR: Final = 48
EPOCHS: Final = 24
BATCH: Final = 512
RATE: Final = 3e-3
DECAY: Final = 0.3
DECAY_TEXT: Final = 0.1
MADE_WEIGHT: Final = 0.5
"""Of a made pair, where one that somebody labelled has 1."""

DROP: Final = 0.6
"""Of the inputs of the vector network, while it is fitted."""

SERVED_FROM: Final = 2.0
_SCALE_FLOOR: Final = 1e-3


@dataclass(frozen=True, slots=True)
class PairRows:
    """Pairs as the networks see them: features [n, f], vector features [n, 3 d], same [n]."""

    features: Floats
    vectors: Floats
    same: Bools


@dataclass(frozen=True, slots=True)
class Fitted:
    """The model, and the held-out log odds of each pair, with and without vectors."""

    model: PairModel
    held_out: npt.NDArray[np.float64]
    held_out_text: npt.NDArray[np.float64]


def idf_of(texts: Sequence[str]) -> Idf:
    """How rare words are among different texts, in nats, by bucket."""
    frequency = np.zeros(IDF_BUCKETS)
    unique = sorted(set(texts))
    for text in unique:
        for bucket in {bucket_of(token) for token in tokens_of(read(text))}:
            frequency[bucket] += 1
    return np.asarray(np.log((len(unique) + 1.0) / (frequency + 1.0)).astype(np.float16), dtype=np.float32)


def pair_rows(pairs: Pairs, idf: Idf, a: Floats, b: Floats, sketches: dict[str, Sketch] | None = None) -> PairRows:
    """Rows of pairs whose questions have these unit vectors."""
    known = {} if sketches is None else sketches
    for text in (*pairs.a, *pairs.b):
        if text not in known:
            known[text] = sketch(text, idf)
    similarity = (a * b).sum(axis=1)
    features = [
        pair_features(known[x], known[y], float(s)) for x, y, s in zip(pairs.a, pairs.b, similarity, strict=True)
    ]
    return PairRows(np.stack(features), vector_features(a, b), pairs.same)


def pair_groups(pairs: Pairs) -> npt.NDArray[np.int64]:
    """A number for each pair, the same for pairs that share a question, or are linked by others that do."""
    linked: Joined[str] = Joined()
    for x, y in zip(pairs.a, pairs.b, strict=True):
        linked.join(x, y)
    numbers: dict[str, int] = {}
    return np.asarray([numbers.setdefault(linked.root(x), len(numbers)) for x in pairs.a], dtype=np.int64)


def recall_at(scores: npt.NDArray[np.float64], same: Bools, false_rate: float) -> float:
    """The greatest share of same pairs above a score that at most `false_rate` of the different pairs reach."""
    different = np.sort(scores[~same])[::-1]
    allowed = int(np.floor(false_rate * len(different)))
    if allowed >= len(different):
        return 1.0
    return float((scores[same] > different[allowed]).mean())


def fit_pair_model(
    rows: PairRows,
    groups: npt.NDArray[np.int64],
    idf: Idf,
    *,
    made: tuple[PairRows, npt.NDArray[np.int64]],
    version: str,
    embedding_model: str,
    seed: int,
) -> Fitted:
    """Fits to all rows; calibrates on folds that a fit had not seen.

    `made`: further rows to fit to, which are never counted, and whose `groups` are among those of the rows.
    """
    count = len(rows.same)
    joined = PairRows(*(np.concatenate([getattr(part, f.name) for part in (rows, made[0])]) for f in fields(PairRows)))
    weights = np.ones(len(joined.same), dtype=np.float32)
    weights[count:] = MADE_WEIGHT
    fold_of = np.random.default_rng(seed).integers(0, FOLDS, size=int(groups.max()) + 1)
    fold = fold_of[np.concatenate([groups, made[1]])]
    raw = np.zeros((2, count))
    for index in range(FOLDS):
        held = fold[:count] == index
        mean, scale, text, vector = _networks(joined, weights, fold != index, seed=seed + 1 + index)
        z = _standard(rows.features[held], mean, scale)
        raw[0, held] = text.logits(z)
        raw[1, held] = vector.logits(np.concatenate([z, rows.vectors[held]], axis=1))
    both = raw.mean(axis=0)
    with_vectors, without = _calibrated(both, rows.same), _calibrated(raw[0], rows.same)
    mean, scale, text, vector = _networks(joined, weights, np.ones(len(fold), dtype=np.bool_), seed=seed)
    model = PairModel(version, embedding_model, idf, mean, scale, text, vector, with_vectors, without)
    return Fitted(
        model,
        with_vectors.slope * both + with_vectors.offset,
        without.slope * raw[0] + without.offset,
    )


def _standard(features: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip((features - mean) / scale, -FEATURE_BOUND, FEATURE_BOUND), dtype=np.float32)


def _networks(rows: PairRows, weights: Floats, chosen: Bools, *, seed: int) -> tuple[Floats, Floats, Network, Network]:
    features, same, weight = rows.features[chosen], rows.same[chosen].astype(np.float32), weights[chosen]
    mean, scale = features.mean(axis=0), features.std(axis=0) + np.float32(_SCALE_FLOOR)
    z = _standard(features, mean, scale)
    text = mean_network(
        [
            _train(z, same, weight, hidden=HIDDEN_TEXT, decay=DECAY_TEXT, drop=0.0, seed=(seed, 0, n))
            for n in range(NETWORKS)
        ]
    )
    vectors = rows.vectors[chosen]
    spread = vectors.std(axis=0) + np.float32(_SCALE_FLOOR)
    joined = np.concatenate([z, vectors / spread], axis=1)
    found = mean_network(
        [
            _train(joined, same, weight, hidden=HIDDEN_VECTOR, decay=DECAY, drop=DROP, seed=(seed, 1, n))
            for n in range(NETWORKS)
        ]
    )
    # The served network takes vectors as they are: their scale goes into its weights.
    factor = np.concatenate([np.ones(len(NAMES), np.float32), 1.0 / spread]).astype(np.float32)
    vector = Network(found.weights * factor[:, None], found.bias, found.out, found.direct * factor, found.offset)
    return mean, scale, text, vector


def mean_network(found: Sequence[Network]) -> Network:
    """The network whose output is the mean of theirs."""
    return Network(
        np.concatenate([network.weights for network in found], axis=1),
        np.concatenate([network.bias for network in found]),
        np.concatenate([network.out / np.float32(len(found)) for network in found], dtype=np.float32),
        np.mean([network.direct for network in found], axis=0, dtype=np.float32),
        float(np.mean([network.offset for network in found])),
    )


def _train(
    rows: Floats, same: Floats, weight: Floats, *, hidden: int, decay: float, drop: float, seed: tuple[int, int, int]
) -> Network:
    """Weighted log loss, Adam with decoupled decay, a cosine rate; inputs are dropped at random."""
    generator = np.random.default_rng(seed)
    inputs = rows.shape[1]
    values = [
        (generator.standard_normal((inputs, hidden)) / np.sqrt(inputs)).astype(np.float32),
        np.zeros(hidden, np.float32),
        (generator.standard_normal(hidden) / np.sqrt(hidden)).astype(np.float32),
        np.zeros(inputs, np.float32),
        np.zeros(1, np.float32),
    ]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    step = 0
    for epoch in range(EPOCHS):
        rate = float(RATE * 0.5 * (1.0 + np.cos(np.pi * epoch / EPOCHS)))
        order = generator.permutation(len(rows))
        for at in range(0, len(rows), BATCH):
            batch = order[at : at + BATCH]
            x = rows[batch]
            if drop:
                kept = generator.integers(0, 256, size=x.shape, dtype=np.uint8) >= int(256 * drop)
                x = np.asarray(x * (kept * np.float32(1.0 / (1.0 - drop))), dtype=np.float32)
            before = x @ values[0] + values[1]
            active = np.maximum(before, 0.0)
            out = active @ values[2] + x @ values[3] + values[4]
            error = weight[batch] * (1.0 / (1.0 + np.exp(-np.clip(out, -30, 30))) - same[batch]) / len(batch)
            back = np.outer(error, values[2]) * (before > 0)
            gradients = [x.T @ back, back.sum(axis=0), active.T @ error, x.T @ error, error.sum(keepdims=True)]
            step += 1
            for k, gradient in enumerate(gradients):
                first[k] = 0.9 * first[k] + 0.1 * gradient
                second[k] = 0.999 * second[k] + 0.001 * gradient**2
                move = (first[k] / (1 - 0.9**step)) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
                values[k] = (values[k] - rate * (move + (decay * values[k] if k != 4 else 0.0))).astype(np.float32)
    return Network(values[0], values[1], values[2], values[3], float(values[4][0]))


def _calibrated(raw: npt.NDArray[np.float64], same: Bools) -> Calibration:
    """Platt's slope and offset by Newton, with a bar that whoever knows the guards replaces."""
    slope, offset = 1.0, 0.0
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(slope * raw + offset, -30, 30)))
        error, weight = p - same, p * (1.0 - p)
        hessian = np.array([[(weight * raw**2).sum(), (weight * raw).sum()], [(weight * raw).sum(), weight.sum()]])
        move = np.linalg.solve(hessian + 1e-9 * np.eye(2), np.array([(error * raw).sum(), error.sum()]))
        slope, offset = max(1e-3, slope - move[0]), offset - move[1]
    return Calibration(float(slope), float(offset), SERVED_FROM)
