"""What an execution has made and spent."""

from __future__ import annotations

import pytest

from services.executor.attempts import Attempts
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.tab import Tab
from spillway.routing import AttemptPurpose, PlannedTier
from tests.unit.executor.builders import Bench

TIER = PlannedTier("simple", ("a1", "a2"))


def tab(cost_nanousd_max: int | None = None) -> Tab:
    bench = Bench({})
    attempts = Attempts({"p": bench.provider}, bench.pool, bench.clock)
    return Tab(attempts, bench.pool, bench.clock, {"a1": 10, "a2": 10}, cost_nanousd_max)


def test_calls_under_way_count_with_their_estimates_and_ended_ones_with_their_cost() -> None:
    subject = tab(30)
    first = subject.begin(TIER, "a1")
    second = subject.begin(TIER, "a2", AttemptPurpose.JUDGE, 5)
    assert [subject.affords(15), subject.affords(16)] == [True, False]
    second.ended_at_ns, second.cost_nanousd = 1, 12
    assert [subject.affords(8), subject.affords(9)] == [True, False]
    first.ended_at_ns = 1
    assert subject.affords(18)
    assert subject.cost_nanousd == 12


def test_without_a_ceiling_everything_can_be_afforded() -> None:
    assert tab().affords(10**18)


@pytest.mark.parametrize(("reason", "is_down"), [("BREAKER_OPEN", True), ("COST_CEILING", False)])
def test_a_target_that_was_too_dear_is_not_down(reason: str, is_down: bool) -> None:
    subject = tab()
    subject.skip(TIER, "a1", reason)
    assert subject.is_down("a1") is is_down
    assert not subject.is_down("a2")


def test_a_target_that_failed_is_down() -> None:
    subject = tab()
    attempt = subject.begin(TIER, "a1")
    assert not subject.is_down("a1")
    attempt.failure = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
    assert subject.is_down("a1")
    assert subject.number(attempt) == 0
