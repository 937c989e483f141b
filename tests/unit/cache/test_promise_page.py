"""What docs/cache.md and docs/cache-guide.md reckon of the budget of wrong answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cache.matching.risk_budget import RiskBudget
from services.cache.matching.risk_model import EVIDENCE_MIN, FLOOR

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = " ".join((DOCS / "cache.md").read_text().split())
GUIDE = " ".join((DOCS / "cache-guide.md").read_text().split())
LIMIT = 0.005
ROWS = re.findall(r"\| ([\d,]+) \| ([\d.]+) \| (\.\d+) % \|", PAGE)


def first_served(limit: float) -> int:
    """The first lookup that may be served at all, with nothing booked before."""
    budget, lookups = RiskBudget(limit), 0
    while not budget.allows(FLOOR):
        budget.count_lookup(spent=0.0)
        lookups += 1
    return lookups


def test_the_first_lookups_that_nothing_is_served_in_are_as_many_as_both_pages_say() -> None:
    first, one, two = (first_served(limit) for limit in (LIMIT, 0.01, 0.02))
    assert f"the first {first - 1} (at 1 % the first {one - 1}, at 2 % {two - 1})" in PAGE
    assert f"before {EVIDENCE_MIN} answers were compared" in GUIDE
    assert f"in its first {first - 1} lookups by meaning** (at 1 % {one - 1}, at 2 % {two - 1};" in GUIDE


def test_there_are_four_rows_of_what_may_be_booked() -> None:
    assert len(ROWS) == 4


@pytest.mark.parametrize(("lookups", "booked", "percent"), ROWS)
def test_what_may_be_booked_is_what_the_budget_allows(lookups: str, booked: str, percent: str) -> None:
    budget = RiskBudget(LIMIT)
    budget.lookups = count = float(lookups.replace(",", ""))
    assert budget.allows(float(booked) - 0.05)
    assert not budget.allows(float(booked) + 0.05)
    assert abs(float(percent) - 100.0 * float(booked) / count) <= 0.0051
