"""What a head keeps of its prompts: near copies are found, by words and by meaning, and no others."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest

from lab.fitted_prompts import SHINGLES_MAX, FittedPrompts, FittedPromptsError
from lab.recorded import shingles
from tests.support.router_rows import made_up

SEED = 11
TEXTS = [prompt for prompt, _ in made_up(60, seed=SEED)]


def apart(count: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """Unit vectors, far from each other."""
    found = np.random.default_rng(seed).normal(size=(count, 64))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def kept(texts: list[str]) -> FittedPrompts:
    return FittedPrompts.parse(FittedPrompts.of(texts, apart(len(texts))).serialise())


def test_a_prompt_with_a_word_of_thanks_is_a_copy_and_another_prompt_is_not() -> None:
    others = [prompt for prompt, _ in made_up(60, seed=SEED + 1)]
    tried = [f"{text}. Thanks." for text in TEXTS[:30]] + others
    found = kept(TEXTS).copies(tried, apart(len(tried), SEED + 2))
    assert found[:30].all()
    assert not found[30:].any()


def test_a_prompt_that_means_the_same_is_a_copy_whatever_its_words() -> None:
    vectors = apart(3)
    store = FittedPrompts.parse(FittedPrompts.of(TEXTS[:3], vectors).serialise())
    others = [prompt for prompt, _ in made_up(3, seed=SEED + 3)]
    assert store.copies(others, vectors).all()
    assert not store.copies(others, -vectors).any()


def test_long_prompts_are_told_by_a_sample_of_their_words() -> None:
    chance = random.Random(SEED)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnprst"]
    long = [" ".join(chance.choices(words, k=1_000)) for _ in range(4)]
    assert min(len(shingles(text)) for text in long) > SHINGLES_MAX
    store = kept(long[:2])
    part = [" ".join(long[0].split()[:700]), " ".join(long[0].split()[:100] + long[3].split()), long[2]]
    assert store.copies([*part, long[1] + " please"], apart(4, SEED + 4)).tolist() == [True, False, False, True]


def test_what_many_fitted_prompts_begin_with_makes_no_copy() -> None:
    template = "Complete the assertion with the output of the function on the given input, and say nothing else: "
    found = kept([template + text for text in TEXTS]).copies(
        [template + "zebra quagga okapi tapir"], apart(1, SEED + 5)
    )
    assert not found.any()


def test_nothing_fitted_has_no_copies() -> None:
    store = FittedPrompts.parse(FittedPrompts.of([], apart(0)).serialise())
    assert not store.copies(TEXTS, apart(len(TEXTS))).any()


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"x" + data[1:],
                                    lambda data: data[:40]])  # fmt: skip
def test_torn_bytes_are_told(damage: object) -> None:
    data = FittedPrompts.of(TEXTS, apart(len(TEXTS))).serialise()
    with pytest.raises(FittedPromptsError):
        FittedPrompts.parse(damage(data))  # type: ignore[operator]
