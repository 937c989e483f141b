"""What is a contrary, what is none, and which question of the same answer clears one."""

from __future__ import annotations

import pytest

from services.cache.matching.contraries import clears, hard_differences, reverses
from services.cache.matching.differences import certain_difference, exchanged_content
from services.cache.matching.proposal_guard import LIFTABLE
from services.cache.matching.reading import read
from tests.support.cache_parts import refused_by

CLEARED = [
    ("is my card not working", "is my card working", "is this card still not working", "is my card here"),
    ("the heater is turned off", "the heater is turned on", "my heater was turned off", "my heater was turned"),
    ("was I charged 2 times", "was I charged 3 times", "was I just charged 2 times", "was I just charged"),
    ("my second card came", "my first card came", "the second card came now", "the card came now"),
    ("I sent it from Oslo", "I sent it to Oslo", "sent from Oslo now", "sent Oslo now"),
    ("my account is unverified", "my account is verified", "why is this account unverified", "why is this account"),
]


@pytest.mark.parametrize(("asked", "against", "by", "less"), CLEARED)
def test_a_contrary_is_cleared_by_a_question_of_the_answer_with_the_very_words_and_by_none_that_says_less(
    asked: str, against: str, by: str, less: str
) -> None:
    assert clears(read(asked), read(against), read(by))
    assert refused_by(asked, against) not in ("", *LIFTABLE)
    assert refused_by(asked, against, less) not in ("", *LIFTABLE)
    assert refused_by(asked, against, by) == ""


@pytest.mark.parametrize(
    ("asked", "against", "more"),
    [
        ("turn off lamp 1", "turn on lamp 1", "turn off lamp 1, answer for the opposite of that"),
        (
            "How do I disable dark mode?",
            "How do I enable dark mode?",
            "How do I disable dark mode, explain the reverse",
        ),
        ("status of order 4711", "status of order 4710", "status of order 4711, take the preceding one"),
        ("status of order 4711", "status of order 4710", "status of order 4711, rounded down"),
        ("my account is unverified", "my account is verified", "my account is unverified, a sarcastic remark"),
    ],
)
def test_a_question_that_says_more_than_the_asked_one_clears_nothing(asked: str, against: str, more: str) -> None:
    assert not clears(read(asked), read(against), read(more))
    assert refused_by(asked, against, more) not in ("", *LIFTABLE)


def test_one_that_differs_itself_clears_nothing() -> None:
    assert refused_by("turn off lamp 1", "turn on lamp 1", "turn off lamp 2") not in ("", *LIFTABLE)
    assert refused_by("turn off lamp 1", "turn on lamp 1", "how do I turn off lamp 1") == ""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("the rate is not correct", "the rate is incorrect"),
        ("I am unable to log in", "I am not able to log in"),
        ("I can not remember my code", "I forget my code"),
        ("is a tomato a fruit or not", "is a tomato a fruit"),
        ("how many days does a transfer take", "how long does a transfer take"),
        ("my transfer has been waiting for a week", "my transfer has been waiting"),
        ("is there only one way to pay", "is there one way to pay"),
        ("a wrong rate in my statement", "I got cash out at a wrong rate"),
    ],
)
def test_what_is_denied_twice_or_only_said_more_closely_is_no_contrary(a: str, b: str) -> None:
    assert not hard_differences(read(a), read(b))
    assert not hard_differences(read(b), read(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("the rate is not incorrect", "the rate is incorrect"),
        ("days at sea", "nights at sea"),
        ("pay by the day", "pay by the night"),
        ("minutes in a day", "minutes in a week"),
        ("I was the only one", "I was one"),
        ("foods that are safe for old dogs", "foods that are not safe for old dogs"),
        ("I do not know how not to pay", "I do not know how to pay"),
        ("is my name on it", "is your name on it"),
    ],
)
def test_a_denial_or_a_span_in_anothers_place_stays_a_contrary(a: str, b: str) -> None:
    assert certain_difference(read(a), read(b)) or exchanged_content(read(a), read(b))
    assert certain_difference(read(b), read(a)) or exchanged_content(read(b), read(a))


def test_beside_an_opposite_one_more_word_of_each_is_nearly_turned_round() -> None:
    assert reverses(read("turn off the hall lamp"), read("turn on the kitchen lamp"))
    assert not reverses(read("who sings the hall song"), read("who sang the kitchen song"))
    assert not reverses(read("my order 7 from the kitchen shop"), read("my order 8 from the garden shop"))
