"""Fits the model of which tier suffices to prompts with outcomes. Pure; the same input gives the same model.

How strongly to smooth and the calibration come from scores of rows that the scoring part had not seen: an inner split
into folds, near duplicates together. Nothing of a test row is seen here; give only rows to train on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lab.near_duplicates import group_near_duplicates, grouped_folds
from lab.router_outcomes import RouterData, gains_of, sufficed_of
from lab.router_views import VECTOR_WIDTH, Views, views_of
from services.classifier.lexical import BUCKETS
from services.classifier.sufficiency import WORD_BUCKETS, SufficiencyModel, distances

__all__ = ["ROWS_MIN", "fit_router"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

ROWS_MIN = 40
FOLDS = 5
CENTROIDS = 64
CENTROID_ROWS_MIN = 8
CENTROID_ROUNDS = 25
SMOOTHINGS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
SELECTION_ROWS = 4_000
CONJUGATE_STEPS = 80
CONJUGATE_TOLERANCE = 1e-3
PLATT_ROUNDS = 50
# Pseudo-observations of the base rate that keep a calibration of few rows finite and modest.
PLATT_RIDGE = 1e-3


def _ridge(features: Singles, targets: Singles, use: Singles, smoothing: Singles) -> Singles:
    """Weights [D, c] that minimise sum(use * (y - x·w)²) + smoothing * |w|², a column a problem; conjugate gradients.

    `targets`, `use`: [n, c]; `smoothing`: [c].
    """
    weights = np.zeros((features.shape[1], targets.shape[1]), dtype=np.float32)
    residual = features.T @ (use * targets)
    direction = residual.copy()
    power = np.einsum("ij,ij->j", residual, residual)
    enough = CONJUGATE_TOLERANCE**2 * power
    for _ in range(CONJUGATE_STEPS):
        # A problem that is solved takes no further part: strongly smoothed ones are, early.
        left = np.flatnonzero(power > enough)
        if not len(left):
            break
        along = direction[:, left]
        moved = features.T @ (use[:, left] * (features @ along)) + smoothing[left] * along
        step = power[left] / np.maximum(np.einsum("ij,ij->j", along, moved), np.float32(1e-30))
        weights[:, left] += step * along
        residual[:, left] -= step * moved
        now = np.einsum("ij,ij->j", residual[:, left], residual[:, left])
        direction[:, left] = residual[:, left] + now / power[left] * along
        power[left] = now
    return weights


def _platt(gains: Floats, sufficed: Floats) -> tuple[float, float]:
    """a, b of P = sigmoid(a - b * gain), b at least 0, by Newton's method on the log-likelihood."""
    centre, spread = float(gains.mean()), max(float(gains.std()), 1e-6)
    design = np.stack([np.ones(len(gains)), -(gains - centre) / spread], axis=1)
    found = np.zeros(2)
    ridge = PLATT_RIDGE * len(gains) * np.eye(2)
    for _ in range(PLATT_ROUNDS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ found, -40.0, 40.0)))
        slope = design.T @ (p - sufficed) + ridge @ found
        step = np.linalg.solve((design * (p * (1.0 - p))[:, None]).T @ design + ridge, slope)
        # Newton's step, bounded: few rows can make the likelihood nearly flat.
        found = found - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    if found[1] <= 0.0:
        share = float(np.clip(sufficed.mean(), 1e-3, 1.0 - 1e-3))
        return float(np.log(share / (1.0 - share))), 0.0
    return float(found[0] + found[1] * centre / spread), float(found[1] / spread)


def _held_out(features: Singles, gains: Floats, fold: Labels, grid: Floats) -> Floats:
    """Scores [k, values, n] of rows by fits that had not seen their fold; `grid` [k, values] of smoothings."""
    known = ~np.isnan(gains)
    filled = np.where(known, gains, 0.0)
    values = grid.shape[1]
    problems = [(tier, place, part) for tier in range(len(grid)) for place in range(values) for part in range(FOLDS)]
    use = np.stack([known[:, tier] & (fold != part) for tier, _, part in problems], axis=1).astype(np.float32)
    columns = filled[:, [tier for tier, _, _ in problems]].astype(np.float32)
    centre = (use * columns).sum(axis=0) / np.maximum(use.sum(axis=0), 1.0)
    smoothing = np.asarray([grid[tier, place] for tier, place, _ in problems], dtype=np.float32)
    said = features @ _ridge(features, columns - centre, use, smoothing) + centre
    scores = np.zeros((len(grid), values, len(gains)))
    for number, (tier, place, part) in enumerate(problems):
        scores[tier, place, fold == part] = said[fold == part, number]
    return scores


def _cross_fitted(views: Views, gains: Floats, fold: Labels, seed: int) -> tuple[Floats, Floats]:
    """Scores [n, k] of rows by a fit that had not seen their fold, and the smoothing [k] that served them best.

    The smoothing is chosen on SELECTION_ROWS of each tier: it is noise against signal, which more rows do not change.
    """
    order = np.random.default_rng(seed).permutation(len(gains))
    known_rows = [order[~np.isnan(gains[order, tier])][:SELECTION_ROWS] for tier in range(gains.shape[1])]
    chosen = np.unique(np.concatenate(known_rows))
    grid = np.tile(np.asarray(SMOOTHINGS), (gains.shape[1], 1))
    tried = _held_out(views.features[chosen], gains[chosen], fold[chosen], grid)
    best = np.zeros(len(grid), dtype=np.int64)
    for tier in range(len(grid)):
        known = ~np.isnan(gains[chosen, tier])
        best[tier] = _smoothest((tried[tier][:, known] - gains[chosen, tier][known]) ** 2)
    smoothing = np.asarray(SMOOTHINGS)[best]
    if len(chosen) == len(gains):
        return tried[np.arange(len(grid)), best].T, smoothing
    return _held_out(views.features, gains, fold, smoothing[:, None])[:, 0].T, smoothing


def _smoothest(errors: Floats) -> int:
    """The strongest smoothing whose error [smoothings, rows] is within one standard error of the least, rows compared
    in pairs: outcomes are noisy, so the least error is often luck, and too little smoothing spoils the order more than
    too much, whose shrinking the calibration undoes."""
    least = int(errors.mean(axis=1).argmin())
    worse = errors - errors[least]
    within = worse.mean(axis=1) <= worse.std(axis=1) / np.sqrt(errors.shape[1])
    return int(np.flatnonzero(within)[-1])


def _quantiles(values: Floats) -> Floats:
    middle, high = (float(value) for value in np.quantile(values, (0.5, 0.95)))
    return np.asarray([middle, max(high, middle + 0.02)])


def _distance_quantiles(similarities: Singles, views: Views) -> Floats:
    """Of the training rows' distances to the landmarks but themselves."""
    others = similarities.copy()
    others[views.landmarks, np.arange(len(views.landmarks))] = -1.0
    return _quantiles(distances(others))


def _novelty_quantiles(data: RouterData, fold: Labels) -> Floats:
    novelty = np.zeros(len(data))
    for part in range(FOLDS):
        known = np.zeros(WORD_BUCKETS, dtype=bool)
        for row in np.flatnonzero(fold != part).tolist():
            known[data.lexical[row].words] = True
        for row in np.flatnonzero(fold == part).tolist():
            words = data.lexical[row].words
            novelty[row] = 1.0 - known[words].mean() if len(words) else 0.0
    return _quantiles(novelty)


def _centroids(vectors: Singles, seed: int) -> Singles:
    """Spherical k-means: unit centroids, at most CENTROIDS, none of them without a row."""
    count = min(CENTROIDS, len(vectors) // CENTROID_ROWS_MIN)
    generator = np.random.default_rng(seed)
    centres = vectors[np.sort(generator.permutation(len(vectors))[:count])]
    for _ in range(CENTROID_ROUNDS):
        nearest = (vectors @ centres.T).argmax(axis=1)
        sums = np.stack([vectors[nearest == index].sum(axis=0) for index in range(len(centres))])
        lengths = np.linalg.norm(sums, axis=1)
        centres = sums[lengths > 1e-6] / lengths[lengths > 1e-6, None]
    return np.asarray(centres, dtype=np.float16).astype(np.float32)


def fit_router(data: RouterData, *, version: str, embedding_model: str, seed: int) -> SufficiencyModel:
    """A model fitted to all rows. Raises ValueError for fewer than ROWS_MIN rows known of a tier."""
    gains = gains_of(data.outcomes)
    known = ~np.isnan(gains)
    if int(known.sum(axis=0).min()) < ROWS_MIN:
        message = f"each tier but the dearest needs {ROWS_MIN} outcomes or more"
        raise ValueError(message)
    views = views_of(data, seed)
    fold = grouped_folds(group_near_duplicates(data.texts, data.vectors), FOLDS, seed=seed)
    scores, smoothing = _cross_fitted(views, gains, fold, seed)
    sufficed = sufficed_of(data.outcomes)
    calibration = [
        _platt(scores[known[:, tier], tier], sufficed[known[:, tier], tier]) for tier in range(gains.shape[1])
    ]
    filled = np.where(known, gains, 0.0)
    bias = filled.sum(axis=0) / known.sum(axis=0)
    # More rows than the folds had: smoothed as much more, so that scores keep the scale that the calibration knows.
    smoothing = smoothing * FOLDS / (FOLDS - 1)
    weights = _ridge(
        views.features, (filled - bias).astype(np.float32), known.astype(np.float32), smoothing.astype(np.float32)
    )
    ends = np.cumsum(views.sizes)
    near, alike, words, characters = np.split(weights, ends[:-1])
    grams = np.zeros((BUCKETS, gains.shape[1]), dtype=np.float32)
    grams[views.words], grams[views.characters] = words, characters
    seen = np.zeros(WORD_BUCKETS, dtype=bool)
    for text in data.lexical:
        seen[text.words] = True
    return SufficiencyModel(
        version=version,
        embedding_model=embedding_model,
        tiers=data.tiers,
        vector_width=VECTOR_WIDTH,
        surface_width=views.surface_width,
        bias=bias,
        calibration=np.asarray(calibration),
        landmarks=views.vectors,
        landmark_weights=views.vector_root @ near,
        surface_mean=views.surface_mean,
        surface_scale=views.surface_scale,
        landmark_surface=views.surfaces,
        landmark_surface_weights=views.surface_root @ alike,
        idf=views.idf,
        known_words=seen,
        gram_weights=grams,
        distance_quantiles=_distance_quantiles(views.inner, views),
        surface_quantiles=_distance_quantiles(views.alike, views),
        novelty_quantiles=_novelty_quantiles(data, fold),
        centroids=_centroids(data.vectors, seed),
    )
