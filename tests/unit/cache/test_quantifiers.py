"""Of how much or how many it is asked, and in which degree: each of one class of words against each of another."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from services.cache.matching.proposal_guard import LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.quantifiers import quantifies_otherwise, quantities_in, restricts
from services.cache.matching.reading import read

AMOUNTS = {
    "all": ("all owls", "every owl", "each owl", "all the owls", "all of my owls", "both owls", "both of the owls"),
    "most": ("most owls", "most of the owls", "the majority of owls"),
    "many": ("many owls", "a lot of owls", "plenty of owls"),
    "some": ("some owls", "several owls", "a few owls", "a couple of owls", "one of the owls", "some of the owls"),
    "few": ("few owls", "hardly any owls"),
    "none": ("none of the owls", "neither owl"),
    "half": ("half of the owls", "half the owls"),
    "only": ("only owls", "solely owls", "nothing but owls"),
    "but": ("all but one owl", "everything except owls"),
    "nearly": ("nearly all owls", "almost every owl"),
}
BOUNDS = {
    "at least": ("at least 3 owls", "3 or more owls", "a minimum of 3 owls", "no fewer than 3 owls"),
    "at most": ("at most 3 owls", "up to 3 owls", "3 or fewer owls", "a maximum of 3 owls", "no more than 3 owls"),
    "more": ("more than 3 owls", "over 3 owls", "above three owls"),
    "less": ("less than 3 owls", "fewer than three owls", "under 3 owls"),
    "exactly": ("exactly 3 owls", "precisely 3 owls", "only 3 owls", "just three owls"),
}
DEGREES = {
    "more": ("more salty lakes",),
    "less": ("less salty lakes",),
    "most": ("the most salty lakes",),
    "least": ("the least salty lakes",),
    "too": ("too salty lakes",),
    "as": ("lakes as salty as Mono",),
    "enough": ("salty enough lakes",),
}


def classes(text: str, *, whether: bool = True) -> frozenset[str]:
    return quantities_in(read(text).plain.split(), whether=whether)


def refusal(asked: str, stored: str) -> str:
    return kind_of(proposal_refusal(read(asked), [read(stored)], aliases=1))


@pytest.mark.parametrize("table", [AMOUNTS, BOUNDS, DEGREES], ids=["amounts", "bounds", "degrees"])
def test_each_of_one_class_is_told_from_each_of_another_both_ways(table: dict[str, tuple[str, ...]]) -> None:
    for one, other in combinations(table, 2):
        for a, b in product(table[one], table[other]):
            assert quantifies_otherwise(classes(a), classes(b)), (a, b)
            assert quantifies_otherwise(classes(b), classes(a)), (b, a)


@pytest.mark.parametrize("table", [AMOUNTS, BOUNDS], ids=["amounts", "bounds"])
def test_two_of_one_class_are_never_told_apart(table: dict[str, tuple[str, ...]]) -> None:
    for members in table.values():
        for a, b in combinations(members, 2):
            assert not quantifies_otherwise(classes(a), classes(b)), (a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Are most spiders dangerous?", "Are some spiders dangerous?"),
        ("Must both parents sign?", "Must at least one parent sign?"),
        ("Do all owls hunt?", "Do any owls hunt?"),
        ("Can I eat before at least 3 hours?", "Can I eat before at most 3 hours?"),
        ("Which birds can swim?", "Which birds can only swim?"),
        ("Are spiders dangerous?", "Are most spiders dangerous?"),
        ("Why do most people sleep?", "Why do some people sleep?"),
        ("Is the tea too hot?", "Is the tea hot enough?"),
        ("Is the tea too hot?", "Is the tea hot?"),
        ("Is Mono a salty lake?", "Is Mono the most salty lake?"),
        ("Which lakes are the most salty?", "Which lakes are the least salty?"),
        ("Is Rome bigger than Oslo?", "Is Rome as big as Oslo?"),
        ("How do I play with 3 players?", "How do I play with at least 3 players?"),
        ("May I eat it on an empty stomach?", "May I eat it on anything but an empty stomach?"),
    ],
)
def test_a_question_that_quantifies_otherwise_is_refused_both_ways_and_never_lifted(a: str, b: str) -> None:
    assert refusal(a, b) not in ("", *LIFTABLE)
    assert refusal(b, a) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I delete all the files?", "How do I delete the files?"),
        ("How do I delete all of my files?", "How do I delete all my files?"),
        ("Is every square a rhombus?", "Is each square a rhombus?"),
        ("Are some owls grey?", "Are any owls grey?"),
        ("What are some good books on owls?", "What are good books on owls?"),
        ("What are useful maps?", "What are the most useful maps?"),
        ("Which games need at most 3 players?", "Which games need no more than 3 players?"),
        ("Which planets have more than one moon?", "Which planets have two or more moons?"),
        ("Which laptops weigh less than a kilo?", "Which laptops weigh under a kilo?"),
    ],
)
def test_the_same_amount_in_other_words_is_served_both_ways(a: str, b: str) -> None:
    assert refusal(a, b) == ""
    assert refusal(b, a) == ""


@pytest.mark.parametrize(
    "text",
    ["How many owls are there?", "I have no owls at all", "as soon as possible", "as well as owls", "each other",
     "every day", "half an hour", "I am up to date", "Is she over it?", "the number of owls"],
)  # fmt: skip
def test_what_only_looks_like_a_quantifier_is_none(text: str) -> None:
    assert classes(text) == frozenset()


def test_any_of_them_is_told_from_all_where_it_is_asked_whether_and_nowhere_else() -> None:
    assert quantifies_otherwise(classes("any owl"), classes("all owls"))
    assert not quantifies_otherwise(classes("any owl", whether=False), classes("all owls", whether=False))


def test_all_some_and_many_in_one_question_alone_restrict_nothing_that_most_or_only_does() -> None:
    assert not any(
        restricts(classes(text), frozenset(), whether=True) for text in ("all the owls", "some owls", "many owls")
    )
    assert all(
        restricts(frozenset(), classes(text), whether=True) for text in ("most owls", "only owls", "half of the owls")
    )
