"""What a text of words alone is known not to have is what reading it finds."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.matching.contraries import hard_differences
from services.cache.matching.lexicon import word_set
from services.cache.matching.plain_texts import plain_text
from services.cache.matching.reading import Reading, read
from services.cache.matching.traits import Traits
from tests.support.hypothesis_profiles import examples

_WORDS = sorted(
    word_set("""
    How how do does did I i A a B the in to from order out on off not never don't I'm can't what's whats Whats un unable
    able disconnect turn two weeks day one first only last wife my another else elsewhere before and then but happens
    what stop instead reply card kettle Turkey US PIN IT iPhone WWII wwi uk II part war der de please thanks me Can
    should must anything yes old many long cheap expensive open close enable disable
""")
)
_BETWEEN = (" ", " ", " ", " ", "  ", ", ", ". ", "? ", "! ", "\n", "-", "; ", " 5 ")
_ENDS = ("", "?", ".", "?", "!", "??", " ", ",")

texts = st.builds(
    lambda parts, end: "".join(word + mark for word, mark in parts[:-1]) + parts[-1][0] + end,
    st.lists(st.tuples(st.sampled_from(_WORDS), st.sampled_from(_BETWEEN)), min_size=1, max_size=9),
    st.sampled_from(_ENDS),
)

READ = (
    *(
        "spelled",
        "titled",
        "words",
        "tokens",
        "content",
        "sequence",
        "numbers",
        "units",
        "literals",
        "code",
        "hidden",
        "names",
    ),
    *("shouted", "possessive", "frame", "questions", "latin", "english", "plain", "cased", "spellings", "wording"),
    *("asking", "particulars", "contracted", "goes_on", "aligned"),
)
TRAITS = (
    *("vocabulary", "matter", "forms", "kin", "initials", "ordinals", "negations", "negated", "denied", "opposed"),
    *("prefixed", "directions"),
)


@settings(max_examples=examples(250, 20_000))
@given(texts)
def test_a_plain_text_has_what_reading_it_finds(text: str) -> None:
    found = read(text)
    slowly = Reading(found.normal, found.exact)
    for name in READ:
        assert getattr(found, name) == getattr(slowly, name), name
    assert found.core == slowly.core
    traits = Traits(slowly.words, slowly.content)
    for name in TRAITS:
        assert getattr(found.traits, name) == getattr(traits, name), name


@settings(max_examples=examples(150, 10_000))
@given(texts, texts)
def test_between_calm_texts_there_are_the_hard_differences_that_reading_them_finds(a: str, b: str) -> None:
    found, other = read(a), read(b)
    slowly = [Reading(each.normal, each.exact) for each in (found, other)]
    assert hard_differences(found, other) == hard_differences(*slowly)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "Where is order 5?",
            "it's 5!",
            "Is C++ old?",
            "the café",
            "my wife's card",
            "a-b",
            "so...",
            "what? ",
        ),
        *("the uk bank", "what to do in order to pay", "World War II", "my iPhone", "(how)"),
    ],
)
def test_what_may_be_more_than_words_is_no_plain_text(text: str) -> None:
    assert plain_text(text) is None


@pytest.mark.parametrize(
    "text", ["How do I pay?", "my card", "I can't pay, what now? Thanks", "Can I go to Turkey", "the PIN of my card."]
)
def test_questions_of_words_and_common_marks_are_plain(text: str) -> None:
    assert plain_text(text) is not None


def test_a_calm_text_is_calm_for_its_words() -> None:
    assert read("how do i pay by card").calm
    for text in (
        "how do i not pay",
        "pay two bills",
        "the first bill",
        "is it cheap",
        "he is unable to pay",
        "turn it",
    ):
        assert not read(text).calm, text


def test_a_reading_has_no_other_fields_than_its_texts() -> None:
    assert [field.name for field in fields(Reading)] == ["normal", "exact"]
    assert read("how do i pay") == Reading("how do i pay", "how do i pay")
