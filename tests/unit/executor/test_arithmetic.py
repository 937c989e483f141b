"""Sums written in an answer are read and checked; what is no plain sum is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.gates.arithmetic import RESULTS_MAX, TEXT_CHARS_MAX, check_sums


def counts(text: str) -> tuple[int, int, int]:
    """Sums read, wrong, with a result that is not whole."""
    found = check_sums(text)
    return found.read, found.wrong, found.fractional


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
    assert counts(text) == (1, 0, 0)


@pytest.mark.parametrize("text", ["2 + 2 = 5", "5 + 3 * 2 = 16", "30% of 200 = 50", "7 - 10 = 3", "10 / 4 = 2"])
def test_a_wrong_sum_is_read_as_wrong(text: str) -> None:
    assert counts(text) == (1, 1, 0)


def test_a_result_rounded_to_the_digits_shown_is_right() -> None:
    assert counts("40000 / 1.3 = 30769.23") == (1, 0, 1)
    assert counts("40000 / 1.3 = 30769") == (1, 0, 0)
    assert counts("10 / 3 = 3.34") == (1, 1, 1)


def test_a_chain_of_sums_goes_on_from_each_result() -> None:
    assert counts("2 + 3 = 5 * 4 = 20 - 1 = 18") == (3, 1, 0)


@pytest.mark.parametrize(
    "text", ["x = 5", "2^3 = 8", "(2 + 3) * 4 = 20", "1 / 0 = 7", "f(2) = 4", "3 and 4 = 7", "2 + = 3", "3 == 3", ""]
)
def test_what_is_no_plain_sum_is_not_counted(text: str) -> None:
    assert counts(text) == (0, 0, 0)


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert counts("1 + 1 = 3 " + " " * TEXT_CHARS_MAX + "1 + 1 = 2") == (1, 0, 0)


@given(st.text(alphabet=st.sampled_from(list("0123456789.,+-*/=x% a\\{}$<>\n(")), max_size=200))
def test_any_text_gives_consistent_counts(text: str) -> None:
    found = check_sums(text)
    assert 0 <= found.wrong <= found.read
    assert 0 <= found.fractional <= found.read


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from("+-*"))
def test_every_whole_sum_is_judged_as_arithmetic_does(one: int, two: int, operator: str) -> None:
    result = {"+": one + two, "-": one - two, "*": one * two}[operator]
    assert counts(f"{one} {operator} {two} = {result}") == (1, 0, 0)
    assert counts(f"{one} {operator} {two} = {result + 1}") == (1, 1, 0)


def test_results_and_kinds_of_sums_are_kept() -> None:
    found = check_sums("2 * 3 = 6, 6 / 4 = 1.5, 1.5 + 1 = 2.5, 1 - 4 = -3")
    assert (found.products, found.quotients) == (1, 1)
    assert found.results == (6.0, 1.5, 2.5, -3.0)
    assert len(check_sums("1 + 1 = 2\n" * (RESULTS_MAX + 5)).results) == RESULTS_MAX
