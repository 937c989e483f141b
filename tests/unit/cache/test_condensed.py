"""A reading made of a condensed one is the reading that it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.matching.condensed import condensed, expanded, is_complete
from services.cache.matching.proposal_guard import proposal_refusal
from services.cache.matching.reading import Reading, read
from tests.support.hypothesis_profiles import examples

TEXTS = (
    "How do I pay by card?",
    "please tell me how do I pay by card, thanks",
    "give me a recipe for bread",
    "show me how to pay two thousand dollars on the first of May",
    "Can I get from London to Paris, and what's the fare? My wife's ticket is \"open\" - order 4711!",
    "I can't unlock my PIN. Is it not the first one?",
    "Wie bezahle ich mit der Karte",
    "World War II in 5 kg",
    "iPhone's `code(x)`",
    "",
)
READ = (
    *("normal", "exact", "spelled", "titled", "words", "tokens", "content", "sequence", "numbers", "units", "literals"),
    *("code", "names", "shouted", "possessive", "frame", "questions", "latin", "english", "plain", "cased", "calm"),
    *("spellings", "wording", "asking", "order", "particulars", "contracted", "goes_on", "aligned", "traits"),
)

parts = st.lists(st.sampled_from(READ), max_size=8)


def assert_same(found: Reading, made: Reading) -> None:
    for name in READ:
        assert getattr(found, name) == getattr(made, name), name
    for name in ("directions", "opposed", "prefixed", "denied", "forms"):
        assert getattr(found.traits, name) == getattr(made.traits, name), name


@settings(max_examples=examples(60, 2_000))
@given(st.sampled_from(TEXTS), parts, parts)
def test_whatever_was_read_before_all_that_is_read_after_is_the_same(
    text: str, read_before: list[str], of_core: list[str]
) -> None:
    before = read(text)
    for name in read_before:
        getattr(before, name)
    for name in of_core:
        getattr(before.core, name)
    made = expanded(condensed(before))
    assert_same(made, read(text))
    assert_same(made.core, read(text).core)


@pytest.mark.parametrize("text", TEXTS[:-1])
def test_guards_say_of_it_what_they_say_of_the_reading(text: str) -> None:
    rows = [read(each) for each in TEXTS]
    said = [proposal_refusal(read(text), [row], aliases=20) for row in rows]
    again = [expanded(condensed(row)) for row in rows]
    assert [proposal_refusal(read(text), [row], aliases=20) for row in again] == said


def test_it_is_complete_when_all_that_it_may_keep_was_read() -> None:
    for text in TEXTS:
        found = read(text)
        assert not is_complete(condensed(found))
        for each in (found, found.core):
            for name in READ:
                getattr(each, name)
        assert is_complete(condensed(found))


def test_it_does_not_change_with_what_is_read_of_the_reading_made_of_it() -> None:
    kept = condensed(read(TEXTS[0]))
    before = repr(kept)
    assert_same(expanded(kept), read(TEXTS[0]))
    assert repr(kept) == before
