"""What the executor counts, and that no label comes from outside its set."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.breaker import CallResult
from services.executor.lease import Lease
from services.executor.metrics import ExecutorMetrics
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from spillway.chat import Usage
from spillway.routing import GateVerdict, Plan, PlannedTier, SelfConfidenceSpec, Verdict
from tests.support.metric_points import Meters, Points
from tests.unit.executor.builders import DOWN, Bench, chat, settings


class Counted(Meters):
    """The metrics of a pool, and what they have come to."""

    def __init__(self, pool: TargetPool) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.metrics = ExecutorMetrics(self.meter, pool, self.clock)


def of(points: Points, target: str) -> Any:
    return next(value for labels, value in points if labels["target"] == target)


async def test_every_attempt_counts_once_with_its_end() -> None:
    bench = Bench({"a1": [DOWN], "a2": ["41\nCONFIDENCE: 1"], "c1": ["42"]})
    counted = Counted(bench.pool)
    bench.executor._attempts._metrics = counted.metrics
    tiers = (PlannedTier("simple", ("a1", "a2"), (SelfConfidenceSpec(),)), PlannedTier("complex", ("c1",)))
    execution = await bench.executor.execute(chat(), Plan(tiers), None, 60.0)
    assert execution.accepted
    points = counted.points("spillway.attempts")
    assert sorted((p["tier"], p["target"], p["outcome"], value) for p, value in points) == [
        ("complex", "c1", "accepted", 1),
        ("simple", "a1", "error", 1),
        ("simple", "a2", "rejected", 1),
    ]


async def test_what_was_not_called_counts_as_skipped() -> None:
    bench = Bench({"a2": ["42"]})
    counted = Counted(bench.pool)
    bench.executor._attempts._metrics = counted.metrics
    bench.pool.opened_by_peer("a1", "p", 60.0, bench.clock.monotonic())
    await bench.executor.execute(chat(), Plan((PlannedTier("simple", ("a1", "a2")),)), None, 60.0)
    outcomes = {labels["target"]: labels["outcome"] for labels, _ in counted.points("spillway.attempts")}
    assert outcomes == {"a1": "skipped", "a2": "accepted"}


def test_a_tier_that_is_not_configured_is_other() -> None:
    counted = Counted(TargetPool(settings(), random=lambda: 0.5))
    counted.metrics.attempt("made up by a stranger", "a1", "accepted")
    assert counted.points("spillway.attempts")[0][0]["tier"] == "other"


def test_states_calls_under_way_and_the_budget_are_shown_as_they_are() -> None:
    pool = TargetPool(settings(breaker={"calls_min": 1}), random=lambda: 0.5)
    counted = Counted(pool)
    lease = pool.take("a1", 0.0)
    assert isinstance(lease, Lease)
    assert of(counted.points("spillway.in_flight"), "a1") == 1
    assert {value for _, value in counted.points("spillway.breaker.state")} == {0}
    pool.give_back(lease, CallResult.FAILURE, 0.0)
    assert of(counted.points("spillway.in_flight"), "a1") == 0
    assert of(counted.points("spillway.breaker.state"), "a1") == 2
    pool.take("a1", 500.0)
    assert of(counted.points("spillway.breaker.state"), "a1") == 1
    assert counted.points("spillway.retry_budget") == [({}, pytest.approx(10.0))]


def test_a_breaker_whose_time_is_over_is_shown_as_half_open_although_nobody_asks() -> None:
    pool = TargetPool(settings(breaker={"calls_min": 1, "open_s": 30}), random=lambda: 0.5)
    counted = Counted(pool)
    lease = pool.take("a1", 0.0)
    assert isinstance(lease, Lease)
    pool.give_back(lease, CallResult.FAILURE, 0.0)
    counted.clock.advance(29.0)
    assert of(counted.points("spillway.breaker.state"), "a1") == 2
    counted.clock.advance(20.0)
    assert of(counted.points("spillway.breaker.state"), "a1") == 1
    pool.opened_by_peer("a1", "p", 60.0, counted.clock.monotonic())
    assert of(counted.points("spillway.breaker.state"), "a1") == 2


def test_transitions_count_by_target_and_by_who_began() -> None:
    pool = TargetPool(settings(breaker={"calls_min": 1}), random=lambda: 0.5)
    counted = Counted(pool)
    lease = pool.take("a1", 0.0)
    assert isinstance(lease, Lease)
    pool.give_back(lease, CallResult.FAILURE, 0.0)
    pool.opened_by_peer("a2", "p", 5.0, 0.0)
    assert sorted(counted.points("spillway.breaker.transitions"), key=repr) == [
        ({"target": "a1", "to": "open", "by_peer": False}, 1),
        ({"target": "a2", "to": "open", "by_peer": True}, 1),
    ]


def test_a_call_of_a_model_counts_with_its_tokens_its_time_and_what_the_gates_said() -> None:
    counted = Counted(TargetPool(settings(), random=lambda: 0.5))
    verdicts = [
        GateVerdict(gate="self_confidence", verdict=Verdict.FAIL, reason="2 of 5"),
        GateVerdict(gate="hard_failure", verdict=Verdict.PASS, reason=""),
    ]
    counted.metrics.attempt(
        "simple", "a1", "rejected", billed=Usage(7, 5), latency_s=0.3, time_to_first_token_s=0.1, verdicts=verdicts
    )
    counted.metrics.attempt("made up", "made up", "skipped")
    labels = {"tier": "simple", "target": "a1"}
    assert counted.points("spillway.tokens") == [
        ({**labels, "direction": "input"}, 7),
        ({**labels, "direction": "output"}, 5),
    ]
    assert counted.points("spillway.gate.verdicts") == [
        ({"tier": "simple", "gate": "self_confidence", "verdict": "fail"}, 1),
        ({"tier": "simple", "gate": "hard_failure", "verdict": "pass"}, 1),
    ]
    ((labels, _),) = counted.points("spillway.attempt.duration")
    assert labels == {"target": "a1", "outcome": "rejected"}
    ((labels, _),) = counted.points("spillway.attempt.time_to_first_token")
    assert labels == {"target": "a1"}
