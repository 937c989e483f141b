"""The learned head: its file, its arithmetic, its caution."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lab.head_fit import Dataset, cross_validated, fit_head
from lab.metrics import accuracy, bootstrap, expected_calibration_error, log_loss
from services.classifier.head import (
    ARTIFACT_BYTES_MAX,
    COMPLEXITIES,
    TASKS,
    Head,
    HeadError,
    Mixture,
    neighbour_probabilities,
    parse_head,
    serialise_head,
)
from services.classifier.model import MODEL_ID, sha256_of
from services.classifier.startup import BUILTIN_HEAD, open_head

EVEN3 = (1 / 3, 1 / 3, 1 / 3)
EVEN12 = (1 / 12,) * 12
DIMENSIONS = 24


def made_up(count: int = 180, seed: int = 7) -> Dataset:
    """Rows around one centre for each kind, with heuristics that know nothing."""
    generator = np.random.default_rng(seed)
    kinds = np.arange(count) % (COMPLEXITIES * TASKS)
    centres = np.random.default_rng(1).normal(size=(COMPLEXITIES * TASKS, DIMENSIONS))
    vectors = centres[kinds] + 0.6 * generator.normal(size=(count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Dataset(
        vectors, kinds % COMPLEXITIES, kinds // COMPLEXITIES, np.tile(EVEN3, (count, 1)), np.tile(EVEN12, (count, 1))
    )


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(made_up(), version="test-1", embedding_model="m/1", seed=3)


def test_a_fitted_head_knows_unseen_rows_of_the_same_kind(head: Head) -> None:
    fresh = made_up(seed=8)
    complexity, task, _, _ = head.judge_many(fresh.vectors, fresh.heuristic_complexity, fresh.heuristic_task)
    assert accuracy(complexity, fresh.complexity) > 0.8
    assert accuracy(task, fresh.task) > 0.8
    assert expected_calibration_error(complexity, fresh.complexity) < 0.2


def test_the_same_data_and_seed_give_the_same_bytes_and_the_bytes_give_the_head_back(head: Head) -> None:
    again = fit_head(made_up(), version="test-1", embedding_model="m/1", seed=3)
    data = serialise_head(head)
    assert serialise_head(again) == data
    loaded = parse_head(data)
    assert loaded.version == "test-1"
    vector = made_up(seed=9).vectors[0].astype(np.float32)
    assert loaded.judge(vector, EVEN3, EVEN12).complexity == pytest.approx(
        head.judge(vector, EVEN3, EVEN12).complexity, abs=1e-2
    )


def test_far_from_every_example_the_head_is_drawn_to_the_prior(head: Head) -> None:
    data = made_up()
    near = head.judge(data.vectors[0].astype(np.float32), EVEN3, EVEN12)
    stranger = -data.vectors.mean(axis=0)
    far = head.judge((stranger / np.linalg.norm(stranger)).astype(np.float32), EVEN3, EVEN12)
    assert near.out_of_domain < 0.5
    assert far.out_of_domain == 1.0
    assert max(far.complexity) <= 0.5 + 0.5 / 3 + 1e-9
    assert max(far.complexity) < max(near.complexity)


def test_the_heuristics_move_the_head_as_far_as_the_blend_says(head: Head) -> None:
    blended = replace(head, complexity=replace(head.complexity, blend=1.0))
    deaf = replace(head, complexity=replace(head.complexity, blend=0.0))
    vector = made_up().vectors[0].astype(np.float32)
    for_complex, for_simple = (0.01, 0.04, 0.95), (0.95, 0.04, 0.01)
    assert (
        blended.judge(vector, for_complex, EVEN12).complexity[2]
        > blended.judge(vector, for_simple, EVEN12).complexity[2]
    )
    assert deaf.judge(vector, for_complex, EVEN12) == deaf.judge(vector, for_simple, EVEN12)


def test_nearer_neighbours_weigh_more() -> None:
    labels = np.asarray([0, 1, 1, 2, 2, 2, 2, 2])
    similarities = np.asarray([[0.95, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]])
    assert neighbour_probabilities(similarities, labels, 3)[0].argmax() == 0


@pytest.mark.parametrize("vector", [np.zeros(3), np.full(DIMENSIONS, np.nan), np.full(DIMENSIONS, np.inf)])
def test_a_vector_that_does_not_fit_is_refused(head: Head, vector: npt.NDArray[np.float64]) -> None:
    with pytest.raises(HeadError):
        head.judge(vector.astype(np.float32), EVEN3, EVEN12)


def test_anything_but_a_head_is_refused(head: Head) -> None:
    good = serialise_head(head)
    pickled = io.BytesIO()
    np.savez(pickled, version=np.asarray([object()], dtype=object))
    for data in (b"", b"PK", b"\x80\x04N.", good[: len(good) // 2], pickled.getvalue(), bytes(ARTIFACT_BYTES_MAX + 1)):
        with pytest.raises(HeadError):
            parse_head(data)


@pytest.mark.parametrize(
    "change",
    [
        {"examples": np.full((180, DIMENSIONS), np.nan)},
        {"example_task": np.full(180, 12)},
        {"example_complexity": np.zeros(3, dtype=np.int64)},
        {"complexity_prior": np.asarray([0.5, 0.5, 0.5])},
        {"distance_quantiles": np.asarray([0.5, 0.4, 0.3])},
    ],
)
def test_a_head_with_impossible_values_is_refused(head: Head, change: dict[str, object]) -> None:
    with pytest.raises(HeadError):
        parse_head(serialise_head(replace(head, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("mix", 2.0), ("blend", float("nan"))])
def test_a_blend_out_of_range_is_refused(head: Head, name: str, value: float) -> None:
    numbers = {"mix": head.task.mix, "blend": head.task.blend, "temperature": head.task.temperature, name: value}
    broken = Mixture(head.task.weights, head.task.bias, numbers["mix"], numbers["blend"], numbers["temperature"])
    with pytest.raises(HeadError):
        parse_head(serialise_head(replace(head, task=broken)))


def test_cross_validation_judges_each_row_by_a_head_that_never_saw_it() -> None:
    data = made_up()
    shuffled = replace(data, complexity=np.random.default_rng(0).permutation(data.complexity))
    complexity, task = cross_validated(shuffled, seed=1)
    assert accuracy(complexity, shuffled.complexity) < 0.5
    assert accuracy(task, shuffled.task) > 0.8


def test_the_builtin_head_is_small_and_matches_its_card_and_its_data() -> None:
    head = open_head(BUILTIN_HEAD)
    card = json.loads(BUILTIN_HEAD.with_suffix(".json").read_text())
    assert BUILTIN_HEAD.stat().st_size < ARTIFACT_BYTES_MAX
    assert (head.version, head.embedding_model) == (card["version"], MODEL_ID)
    assert card["data"]["examples"]["sha256"] == sha256_of(BUILTIN_HEAD.parent / "examples.jsonl")
    assert len(head.examples) == card["data"]["examples"]["rows"] >= 360


def test_a_missing_head_is_a_head_error(tmp_path: Path) -> None:
    with pytest.raises(HeadError):
        open_head(tmp_path / "none.npz")


def test_the_figures_are_right_on_cases_done_by_hand() -> None:
    probabilities = np.asarray([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    labels = np.asarray([0, 1, 1, 0])
    assert accuracy(probabilities, labels) == 0.75
    assert expected_calibration_error(probabilities, labels) == pytest.approx((2 * 0.4 + 0.2 + 0.4) / 4)
    assert log_loss(probabilities, labels) == pytest.approx(-np.log([0.9, 0.1, 0.8, 0.6]).mean())
    interval = bootstrap(accuracy, probabilities, labels, seed=1)
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0
