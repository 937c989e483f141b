"""What is counted and shown, and that no label comes from outside its set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.canary.canary import CanaryOutcome
from services.orchestrator.canary.drift import OVERALL, UNITS
from services.orchestrator.canary.drift_store import MemoryDrift
from services.orchestrator.canary.metrics import CanaryMetrics
from services.orchestrator.canary.monitor import DriftMonitor
from services.orchestrator.canary.traffic import LEAST, State
from services.orchestrator.canary.traffic_metrics import TrafficMetrics
from services.runtime.clock import FakeClock
from spillway.chat import FinishReason
from spillway.routing import (
    CacheKind,
    CacheOutcome,
    Completion,
    Complexity,
    CostSummary,
    RoutingDecision,
    TaskType,
)
from tests.support.metric_points import Meters
from tests.unit.orchestrator.fakes import executed
from tests.unit.orchestrator.ladder import judged, settings_of


def completion(*, escalated: bool) -> Completion:
    execution = executed()
    attempts = execution.attempts if escalated else execution.attempts[2:]
    return Completion(
        request_id="r",
        message=execution.message,
        finish_reason=FinishReason.STOP,
        accepted=True,
        tier="medium",
        target="medium-1",
        model="m",
        usage=execution.usage,
        cost=CostSummary(),
        cache=CacheOutcome(CacheKind.MISS),
        routing=RoutingDecision(),
        attempts=attempts,
        escalations=int(escalated),
    )


async def test_canaries_and_alarms_are_counted_and_the_test_is_shown() -> None:
    meters = Meters()
    metrics = CanaryMetrics(meters.meter)
    monitor = DriftMonitor(
        settings_of(canary={"tighten": True}),
        store=MemoryDrift(),
        clock=FakeClock(),
        on_alarm=metrics.alarmed,
        on_uncounted=metrics.uncounted,
    )
    metrics.watch(monitor)
    assert meters.points("spillway.canary.drop") == []
    metrics.ended(CanaryOutcome.GRADED, 500, TaskType.CODE)
    metrics.uncounted()
    await monitor.take(TaskType.CODE, UNITS)
    assert ({"task_type": "code", "bound": "mean"}, 1.0) in meters.points("spillway.canary.drop")
    assert ({"task_type": OVERALL}, 1) in meters.points("spillway.canary.grades")
    assert all(0 < share < 1 for _, share in meters.points("spillway.canary.alarm_share"))
    while not meters.counted("spillway.canary.alarms"):
        await monitor.take(TaskType.CODE, UNITS)
    assert meters.counted("spillway.canary.alarms") == [({"task_type": OVERALL}, 1)]
    assert meters.points("spillway.canary.samples") == [({"outcome": "graded", "task_type": "code"}, 1)]
    assert meters.points("spillway.canary.cost") == [({"task_type": "code"}, 500)]
    assert meters.points("spillway.canary.uncounted") == [({}, 1)]
    levels = {labels["task_type"]: level for labels, level in meters.points("spillway.canary.level")}
    assert levels == {each.value: int(each is TaskType.CODE) for each in TaskType}


def test_drift_and_escalations_are_shown_with_their_states_once_there_is_enough() -> None:
    meters = Meters()
    metrics = TrafficMetrics(meters.meter, ["simple", "medium", "complex"])
    for _ in range(LEAST - 1):
        metrics.observe(judged(), completion(escalated=True))
    assert meters.points("spillway.escalation_share") == []
    for _ in range(2_000):
        metrics.observe(judged(Complexity.COMPLEX, task_type=TaskType.MATH), completion(escalated=False))
    assert meters.points("spillway.label_drift") == []
    metrics.observe(judged(), completion(escalated=True))
    drifts = {labels["label"]: value for labels, value in meters.points("spillway.label_drift")}
    assert drifts.keys() == {"task_type", "complexity"}
    assert meters.points("spillway.label_drift.state") == [
        ({"label": "task_type"}, State.ALARM),
        ({"label": "complexity"}, State.ALARM),
    ]
    shares = {labels["tier"]: value for labels, value in meters.points("spillway.escalation_share")}
    assert shares == {"simple": 1.0, "medium": 0.0, "all": pytest.approx(0.001)}
    states = {labels["tier"]: value for labels, value in meters.points("spillway.escalation_share.state")}
    assert states == {"simple": State.ALARM, "medium": State.HEALTHY, "all": State.HEALTHY}


def test_requests_without_judgement_or_attempts_and_tiers_of_another_time_are_left_out() -> None:
    meters = Meters()
    metrics = TrafficMetrics(meters.meter, ["simple"])
    for _ in range(LEAST):
        metrics.observe(None, None)
        metrics.observe(None, replace(completion(escalated=True), attempts=()))
    assert meters.points("spillway.escalation_share") == []
    for _ in range(LEAST):
        metrics.observe(judged(), completion(escalated=True))
    assert {labels["tier"] for labels, _ in meters.points("spillway.escalation_share")} == {"simple", "all"}


def test_a_tier_that_is_added_while_running_has_a_share_and_those_that_stay_go_on() -> None:
    meters = Meters()
    metrics = TrafficMetrics(meters.meter, ["simple", "complex"])
    for _ in range(LEAST):
        metrics.observe(judged(), completion(escalated=True))
    metrics.reconfigure(["simple", "medium"])
    for _ in range(LEAST):
        metrics.observe(judged(), completion(escalated=False))
    shares = {labels["tier"]: value for labels, value in meters.points("spillway.escalation_share")}
    assert shares == {"simple": 1.0, "medium": 0.0, "all": 0.5}
    metrics.reconfigure(["medium"])
    assert {labels["tier"] for labels, _ in meters.points("spillway.escalation_share")} == {"medium", "all"}


def test_confidence_is_a_histogram_by_layer() -> None:
    meters = Meters()
    metrics = TrafficMetrics(meters.meter, [])
    metrics.observe(judged(confidence=0.95), None)
    assert [labels for labels, _ in meters.points("spillway.classification.confidence")] == [{"layer": "embedding"}]
