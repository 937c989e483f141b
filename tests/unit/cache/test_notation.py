"""Figures and words that are written in several ways, in one."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.matching.proposal_guard import kind_of, proposal_refusal
from services.cache.matching.reading import read
from tests.support.hypothesis_profiles import examples


def written(text: str) -> str:
    return " ".join(read(text).core.normal.split())


@pytest.mark.parametrize(
    "ways",
    [
        ("the sixteenth president", "the 16th president"),
        ("the twenty-first century", "the 21st century"),
        ("a litre of milk", "1 litre of milk", "one liter of milk"),
        ("3 mg", "3mg", "three mg"),
        ("10k people", "10,000 people", "ten thousand people", "10 thousand people"),
        ("two million", "2 million", "2,000,000"),
        ("one hundred and five", "105", "a hundred and five"),
        ("twenty-one days", "21 days"),
        ("a two-room flat", "a 2-room flat", "a 2 room flat"),
        ("€800", "800 euros", "800€", "eight hundred euros", "800 EUR"),
        ("$64", "64 dollars", "64 USD", "sixty-four bucks"),
        ("at 2 p.m.", "at 2pm", "at 14:00", "at two in the afternoon"),
        ("at 9 am", "at 09:00", "at nine in the morning"),
        ("at noon", "at 12:00", "at 12 pm"),
        ("half an hour", "30 minutes", "a half hour", "thirty minutes"),
        ("an hour and a half", "90 minutes", "1.5 hours", "one and a half hours"),
        ("the 1st of May", "May 1", "1 May", "May 1st", "the first of May"),
        ("31 March", "31st of March", "March 31", "31 Mar"),
        ("May 1, 2020", "1 May 2020", "1st of May 2020"),
        ("15%", "15 %", "15 percent", "15 per cent"),
        ("200 °C", "200°C", "200 degrees Celsius", "200 celsius"),
        ("in km/h", "in kph", "in kilometres per hour"),
        ("100 m", "100 metres", "100 meters"),
        ("12 eggs", "a dozen eggs", "twelve eggs"),
        ("twice a day", "two times a day", "2 times a day"),
        ("What is 2+2", "What is 2 + 2"),
        ("What is 2 * 3", "What is 2 × 3", "What is 2·3"),
        ("What is 8-3", "What is 8 - 3"),
        ("at most 3 players", "no more than three players", "3 or fewer players", "up to 3 players"),
        ("more than 2 players", "at least 3 players", "three or more players", "no fewer than 3 players"),
        ("on Wed", "on Wednesday"),
        ("the US", "the USA", "the U.S.", "the United States of America"),
        ("What colour is the theatre?", "What color is the theater?"),
        ("How do I organise it?", "How do I organize it?"),
        ("my e-mail", "my email"),
    ],
)
def test_all_ways_to_write_it_are_one(ways: tuple[str, ...]) -> None:
    assert {written(way) for way in ways} == {written(ways[0])}


@pytest.mark.parametrize(
    "ways",
    [
        ("What is 2 + 3 * 4", "What is (2 + 3) * 4", "What is 2 * 3 + 4", "What is 2 + 3 ** 4"),
        ("x = 2 * (y + 1)", "x = (2 * y) + 1"),
        ("at 2 am", "at 2 pm", "at 14:30"),
        ("£5", "5 lb", "$5", "€5"),
        ("16 players", "60 players", "6 players", "16th players"),
        ("1 May", "1 March", "2 May"),
        ("5 m", "5 km", "5 min", "5 mg"),
        ("3-5 pages", "5-3 pages", "35 pages"),
        ("20 °C", "20 °F"),
        ("at least 3", "at most 3", "more than 3"),
        ("two hundred", "two thousand", "twelve hundred"),
        ("type 1 diabetes", "type 2 diabetes", "type diabetes"),
        ("a T480", "a T480s"),
        ("for us", "for the US"),
        ("4K", "4,000"),
    ],
)
def test_different_figures_stay_different(ways: tuple[str, ...]) -> None:
    for a, b in combinations(ways, 2):
        assert written(a) != written(b)


@pytest.mark.parametrize(
    "text",
    ["one of them", "Does one tip?", "order 77-40318", "CVE-2021-44228", "Formula 1", "version 3.10", "24/7", "a T480s",
     "a second hand shop", "exercise and advise", "the W-9 form", "1 to 1", "-p 8080"],
)  # fmt: skip
def test_names_and_pronouns_are_no_figures(text: str) -> None:
    assert written(text) == text


@settings(max_examples=examples(80, 5_000))
@given(st.lists(st.sampled_from(
    ["two", "hundred", "and", "third", "2", "10k", "May", "am", "p.m.", "half", "an", "hour", "one", "or", "more",
     "than", "$5", "%", "-", "*", "(", "3)", "US", "colour", "12:30", "°C", "1st", "of", "at", "million", "¾", "no",
     "٣", "1.2.3", "9" * 5000, "- - - ("]
), max_size=9))  # fmt: skip
def test_whatever_is_written_has_one_notation(words: list[str]) -> None:
    once = written(" ".join(words))
    assert written(" ".join(words)) == once


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Who was the sixteenth king?", "Who was the 16th king?"),
        ("What does a litre of milk weigh?", "What does 1 litre of milk weigh?"),
        ("How many people live in the US?", "How many people live in the USA?"),
        ("What is the oven temperature in Celsius?", "What's the oven temperature in °C?"),
        ("How do you play whist with three players?", "How is whist played with 3 players?"),
        ("Who invented grey paint?", "Who invented gray paint?"),
        ("What happens if you pour oil into fire?", "What happens when oil is poured into fire?"),
        ("What happens if the ice melts?", "What would happen if the ice melted?"),
        ("Why do dogs chase cats?", "Why is it that dogs chase cats?"),
        ("Who beat Anna at chess?", "Who was it that beat Anna at chess?"),
        ("What type of soil do ferns need?", "What kind of soil do ferns need?"),
        ("What does `tar -x dir/` do?", "What does tar -x dir/ do?"),
    ],
)
def test_a_question_in_another_notation_is_served_both_ways(a: str, b: str) -> None:
    assert kind_of(proposal_refusal(read(a), [read(b)], aliases=1)) == ""
    assert kind_of(proposal_refusal(read(b), [read(a)], aliases=1)) == ""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What does `tar -x dir/` do?", "What does tar -x dir / do?"),
        ("Who wrote 'It'?", "Who wrote it?"),
        ("What does `rm A` do?", "What does rm a do?"),
        ("What does 'over the moon' mean?", "What does 'under the moon' mean?"),
    ],
)
def test_what_is_quoted_is_the_same_without_quotes_only_where_it_is_the_same_to_the_letter(a: str, b: str) -> None:
    assert kind_of(proposal_refusal(read(a), [read(b)], aliases=1)) != ""
    assert kind_of(proposal_refusal(read(b), [read(a)], aliases=1)) != ""
