"""The same words in another order, or by other auxiliaries: when it is the same question, and when it is not."""

from __future__ import annotations

import pytest

from services.cache.matching.grammar import grammar_differences
from services.cache.matching.proposal_guard import proposal_refusal
from services.cache.matching.reading import read


def differs(a: str, b: str) -> bool:
    found = grammar_differences(read(a), read(b))
    assert found == grammar_differences(read(b), read(a))
    return bool(found)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # the question itself stands behind
        ("make: how do I clean a build?", "How do I clean a build in make?"),
        ("Venus has how many moons?", "How many moons does Venus have?"),
        ("My key is lost, what should I do?", "What should I do if my key is lost?"),
        # what a preposition governs, adverbs, possessors
        ("How do I rotate a log in Linux?", "linux rotate log"),
        ("What is the fee for a late return?", "late return fee"),
        ("What is silver's melting point?", "What is the melting point of silver?"),
        ("How do I align a text vertically in Word?", "How do I vertically align a text in Word?"),
        ("How do I sort names in falling order in Python?", "How do I sort Python names in falling order?"),
        # two sides, predicates
        ("What is the difference between rice and wheat?", "difference between wheat and rice"),
        ("Which road is the shortest to Bern?", "What is the shortest road to Bern?"),
        # the passive voice
        ("Does my plan cover dental care?", "Is dental care covered by my plan?"),
        ("Who invented the zipper?", "By whom was the zipper invented?"),
        ("Who was hired by Tim?", "Who did Tim hire?"),
        ("Is the 1040 form due?", "Is form 1040 due?"),
        ("Who trains a new guide?", "Who is a new guide trained by?"),
        ("Does my union's health fund cover my son?", "Is my son covered by my union's health fund?"),
        # where it is and when, which of several
        ("Is it hot in Lima in June?", "Is it hot in June in Lima?"),
        ("Which river is the second longest in Asia?", "Which is the second longest river in Asia?"),
        # other auxiliaries
        ("How many legs does a crab have?", "How many legs are on a crab?"),
        ("What does the code 17 mean?", "What is the meaning of the code 17?"),
        ("Can I cancel a booking?", "Is it possible to cancel a booking?"),
        ("Why does my phone drain fast?", "Why is my phone draining fast?"),
        ("Who wrote the play?", "The play was written by whom?"),
        ("Is the bill already paid?", "Has the bill already been paid?"),
        ("Which papers do I need for a visa?", "Which papers are needed for a visa?"),
        # capitals
        ("How do I reload my YouTube channel page?", "How do I reload my youtube channel page?"),
        ("How do I sign a file with GPG?", "how do i sign a file with gpg key"),
        ("Move contacts from Outlook to Gmail", "move contacts from outlook to gmail"),
    ],
)
def test_another_way_to_say_the_same_is_no_difference(a: str, b: str) -> None:
    assert not differs(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Who did Tim hire?", "Who hired Tim?"),
        ("Who was hired by Tim?", "Who hired Tim?"),
        ("Who was Tim hired by?", "Who did Tim hire?"),
        ("Which river is the longest in the second state?", "Which is the second longest river in the state?"),
        ("Does my son help Ann?", "Is my son helped by Ann?"),
        ("What can I do in Peru that I cannot do in Chile?", "What can I do in Chile that I cannot do in Peru?"),
        ("Does the dog bite the man?", "Does the man bite the dog?"),
        ("Is rice better than wheat?", "Is wheat better than rice?"),
        ("What do tigers find odd in lions?", "What do lions find odd in tigers?"),
        ("How do I use Python in Excel?", "How do I use Excel in Python?"),
        ("Can the mayor change the town?", "Is the mayor changing the town?"),
        ("Is it possible to lose weight in winter?", "How can I lose weight in winter?"),
        ("How much is 5 Gb of my data plan?", "How much is 5 GB of my data plan?"),
        ("Where do I meet a Pole in town?", "Where do I meet a pole in town?"),
        ("flights from Rome to Oslo", "flights to Rome from Oslo"),
        ("What do I owe you?", "What do you owe me?"),
        ("In 1984, was Spain beaten by France?", "In 1984, has Spain beaten France?"),
        ("How do I use Excel in Python in batch mode?", "How do I use Python in Excel in batch mode?"),
        ("What are cats like?", "What do cats like?"),
        ("Did the plan cover teeth?", "Will the plan cover teeth?"),
        ("How do I delete row 5 in Excel?", "How do I delete 5 rows in Excel?"),
        ("How do I print page 2?", "How do I print 2 pages?"),
        ("Summarize chapter 4 of Dune", "Summarize 4 chapters of Dune"),
        ("Read me 10 verses of the psalm", "Read me verse 10 of the psalm"),
        ("Show line 1000 of the log", "Show 1000 lines of the log"),
        ("Plan the day 3 trip", "Plan the 3 day trip"),
    ],
)
def test_another_part_to_play_is_a_difference(a: str, b: str) -> None:
    assert differs(a, b)


@pytest.mark.parametrize(
    "text", ["quick question: how do I open it? thank you", "Hello, could you tell me how do I open it? Thanks"]
)
def test_courtesies_are_no_part_of_a_question(text: str) -> None:
    assert not differs(text, "how do I open it")


def test_courtesies_of_stored_questions_hide_no_difference() -> None:
    rows = [
        read(text) for text in ("Quick question: can I freeze cooked rice?", "excuse me, can I freeze cooked rice?")
    ]
    assert proposal_refusal(read("Can I cook frozen rice?"), rows, aliases=2)


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("Quick question: how do I pay? thank you", "how do I pay?"),
        ("Hello. Please tell me .NET prices", ".NET prices"),
        ("Hi, 5 eggs cost how much", "5 eggs cost how much"),
        ("How do I pay? Thank you 5", "How do I pay? Thank you 5"),
        ("tell 5 me how", "tell 5 me how"),
        ("please", "please"),
        ("", ""),
    ],
)
def test_with_a_courtesy_nothing_else_is_cut(text: str, core: str) -> None:
    assert read(text).core.exact == core
