"""What an execution has made and spent."""

from __future__ import annotations

import pytest

from services.executor.attempts import Attempts
from services.executor.ceiling import Grant
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.tab import Tab
from spillway.routing import AttemptPurpose, PlannedTier
from tests.unit.executor.builders import Bench, chat

TIER = PlannedTier("simple", ("a1", "a2"))


def tab(cost_nanousd_max: int | None = None) -> Tab:
    bench = Bench({})
    attempts = Attempts({"p": bench.provider}, bench.pool, bench.clock)
    return Tab(attempts, bench.pool, bench.clock, {"a1": 10, "a2": 10}, cost_nanousd_max)


def test_calls_under_way_count_with_what_they_were_granted_and_ended_ones_with_their_cost() -> None:
    subject = tab(30)
    first = subject.begin(TIER, "a1", Grant(chat(), 10))
    second = subject.begin(TIER, "a2", Grant(chat(), 5), AttemptPurpose.JUDGE)
    assert subject.left_nanousd == 15
    second.ended_at_ns, second.cost_nanousd = 1, 12
    assert subject.left_nanousd == 8
    first.ended_at_ns = 1
    assert subject.left_nanousd == 18
    assert subject.cost_nanousd == 12


def test_without_a_ceiling_a_call_is_sent_as_it_is() -> None:
    subject = tab()
    assert subject.left_nanousd is None
    granted = subject.offer("a1", chat())
    assert granted is not None
    assert (granted.chat, granted.most) == (chat(), None)


def test_a_call_leaves_as_much_for_each_that_is_to_be_called_beside_it_if_it_can() -> None:
    subject = tab(6_000_000)
    alone, shared, poor = subject.offer("a1", chat()), subject.offer("a1", chat(), 2), subject.offer("a1", chat(), 9)
    assert alone is not None
    assert 5_990_000 < alone.nanousd <= 6_000_000
    assert shared is not None
    assert 1_990_000 < shared.nanousd <= 2_000_000
    assert poor == alone, "a share would pay for no answer"


@pytest.mark.parametrize(("reason", "is_down"), [("BREAKER_OPEN", True), ("COST_CEILING", False)])
def test_a_target_that_was_too_dear_is_not_down(reason: str, is_down: bool) -> None:
    subject = tab()
    subject.skip(TIER, "a1", reason)
    assert subject.is_down("a1") is is_down
    assert not subject.is_down("a2")


def test_a_target_that_failed_is_down() -> None:
    subject = tab()
    attempt = subject.begin(TIER, "a1", Grant(chat(), 10))
    assert not subject.is_down("a1")
    attempt.failure = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
    assert subject.is_down("a1")
    assert subject.number(attempt) == 0
