"""What audits say of what was booked, and how far back."""

from __future__ import annotations

from random import Random

import pytest

from services.cache.matching.risk_audits import RiskAudits


def test_what_the_newest_audits_say_makes_nothing_dearer_that_was_booked_before_them() -> None:
    audits = RiskAudits(0.05, Random(1))
    for place in range(250):
        audits.book(0.05 if place < 200 else 0.01)
        audits.told(wrong=place >= 242, booked=0.05 if place < 200 else 0.01, drawn=True)
    assert audits.tightening > 5.0
    assert 10.5 + 0.4 * (audits.tightening - 1.0) < audits.spent(10.5) < 10.5 + 0.6 * (audits.tightening - 1.0)


def test_while_audits_are_few_they_speak_of_all_that_was_booked() -> None:
    audits = RiskAudits(0.05, Random(1))
    for place in range(20):
        audits.book(0.05)
        audits.told(wrong=place >= 10, booked=0.05, drawn=True)
    assert audits.tightening > 2.0
    assert audits.spent(1.0) == pytest.approx(audits.tightening)
    again = RiskAudits(0.05, Random(1))
    again.restore(audits.counters(), audits.recent)
    assert again.spent(1.0) == audits.spent(1.0)
