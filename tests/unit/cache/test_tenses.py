"""Of which time a question asks."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from services.cache.matching.proposal_guard import LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.reading import read
from services.cache.matching.tenses import tense_of, tenses_differ

PAST = ("What did they mend?", "What have they mended?", "Who mended it?", "Who used to mend it?", "Who has mended it?",
        "Had they mended it?", "Which team sold it?", "I will pay. Did you mend it?")  # fmt: skip
PRESENT = ("What do they mend?", "Does she mend it?", "What do they have to mend?", "Who has to mend it?")
FUTURE = ("What will they mend?", "What are they going to mend?", "Who's about to mend it?", "Won't they mend it?",
          "I paid. When will you mend it?")  # fmt: skip


def tense(text: str) -> str:
    return tense_of(text, read(text).words)


def refusal(asked: str, stored: str) -> str:
    return kind_of(proposal_refusal(read(asked), [read(stored)], aliases=1))


def test_what_was_is_told_from_what_is_and_what_will_be() -> None:
    for past, other in product(PAST, PRESENT + FUTURE):
        if tense(past) != "then":
            assert tenses_differ(tense(past), tense(other)), (past, other)
            assert tenses_differ(tense(other), tense(past)), (other, past)


def test_what_is_may_be_what_will_be_and_what_was_done_has_been_done() -> None:
    for time in (PAST, PRESENT + FUTURE):
        for a, b in combinations(time, 2):
            assert not tenses_differ(tense(a), tense(b)), (a, b)


@pytest.mark.parametrize(
    "text",
    [
        "Are they going to the beach?",
        "Is he going to Rome by train?",
        "Which used cars sell?",
    ],
)
def test_where_somebody_goes_and_what_is_used_is_no_tense(text: str) -> None:
    assert tense(text) not in ("past", "then") + (() if "Rome" in text else ("future",))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What has the firm done about the leak?", "What is the firm going to do about the leak?"),
        ("Has the bank opened?", "Is the bank going to open?"),
        ("Who has won the race?", "Who is going to win the race?"),
        ("Who owned the bar?", "Who owns the bar?"),
        ("How have prices changed?", "How will prices change?"),
        ("Who is king of Spain?", "Who was king of Spain?"),
        ("How much was the fare?", "How much is the fare?"),
        ("What happened to the bridge?", "What will happen to the bridge?"),
    ],
)
def test_a_question_of_another_time_is_refused_both_ways_and_never_lifted(a: str, b: str) -> None:
    assert refusal(a, b) not in ("", *LIFTABLE)
    assert refusal(b, a) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Did my payment go through?", "Has my payment gone through?"),
        ("Did they fix the road?", "Have they fixed the road?"),
        ("What did the firm do about the leak?", "What has the firm done about the leak?"),
        ("Who won the race?", "Who has won the race?"),
        ("Who will win the race?", "Who is going to win the race?"),
        ("What was the cause of the fire?", "What is the cause of the fire?"),
        ("Who was the 16th king of Spain?", "Who is the 16th king of Spain?"),
    ],
)
def test_the_same_time_in_another_tense_is_served_both_ways(a: str, b: str) -> None:
    assert refusal(a, b) == ""
    assert refusal(b, a) == ""
