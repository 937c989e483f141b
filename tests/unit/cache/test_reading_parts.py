"""The parts of a reading: what is left out to be quick changes nothing, and nothing of a reading stays behind."""

from __future__ import annotations

import gc
import re
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.matching.capitals import capital_words, is_cased, is_title, names_in, spellings_in
from services.cache.matching.lexicon import ABBREVIATIONS
from services.cache.matching.reading import read
from services.cache.matching.tokens import words_in
from tests.support.hypothesis_profiles import examples

SHORT = settings(max_examples=examples(80, 5_000))

_WORDS = (
    "How",
    "do",
    "I",
    "I'm",
    "Turkey",
    "turkey",
    "A",
    "a",
    "iPhone",
    "MW",
    "don't",
    "Will",
    "card",
    "B",
    "the",
    "of",
)
_MARKS = (" ", " ", " ", "? ", ". ", ", ", "\n", " '", "' ", " (", "-", "_", "5", "’", "é")

texts = st.lists(st.tuples(st.sampled_from(_WORDS), st.sampled_from(_MARKS)), max_size=8).map(
    lambda parts: "".join(word + mark for word, mark in parts)
) | st.text(max_size=40)


@SHORT
@given(texts)
def test_words_are_runs_of_letters_with_the_apostrophes_between_them(text: str) -> None:
    assert words_in(text) == tuple(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text))


@SHORT
@given(texts)
def test_a_text_that_is_not_cased_has_no_spelling_but_small_letters(text: str) -> None:
    spelled = words_in(text)
    if not is_cased(text, spelled, capital_words(spelled)):
        for bare, ways in spellings_in(text, spelled, titled=is_title(spelled)).items():
            assert ways == {bare}


@SHORT
@given(texts)
def test_names_are_the_same_with_and_without_the_list_of_capital_words(text: str) -> None:
    spelled = words_in(text)
    if spelled:
        assert names_in(text, spelled, capital_words(spelled)) == names_in(text, spelled, (*spelled, "Else", "Other"))


def test_a_first_word_that_may_be_a_name_is_cased_and_one_that_may_not_is_not() -> None:
    assert read("Turkey has how many cities").cased
    assert not read("How many cities are there").cased
    assert read("how many cities has Turkey").cased


def test_a_capital_behind_what_begins_no_sentence_is_a_name() -> None:
    assert read("5 Bobs cook").names == {"bobs"}
    assert read("Bobs cook").names == frozenset()


def test_every_abbreviation_is_written_out_in_either_case() -> None:
    for abbreviation, full in ABBREVIATIONS.items():
        for spelled in (abbreviation, abbreviation.upper()):
            assert full in read(f"what is {spelled} for").normal


def test_a_reading_is_gone_with_the_last_that_refers_to_it_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        reading = read("how do I block my card")
        assert reading.core is reading
        gone = weakref.ref(reading)
        del reading
        assert gone() is None
    finally:
        gc.enable()
