"""The served model of which tier suffices: what it promises of probabilities, distance, artifacts and odd input."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.router_fit import fit_router
from services.classifier.lexical import BUCKETS, CHARACTERS_MAX, SURFACE_NAMES, read
from services.classifier.sufficiency import (
    FLOOR,
    SufficiencyError,
    SufficiencyModel,
    parse_sufficiency,
    pull_down,
    serialise_sufficiency,
)
from tests.support.sufficiency_rows import DIMENSIONS, TIERS, easy_and_hard, unit

EASY = "What is the colour of a lime ball? (12)"
HARD = "Prove that every sparse group of order round is solvable, and derive the bound $x^2 \\leq dense$ in full (13)"


@pytest.fixture(scope="module")
def model() -> SufficiencyModel:
    return fit_router(easy_and_hard(300, seed=1), version="made-1", embedding_model="test", seed=1)


def _vector(hard: int) -> npt.NDArray[np.float32]:
    centre = np.full(DIMENSIONS, 0.02)
    centre[hard] = 1.0
    return unit(centre)


def test_an_easy_prompt_is_trusted_to_a_cheaper_tier_than_a_hard_one(model: SufficiencyModel) -> None:
    easy, hard = model.judge(_vector(0), EASY), model.judge(_vector(1), HARD)
    assert easy.probabilities[0] > 0.7
    assert hard.probabilities[0] < 0.3
    assert easy.gains[0] < hard.gains[0]


def test_a_dearer_tier_is_never_less_likely_and_the_dearest_is_certain(model: SufficiencyModel) -> None:
    for vector, text in ((_vector(0), EASY), (_vector(1), HARD), (_vector(5), "x")):
        found = model.judge(vector, text).probabilities
        assert len(found) == len(TIERS)
        assert list(found) == sorted(found)
        assert found[-1] == 1.0


def test_far_from_training_no_cheap_tier_is_trusted(model: SufficiencyModel) -> None:
    near, far = model.judge(_vector(0), EASY), model.judge(-_vector(0), EASY)
    assert near.out_of_domain < 0.5 < far.out_of_domain == 1.0
    assert near.probabilities[0] > FLOOR >= far.probabilities[0]
    assert any("far from training" in words for words in far.evidence)


def test_new_words_alone_are_far_from_training(model: SufficiencyModel) -> None:
    assert model.judge(_vector(0), "Quel est votre plat préféré aujourd'hui").out_of_domain == 1.0


def test_unfamiliar_counts_alone_are_far_from_training(model: SufficiencyModel) -> None:
    text = "\n".join([EASY] * 40)
    assert model.novelty(read(text)) == 0.0
    assert model.judge(_vector(0), text).out_of_domain == 1.0


def test_the_pull_only_lowers() -> None:
    found = pull_down(np.array([[0.9], [0.9], [0.9], [0.1]]), np.array([0.0, 0.5, 1.0, 1.0]))
    assert found.ravel().tolist() == [0.9, 0.9, FLOOR, 0.1]


def test_one_by_one_is_the_same_as_many_at_once(model: SufficiencyModel) -> None:
    rows = easy_and_hard(20, seed=2)
    gains, served, strange = model.judge_many(rows.vectors, rows.lexical)
    for row, text in enumerate(rows.texts):
        found = model.judge(rows.vectors[row], text)
        assert found.gains == pytest.approx(gains[row].tolist(), abs=1e-4)
        assert found.probabilities[:-1] == pytest.approx(served[row].tolist(), abs=1e-4)
        assert found.out_of_domain == pytest.approx(strange[row], abs=1e-4)


def test_clusters_split_what_differs(model: SufficiencyModel) -> None:
    easy, hard = model.judge(_vector(0), EASY).cluster, model.judge(_vector(1), HARD).cluster
    assert easy is not None
    assert hard is not None
    assert easy != hard


def test_an_artifact_is_read_back_as_it_was_written(model: SufficiencyModel) -> None:
    data = serialise_sufficiency(model)
    again = parse_sufficiency(data)
    assert serialise_sufficiency(again) == data
    assert again.judge(_vector(1), HARD) == model.judge(_vector(1), HARD)


@pytest.mark.parametrize(
    "broken",
    [
        {"version": ""},
        {"tiers": ("one",)},
        {"tiers": ("same", "same", "same")},
        {"bias": np.zeros(3)},
        {"bias": np.array([np.nan, 0.0])},
        {"calibration": np.array([[0.0, -1.0], [0.0, 1.0]])},
        {"idf": np.zeros(BUCKETS - 1, dtype=np.float32)},
        {"surface_scale": np.zeros(len(SURFACE_NAMES), dtype=np.float32)},
        {"distance_quantiles": np.array([0.2, 0.2])},
        {"centroids": np.zeros((2, DIMENSIONS + 1), dtype=np.float32)},
        {"landmarks": np.zeros((3, 2, 1), dtype=np.float32)},
        {"vector_width": 0.0},
        {"landmarks": np.full((3, DIMENSIONS), 60_000.0, dtype=np.float32)},
        {"centroids": np.zeros((2, DIMENSIONS), dtype=np.float32)},
        {"surface_mean": np.full(len(SURFACE_NAMES), -3e38, dtype=np.float32)},
        {"calibration": np.array([[0.0, 1e300], [0.0, 1.0]])},
    ],
)
def test_an_artifact_with_wrong_shapes_or_values_is_refused(model: SufficiencyModel, broken: dict[str, object]) -> None:
    data = serialise_sufficiency(replace(model, **broken))  # type: ignore[arg-type]
    with pytest.raises(SufficiencyError):
        parse_sufficiency(data)


def test_bytes_that_are_no_artifact_are_refused(model: SufficiencyModel) -> None:
    data = serialise_sufficiency(model)
    pickled = io.BytesIO()
    np.savez(pickled, header=np.asarray([{"format": "sufficiency-1"}], dtype=object))
    for bad in (b"", b"PK\x03\x04", data[: len(data) // 2], b"x" * 100, pickled.getvalue(), data + b"x" * 17_000_000):
        with pytest.raises(SufficiencyError):
            parse_sufficiency(bad)


@pytest.mark.parametrize("name", ["landmark_weights", "landmark_surface_weights", "gram_weights", "bias"])
def test_numbers_whose_sums_are_no_numbers_are_refused(model: SufficiencyModel, name: str) -> None:
    weights = getattr(model, name)
    signs = np.where(np.arange(weights.size).reshape(weights.shape) % 2 == 0, 1.0, -1.0)
    data = serialise_sufficiency(replace(model, **{name: (3e38 * signs).astype(weights.dtype)}))  # type: ignore[arg-type]
    with pytest.raises(SufficiencyError):
        parse_sufficiency(data)


def test_no_probability_that_is_no_number_is_ever_said(model: SufficiencyModel) -> None:
    broken = replace(model, landmark_weights=np.full_like(model.landmark_weights, np.inf))
    with pytest.raises(SufficiencyError), np.errstate(all="ignore"):
        broken.judge(_vector(0), EASY)


def _with_entries(data: bytes, compression: int) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(found, "w", compression) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    return found.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_compressed_stream_that_is_damaged_is_refused(model: SufficiencyModel, compression: int) -> None:
    data = bytearray(_with_entries(serialise_sufficiency(model), compression))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        entry = archive.getinfo("landmarks.npy")
    begins = entry.header_offset + 30 + len(entry.filename)
    data[begins + 10 : begins + 110] = b"\xff" * 100
    with pytest.raises(SufficiencyError):
        parse_sufficiency(bytes(data))


def test_an_encrypted_archive_is_refused(model: SufficiencyModel) -> None:
    data = bytearray(serialise_sufficiency(model))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        for entry in archive.infolist():
            data[entry.header_offset + 6] |= 1
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    with pytest.raises(SufficiencyError):
        parse_sufficiency(bytes(data))


def test_an_archive_that_unpacks_too_large_is_refused_unread() -> None:
    bomb = io.BytesIO()
    np.savez_compressed(bomb, header=np.zeros(80 * 1024 * 1024, dtype=np.uint8))
    assert len(bomb.getvalue()) < 1_000_000
    with pytest.raises(SufficiencyError, match="too large"):
        parse_sufficiency(bomb.getvalue())


@pytest.mark.parametrize("vector", [np.zeros(DIMENSIONS + 1), np.full(DIMENSIONS, np.nan), np.full(DIMENSIONS, np.inf)])
def test_a_vector_that_does_not_fit_is_refused(model: SufficiencyModel, vector: npt.NDArray[np.float64]) -> None:
    with pytest.raises(SufficiencyError):
        model.judge(vector.astype(np.float32), EASY)


@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_has_finite_probabilities(model: SufficiencyModel, text: str) -> None:
    for said in (text, text * 50):
        found = model.judge(_vector(0), said)
        assert all(0.0 <= value <= 1.0 for value in found.probabilities)
        assert 0.0 <= found.out_of_domain <= 1.0


def test_only_head_and_tail_of_a_long_text_are_read() -> None:
    long = "alpha " * 100_000
    middle = long[:300_000] + "omega " * 10 + long[300_000:]
    assert np.array_equal(read(long).surface[1:], read(middle).surface[1:])
    assert read(long).surface[0] == pytest.approx(np.log1p(CHARACTERS_MAX))


def test_surface_counts_say_what_their_names_say() -> None:
    found = dict(zip(SURFACE_NAMES, read("Which of 12.5 and $x^2$ is not larger?\nA. 3\nB. 40").surface, strict=True))
    assert found["options"] == pytest.approx(np.log1p(2))
    assert found["numeric_options"] == 1.0
    assert found["question_marks"] == pytest.approx(np.log1p(1))
    assert found["negations"] == pytest.approx(np.log1p(1))
    assert found["largest_number"] == 2.0
    assert found["latex"] > 0.0
    assert found["code"] == 0.0


def test_words_and_characters_are_hashed_alike_on_every_machine() -> None:
    found = read("Turn on the lamp 7 times")
    # Written down once; another value means that every artifact out there reads other words.
    assert (len(found.buckets), int(found.buckets.sum()), int(found.words.sum())) == (80, 1_812_160, 53_105)
