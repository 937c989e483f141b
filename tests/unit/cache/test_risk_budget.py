"""The bar of the budget of wrong answers."""

from __future__ import annotations

import pytest

from services.cache.matching.risk_budget import BAR_MAX, RiskBudget


@pytest.mark.parametrize(("limit", "bar_max"), [(0.005, BAR_MAX), (0.3, 0.3)])
def test_a_slack_budget_buys_no_single_bad_answer(limit: float, bar_max: float) -> None:
    budget = RiskBudget(limit)
    for place in range(30_000):
        budget.seen(0.9 if place % 1_000 == 0 else 0.0005)
        budget.count_lookup(spent=budget.booked)
    assert 0.0005 <= budget.bar <= bar_max


def test_without_a_budget_left_nothing_is_served() -> None:
    budget = RiskBudget(0.005)
    budget.seen(0.01)
    budget.book(50.0)
    budget.count_lookup(spent=budget.booked)
    assert budget.bar == 0.0
