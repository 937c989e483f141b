"""The learned head over an embedding: nearest labelled examples and softmax regression, blended and calibrated. Pure.

Promises: a head is read from bytes without pickles and checked before it is used; probabilities are finite and sum to
1; far from every example they are drawn towards the prior, so that confidence falls. Nothing here reads files.

For each of the two questions (complexity, task type) the logits are
    (mix * log p_regression + (1 - mix) * log p_neighbours + blend * log p_heuristics) / temperature
with mix, blend and temperature fitted by `lab.train_head` on predictions for examples that the parts had not seen.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classifier.array_archive import ArrayArchiveError, arrays_of

__all__ = [
    "ARTIFACT_BYTES_MAX",
    "COMPLEXITIES",
    "TASKS",
    "Head",
    "HeadError",
    "HeadJudgement",
    "Mixture",
    "distances",
    "log_floor",
    "log_odds",
    "nearest",
    "neighbour_probabilities",
    "parse_head",
    "serialise_head",
    "softmax",
]

COMPLEXITIES = 3
TASKS = 12
NEIGHBOURS = 8
# Cosine differences of this size change a neighbour's vote by a factor of e.
NEIGHBOUR_TEMPERATURE = 0.06
# Keeps the logarithm of a class without a neighbour finite.
NEIGHBOUR_SMOOTHING = 0.02
DISTANCE_NEIGHBOURS = 5
# Quantiles of the examples' own leave-one-out distances, and the out-of-domain score that each stands for.
DISTANCE_QUANTILES = (0.5, 0.95, 1.0)
OUT_OF_DOMAIN_AT_QUANTILES = (0.0, 0.5, 1.0)
# How far the probabilities are drawn to the prior at out-of-domain 1; the square keeps the near field as calibrated.
PRIOR_PULL_MAX = 0.5
PROBABILITY_FLOOR = 1e-6
ARTIFACT_BYTES_MAX = 2 * 1024 * 1024
EXAMPLES_MAX = 100_000
DIMENSIONS_MAX = 8_192

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class HeadError(ValueError):
    """The artifact is no head that this version can use."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """One question's regression and the numbers that blend it: weights [dimensions, classes], bias [classes]."""

    weights: Floats
    bias: Floats
    mix: float
    blend: float
    temperature: float

    def logits(self, regression: Floats, neighbours: Floats, heuristics: Floats) -> Floats:
        """Blends log-probabilities, each [..., classes]."""
        learned = self.mix * regression + (1.0 - self.mix) * neighbours
        return (learned + self.blend * heuristics) / self.temperature


@dataclass(frozen=True, slots=True)
class HeadJudgement:
    """What the head says of one text. `nearest_similarity`: cosine of the nearest labelled example."""

    complexity: tuple[float, ...]
    task: tuple[float, ...]
    out_of_domain: float
    nearest_similarity: float


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def log_floor(probabilities: Floats) -> Floats:
    """Logarithms, with a floor that keeps them finite."""
    return np.log(np.maximum(probabilities, PROBABILITY_FLOOR))


def log_odds(probability: float) -> float:
    """Kept finite by the same floor, at both ends."""
    bounded = min(max(probability, PROBABILITY_FLOOR), 1.0 - PROBABILITY_FLOOR)
    return math.log(bounded / (1.0 - bounded))


def nearest(similarities: Floats, count: int) -> npt.NDArray[np.intp]:
    """Indices of the `count` largest in each row, largest first; ties by index, so that results repeat."""
    return np.argsort(-similarities, axis=-1, kind="stable")[..., :count]


def neighbour_probabilities(similarities: Floats, labels: Labels, classes: int) -> Floats:
    """Votes of the nearest examples, weighted by similarity. [rows, examples] -> [rows, classes]."""
    chosen = nearest(similarities, NEIGHBOURS)
    votes = softmax(np.take_along_axis(similarities, chosen, axis=-1) / NEIGHBOUR_TEMPERATURE)
    result = np.full((len(similarities), classes), NEIGHBOUR_SMOOTHING)
    rows = np.repeat(np.arange(len(similarities)), chosen.shape[-1])
    np.add.at(result, (rows, labels[chosen].ravel()), votes.ravel())
    return np.asarray(result / result.sum(axis=-1, keepdims=True), dtype=np.float64)


def distances(similarities: Floats) -> Floats:
    """One minus the mean cosine of the nearest examples. [rows, examples] -> [rows]."""
    chosen = nearest(similarities, DISTANCE_NEIGHBOURS)
    return np.asarray(1.0 - np.take_along_axis(similarities, chosen, axis=-1).mean(axis=-1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Head:
    """A loaded head. `examples` [count, dimensions] have unit length; arrays must not be written to."""

    version: str
    embedding_model: str
    examples: Floats
    example_complexity: Labels
    example_task: Labels
    complexity: Mixture
    task: Mixture
    distance_quantiles: Floats
    complexity_prior: Floats
    task_prior: Floats

    def judge_many(
        self, vectors: Floats, heuristic_complexity: Floats, heuristic_task: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Complexity [n, 3], task [n, 12], out-of-domain [n] and nearest similarity [n] of unit vectors [n, d].

        The heuristics' probabilities [n, 3] and [n, 12] are blended in.
        """
        similarities = vectors @ self.examples.T
        strangeness = np.interp(distances(similarities), self.distance_quantiles, OUT_OF_DOMAIN_AT_QUANTILES)
        pull = (PRIOR_PULL_MAX * strangeness**2)[:, None]

        def answer(mixture: Mixture, labels: Labels, heuristics: Floats, prior: Floats) -> Floats:
            regression = log_floor(softmax(vectors @ mixture.weights + mixture.bias))
            neighbours = log_floor(neighbour_probabilities(similarities, labels, len(prior)))
            near = softmax(mixture.logits(regression, neighbours, log_floor(heuristics)))
            return np.asarray((1.0 - pull) * near + pull * prior, dtype=np.float64)

        complexity = answer(self.complexity, self.example_complexity, heuristic_complexity, self.complexity_prior)
        task = answer(self.task, self.example_task, heuristic_task, self.task_prior)
        return complexity, task, strangeness, similarities.max(axis=-1)

    def judge(
        self,
        vector: npt.NDArray[np.float32],
        heuristic_complexity: tuple[float, ...],
        heuristic_task: tuple[float, ...],
    ) -> HeadJudgement:
        """Judges one unit vector [d]; about 0.1 ms. Raises HeadError on a vector of the wrong size or not finite."""
        row = np.asarray(vector, dtype=np.float64).reshape(1, -1)
        if row.shape[1] != self.examples.shape[1] or not np.isfinite(row).all():
            message = "the vector does not fit the head"
            raise HeadError(message)
        complexity, task, strangeness, similarity = self.judge_many(
            row, np.asarray([heuristic_complexity]), np.asarray([heuristic_task])
        )
        return HeadJudgement(
            complexity=tuple(complexity[0].tolist()),
            task=tuple(task[0].tolist()),
            out_of_domain=float(strangeness[0]),
            nearest_similarity=float(similarity[0]),
        )


def serialise_head(head: Head) -> bytes:
    """A head as .npz bytes; the same head gives the same bytes. Examples are kept as float16, weights as float32."""
    stream = io.BytesIO()
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "version": np.asarray(head.version),
        "embedding_model": np.asarray(head.embedding_model),
        "examples": head.examples.astype(np.float16),
        "example_complexity": head.example_complexity.astype(np.int8),
        "example_task": head.example_task.astype(np.int8),
        "distance_quantiles": head.distance_quantiles,
        "complexity_prior": head.complexity_prior,
        "task_prior": head.task_prior,
    }
    for name, mixture in (("complexity", head.complexity), ("task", head.task)):
        arrays[f"{name}_weights"] = mixture.weights.astype(np.float32)
        arrays[f"{name}_bias"] = mixture.bias.astype(np.float32)
        arrays[f"{name}_blend"] = np.asarray([mixture.mix, mixture.blend, mixture.temperature])
    # numpy's stubs take the keyword allow_pickle for one of the arrays.
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _mixture(arrays: dict[str, npt.NDArray[np.generic]], name: str, dimensions: int, classes: int) -> Mixture:
    weights = arrays[f"{name}_weights"].astype(np.float64)
    bias = arrays[f"{name}_bias"].astype(np.float64)
    mix, blend, temperature = (float(value) for value in arrays[f"{name}_blend"].astype(np.float64))
    fits = weights.shape == (dimensions, classes) and bias.shape == (classes,)
    if not (fits and 0.0 <= mix <= 1.0 and 0.0 <= blend <= 10.0 and 0.05 <= temperature <= 20.0):
        message = f"the head's {name} part has a wrong shape or range"
        raise HeadError(message)
    return Mixture(weights, bias, mix, blend, temperature)


def _check(head: Head) -> None:
    count, dimensions = head.examples.shape
    fits = (
        NEIGHBOURS <= count <= EXAMPLES_MAX
        and 1 <= dimensions <= DIMENSIONS_MAX
        and head.example_complexity.shape == head.example_task.shape == (count,)
        and head.distance_quantiles.shape == (len(DISTANCE_QUANTILES),)
        and bool((np.diff(head.distance_quantiles) > 0).all())
        and head.complexity_prior.shape == (COMPLEXITIES,)
        and head.task_prior.shape == (TASKS,)
        and bool(((head.example_complexity >= 0) & (head.example_complexity < COMPLEXITIES)).all())
        and bool(((head.example_task >= 0) & (head.example_task < TASKS)).all())
    )
    arrays = (head.examples, head.complexity.weights, head.complexity.bias, head.task.weights, head.task.bias)
    finite = all(np.isfinite(array).all() for array in arrays)
    priors = all(
        bool((prior >= 0).all()) and abs(float(prior.sum()) - 1.0) < 1e-6
        for prior in (head.complexity_prior, head.task_prior)
    )
    if not (fits and finite and priors):
        message = "the head's arrays have wrong shapes or values"
        raise HeadError(message)


def parse_head(data: bytes) -> Head:
    """Reads what `serialise_head` wrote. Raises HeadError on anything else; never unpickles."""
    if len(data) > ARTIFACT_BYTES_MAX:
        message = "the head's file is too large"
        raise HeadError(message)
    try:
        arrays = arrays_of(data)
        examples = arrays["examples"].astype(np.float64)
        _, dimensions = examples.shape
        lengths = np.linalg.norm(examples, axis=1, keepdims=True)
        head = Head(
            version=str(arrays["version"]),
            embedding_model=str(arrays["embedding_model"]),
            examples=examples / np.maximum(lengths, PROBABILITY_FLOOR),
            example_complexity=arrays["example_complexity"].astype(np.int64),
            example_task=arrays["example_task"].astype(np.int64),
            complexity=_mixture(arrays, "complexity", dimensions, COMPLEXITIES),
            task=_mixture(arrays, "task", dimensions, TASKS),
            distance_quantiles=arrays["distance_quantiles"].astype(np.float64),
            complexity_prior=arrays["complexity_prior"].astype(np.float64),
            task_prior=arrays["task_prior"].astype(np.float64),
        )
    except HeadError:
        raise
    except ArrayArchiveError as error:
        message = f"the head's file {error}"
        raise HeadError(message) from error
    except (ValueError, KeyError, TypeError) as error:
        message = f"the head's file is no head ({type(error).__name__})"
        raise HeadError(message) from error
    _check(head)
    return head
