"""Texts are read in time linear in their length, whatever they are made of: a caller chooses them, and they are read
where all others wait."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from services.cache.matching.answer_comparison import CHARS_MAX, compare, is_common_word
from services.cache.matching.kept import kept
from services.cache.matching.known_questions import same_words
from services.cache.matching.reading import Reading, read
from services.cache.matching.traits import Traits

UNITS = [
    "a", "aA", "é", "ﬁ", "a'", "s' ", "'", '"', "«", "`", "```a", "!", "? ", "...", "\n", " ", "_", "a_", "-", "a-",
    "(", "1,", "1", "1.", "/", "aa/", "a.", "a@b", "https://", "\\boxed{a", '"answer": "', "answer is ", "{", "#", "*",
    "not ", "another ", "how many ", "please ", "I ", "AB", "a\u0301", "中", "$1 ", "a(", "and ",
]  # fmt: skip
AROUND = [("", ""), ("", "x"), ("a", "'"), ("a", "x"), ("", "!")]

CHARS = 990
TIMES = 8
WIDE = 4
"""What grows with the square takes 8 times as much of 8 times as much."""


def read_all(text: str) -> None:
    for each in (found := read(text), found.core):
        for part, of in ((each, Reading), (each.traits, Traits)):
            for name, value in vars(of).items():
                if isinstance(value, kept):
                    getattr(part, name)


def compare_all(text: str) -> None:
    compare(text, text + "x")
    is_common_word(text)


def least_s(reads: Callable[[str], object], text: str) -> float:
    taken = []
    for _ in range(2):
        begun = time.thread_time()
        reads(text)
        taken.append(time.thread_time() - begun)
    return min(taken)


@pytest.mark.parametrize("reads", [read_all, same_words, compare_all])
@pytest.mark.parametrize("unit", UNITS)
def test_a_longer_text_of_the_same_takes_no_more_for_each_character(unit: str, reads: Callable[[str], object]) -> None:
    assert TIMES * CHARS < CHARS_MAX - 2
    for begin, end in AROUND:
        short, long = (begin + (unit * length)[:length] + end for length in (CHARS, TIMES * CHARS))
        base = max(least_s(reads, short), 1e-4)
        assert any(least_s(reads, long) < WIDE * TIMES * base for _ in range(5)), (begin, end)
