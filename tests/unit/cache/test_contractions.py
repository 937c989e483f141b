"""What is denied in a contraction is denied in its words."""

from __future__ import annotations

import pytest

from tests.support.cache_parts import refused_by


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("my card does not work", "my card doesn't work"),
        ("my card does not work", "my card doesn\u2019t work"),
        ("my card does not work", "my card doesnt work"),
        ("I can not pay", "I can't pay"),
        ("I cannot pay", "I can't pay"),
        ("why will my card not work", "Why won't my card work?"),
        ("Why can I not log in?", "Why can't I log in?"),
        ("is there not a fee", "Isn't there a fee?"),
        ("it is not the right card", "it isn't the right card"),
        ("what happens if I don't pay", "what happens if I do not pay"),
        ("I am unable to log in", "I'm not able to log in"),
        ("it's late", "it is late"),
        ("I've lost my card", "I have lost my card"),
    ],
)
def test_a_contraction_and_its_words_are_the_same_words(a: str, b: str) -> None:
    assert refused_by(a, b) == refused_by(b, a) == ""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("my card works", "my card doesn't work"),
        ("I can pay", "I can't pay"),
        ("I can pay", "I can not pay"),
        ("why can I log in", "Why can't I log in?"),
        ("I am able to log in", "I am unable to log in"),
        ("what happens if I pay", "what happens if I don't pay"),
        ("Which fish can swim?", "Which fish can\u2019t swim?"),
    ],
)
def test_what_is_denied_in_a_contraction_is_not_what_is_said(a: str, b: str) -> None:
    assert refused_by(a, b) == refused_by(b, a) == "negation"


def test_not_is_nobody_who_acts() -> None:
    assert refused_by("When can not the bank pay?", "When can the bank not pay?") != "actor"
    assert refused_by("When can not I pay?", "When can not the bank pay?") == "actor"
