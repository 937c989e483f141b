"""What is counted of jobs, webhooks and repeated requests."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.replays.claims import ReplayEvent
from spillway.routing import JobState


def test_everything_is_counted_under_labels_of_bounded_sets() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics = JobMetrics(provider.get_meter("test"))
    metrics.submitted()
    metrics.open(7)
    metrics.tried("retry")
    metrics.ended(JobState.FAILED, "NO_MODEL_AVAILABLE")
    metrics.ended(JobState.FAILED, "a reason of a newer version")
    metrics.ended(JobState.SUCCEEDED, "")
    metrics.delivered("TIMEOUT")
    metrics.replay(ReplayEvent.REPLAYED)
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points: Any = metric.data.data_points
                found[metric.name] = [(dict(point.attributes or {}), point.value) for point in points if point.value]
    provider.shutdown()
    assert found == {
        "spillway.jobs.submitted": [({}, 1)],
        "spillway.jobs.open": [({}, 7)],
        "spillway.jobs.tries": [({"outcome": "retry"}, 1)],
        "spillway.jobs.ended": [
            ({"state": "succeeded", "reason": ""}, 1),
            ({"state": "failed", "reason": "NO_MODEL_AVAILABLE"}, 1),
            ({"state": "failed", "reason": "OTHER"}, 1),
        ],
        "spillway.webhooks": [({"outcome": "TIMEOUT"}, 1)],
        "spillway.idempotency": [({"outcome": "replayed"}, 1)],
    }
