"""What availability may cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.retry_budget import SAVED_CALLS_MAX, RetryBudget
from spillway.settings import RetryBudget as RetryBudgetSettings


def budget(share: float = 0.1, calls_min: int = 10) -> RetryBudget:
    return RetryBudget(RetryBudgetSettings(share=share, calls_min=calls_min))


def taken(subject: RetryBudget, most: int = 10_000) -> int:
    return next((count for count in range(most) if not subject.take()), most)


def test_a_start_has_its_reserve_and_no_more() -> None:
    assert taken(budget(calls_min=10)) == 10
    assert taken(budget(calls_min=0)) == 0


def test_ten_answers_are_worth_one_further_call() -> None:
    subject = budget(calls_min=0)
    for _ in range(9):
        subject.earn()
    assert not subject.take()
    subject.earn()
    assert subject.take()


def test_a_fallback_that_answers_costs_nothing_however_often() -> None:
    subject = budget(calls_min=1)
    for _ in range(10_000):
        assert subject.take()
        subject.give_back()
    assert subject.calls_left == pytest.approx(1.0)


def test_savings_are_bounded() -> None:
    subject = budget(calls_min=5)
    for _ in range(100_000):
        subject.earn()
    assert taken(subject) == 5 + SAVED_CALLS_MAX


@given(st.lists(st.sampled_from(["take", "earn", "fail"]), max_size=300), st.integers(0, 20), st.floats(0.0, 1.0))
def test_no_more_is_wasted_than_was_there_and_earned(events: list[str], calls_min: int, share: float) -> None:
    subject = budget(share, calls_min)
    wasted = earned = 0
    for event in events:
        if event == "earn":
            subject.earn()
            earned += 1
        elif subject.take():
            if event == "take":
                subject.give_back()
            else:
                wasted += 1
    assert wasted <= calls_min + share * earned + 1e-6
    assert 0.0 <= subject.calls_left <= calls_min + SAVED_CALLS_MAX
