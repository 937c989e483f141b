"""What is remembered of words and questions is bounded in bytes, whatever is sent."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest

from services.cache.entry import Question, Scope
from services.cache.matching.alignment import unmatched
from services.cache.matching.condensed import Condensed, condensed
from services.cache.matching.grammar import keeps_form
from services.cache.matching.kept import shared
from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.pair_features import pair_features, sketch
from services.cache.matching.proposal_guard import proposal_refusal
from services.cache.matching.reading import Reading, read
from services.cache.matching.remembered import REMEMBERED_CHARS_MAX, remembered
from services.cache.matching.reorderings import only_moved
from services.cache.matching.sketches import CONDENSED_BYTES, CONDENSED_TEXT_BYTES, SKETCH_BYTES, SKETCH_TEXT_BYTES
from tests.support.cache_parts import pair_model

CHINESE = [chr(code) for code in range(0x4E00, 0x9FFF)]
RARE = [chr(code) for code in range(0x20000, 0x2A000)]
LATIN = "abcdefghijklmnopqrstuvwxyz"
STORED = "How do I reset my router?"
CHARS = 2_000
TABLE_BYTES = 400_000
"""Of tables of the interpreter, which grow for all that it has."""


def test_a_word_is_looked_at_once_while_it_is_remembered() -> None:
    asked: list[str] = []

    @remembered(4)
    def length(word: str) -> int:
        asked.append(word)
        return len(word)

    assert [length(word) for word in ("a", "bb", "a", "bb", "a")] == [1, 2, 1, 2, 1]
    assert asked == ["a", "bb"]


def test_so_many_words_are_remembered_and_those_asked_for_lately_stay() -> None:
    asked: list[str] = []

    @remembered(100)
    def same(word: str) -> str:
        asked.append(word)
        return word

    for number in range(1_000):
        assert same(str(number)) == str(number)
        assert same("often") == "often"
    assert len(asked) == 1_001
    kept = [number for number in range(1_000) if same(str(number)) and asked[-1] != str(number)]
    assert len(kept) <= 100


def test_nothing_is_remembered_of_a_long_word() -> None:
    asked: list[str] = []

    @remembered(100)
    def same(word: str) -> str:
        asked.append(word)
        return word

    for length in (REMEMBERED_CHARS_MAX, REMEMBERED_CHARS_MAX + 1):
        assert same("x" * length) == same("x" * length) == "x" * length
    assert list(map(len, asked)) == [REMEMBERED_CHARS_MAX, REMEMBERED_CHARS_MAX + 1, REMEMBERED_CHARS_MAX + 1]


def test_small_sets_of_long_words_are_not_shared() -> None:
    assert shared(["x" * 100]) == shared(["x" * 100])
    assert shared(["x" * 100]) is not shared(["x" * 100])


def taken(do: Callable[[], None]) -> int:
    """Bytes that are still taken when it is done."""
    gc.collect()
    tracemalloc.start()
    try:
        do()
        gc.collect()
        return sum(each.size for each in tracemalloc.take_snapshot().traces if each.size < TABLE_BYTES)
    finally:
        tracemalloc.stop()


def taken_each_time(do: Callable[[], None]) -> int:
    """What stays however often it is done: the first time, words of other tests may make room for its own."""
    return min(taken(do), taken(do))


def words(rng: Random, letters: str | list[str], each: int) -> str:
    return " ".join("".join(rng.choices(letters, k=each)) for _ in range(CHARS // (each + 1)))


def known_questions() -> KnownQuestions:
    known = KnownQuestions(pair_model().idf, entries_max=10)
    known.learn(Question("k", Scope("acme"), "p", STORED, 1e12))
    return known


@pytest.mark.parametrize(("letters", "each"), [(CHINESE, CHARS - 1), (CHINESE, 60), (LATIN, CHARS - 1), (LATIN, 60)])
def test_of_questions_of_long_words_next_to_nothing_stays_when_they_are_gone(
    letters: str | list[str], each: int
) -> None:
    rng, stored, sent = Random(1), known_questions().sketch_of("k", STORED), 40

    def ask() -> None:
        asked = known_questions().read(words(rng, letters, each))
        pair_features(asked, stored, 0.9)
        proposal_refusal(asked.reading, [stored.reading], aliases=1)

    def ask_often() -> None:
        for _ in range(sent):
            ask()

    ask()
    assert taken_each_time(ask_often) < sent * 8 * CHARS


@pytest.mark.parametrize(
    ("letters", "each"), [(CHINESE, CHARS - 1), (CHINESE, 20), (RARE, 1), (RARE, 30), (LATIN, 9), (LATIN, 60)]
)
def test_a_sketch_is_counted_at_about_what_it_takes_or_more(letters: str | list[str], each: int) -> None:
    rng, known = Random(2), known_questions()
    stored = known.sketch_of("k", STORED)
    texts = [words(rng, letters, each) for _ in range(20)]
    made = [sketch(text, pair_model().idf) for text in texts]

    def ask() -> None:
        for asked in made:
            pair_features(asked, stored, 0.9)
            proposal_refusal(asked.reading, [stored.reading], aliases=1)

    counted = sum(SKETCH_BYTES + SKETCH_TEXT_BYTES * len(text.encode()) for text in texts)
    assert taken(ask) < 1.3 * counted


@pytest.mark.parametrize(
    ("letters", "each"), [(CHINESE, CHARS - 1), (CHINESE, 20), (CHINESE, 1), (RARE, 30), (LATIN, 3), (LATIN, 60)]
)
def test_a_condensed_one_is_counted_at_about_what_it_takes_or_more(letters: str | list[str], each: int) -> None:
    rng, stored = Random(2), known_questions().sketch_of("k", STORED)
    texts = [words(rng, letters, each) for _ in range(20)]
    kept: list[Condensed] = []

    def keep() -> None:
        kept.clear()
        for text in texts:
            asked = read(text)
            proposal_refusal(asked, [stored.reading], aliases=1)
            kept.append(condensed(asked))

    keep()  # what is remembered of words is counted elsewhere
    kept.clear()
    counted = sum(CONDENSED_BYTES + CONDENSED_TEXT_BYTES * len(text.encode()) for text in texts)
    assert taken(keep) < 1.3 * counted


@pytest.mark.parametrize(
    ("chars", "each", "hold"),
    [(CHARS, 1, unmatched), (399, 1, only_moved)],
)
def test_of_long_questions_whose_words_were_all_asked_before_next_to_nothing_stays(
    chars: int, each: int, hold: Callable[[Reading, Reading], object]
) -> None:
    rng, stored, sent = Random(3), read(STORED), 40
    vocabulary = words(rng, RARE, each).split()[: chars // (each + 1)]

    def ask() -> None:
        some = rng.sample(vocabulary, len(vocabulary) - 10)
        hold(read(" ".join(some)), stored)

    def ask_often() -> None:
        for _ in range(sent):
            ask()

    ask()
    assert taken_each_time(ask_often) < sent * 2 * chars


def test_of_questions_of_few_long_words_no_form_is_remembered() -> None:
    rng, stored, sent = Random(4), read(STORED), 40

    def ask_often() -> None:
        for _ in range(sent):
            keeps_form(read(words(rng, RARE, 60)), stored)

    assert taken(ask_often) < sent * 2 * CHARS
