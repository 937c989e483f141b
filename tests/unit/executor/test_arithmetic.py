"""Sums written in an answer are read and checked; what is no plain sum is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.gates.arithmetic import TEXT_CHARS_MAX, Sums, check_sums


@pytest.mark.parametrize(
    "text",
    [
        "3 x 60 = 180",
        "<<3*60=180>>",
        "3 sprints * 60 meters/sprint = 180 meters",
        "$40,000 × 1.4 = $56,000",
        r"40{,}000 \times 1.4 = 56{,}000",
        r"12 \\div 4 = 3",
        "30% of 200 = 60",
        "15% + 20% = 35%",
        "5 + 3 * 2 = 11",
        "8 - 3 - 1 = 4",
        "7 - 10 = -3",
        "2 + 3 = 05",
    ],
)
def test_a_right_sum_is_read_as_right(text: str) -> None:
    assert check_sums(text) == Sums(read=1)


@pytest.mark.parametrize("text", ["2 + 2 = 5", "5 + 3 * 2 = 16", "30% of 200 = 50", "7 - 10 = 3", "10 / 4 = 2"])
def test_a_wrong_sum_is_read_as_wrong(text: str) -> None:
    assert check_sums(text) == Sums(read=1, wrong=1)


def test_a_result_rounded_to_the_digits_shown_is_right() -> None:
    assert check_sums("40000 / 1.3 = 30769.23") == Sums(read=1, fractional=1)
    assert check_sums("40000 / 1.3 = 30769") == Sums(read=1)
    assert check_sums("10 / 3 = 3.34") == Sums(read=1, wrong=1, fractional=1)


def test_a_chain_of_sums_goes_on_from_each_result() -> None:
    assert check_sums("2 + 3 = 5 * 4 = 20 - 1 = 18") == Sums(read=3, wrong=1)


@pytest.mark.parametrize(
    "text", ["x = 5", "2^3 = 8", "(2 + 3) * 4 = 20", "1 / 0 = 7", "f(2) = 4", "3 and 4 = 7", "2 + = 3", "3 == 3", ""]
)
def test_what_is_no_plain_sum_is_not_counted(text: str) -> None:
    assert check_sums(text) == Sums()


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert check_sums("1 + 1 = 3 " + " " * TEXT_CHARS_MAX + "1 + 1 = 2") == Sums(read=1)


@given(st.text(alphabet=st.sampled_from(list("0123456789.,+-*/=x% a\\{}$<>\n(")), max_size=200))
def test_any_text_gives_consistent_counts(text: str) -> None:
    found = check_sums(text)
    assert 0 <= found.wrong <= found.read
    assert 0 <= found.fractional <= found.read


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from("+-*"))
def test_every_whole_sum_is_judged_as_arithmetic_does(one: int, two: int, operator: str) -> None:
    result = {"+": one + two, "-": one - two, "*": one * two}[operator]
    assert check_sums(f"{one} {operator} {two} = {result}") == Sums(read=1)
    assert check_sums(f"{one} {operator} {two} = {result + 1}") == Sums(read=1, wrong=1)
