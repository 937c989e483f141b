"""What the classifier counts, by labels from bounded sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.classifier.complexity import Judgement, LayerTimes
from services.classifier.metrics import ClassifierMetrics
from services.classifier.small_llm_layer import Asked, Asking
from spillway.routing import Classification, Complexity, Layer, OutcomeSource, TaskType, TierOutcome

JUDGED = Judgement(
    Classification(
        task_type=TaskType.MATH,
        complexity=Complexity.MEDIUM,
        probabilities=(0.2, 0.7, 0.1),
        confidence=0.7,
        layer=Layer.EMBEDDING,
        version="head-1",
        out_of_domain=0.25,
    ),
    times=LayerTimes(0.0004, 0.02),
)


class Meters:
    """The instruments and a reader."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.metrics = ClassifierMetrics(
            provider.get_meter("test"), ("simple", "complex"), queued=lambda: 3, remembered=lambda: 5
        )

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"spillway.classifier.{name}"
        ]
        return {_labels(point.attributes): point for metric in found for point in metric.data.data_points}


def _labels(attributes: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return tuple(value for _, value in sorted((attributes or {}).items()))


@pytest.fixture
def meters() -> Meters:
    return Meters()


def test_judgements_are_counted_by_layer_complexity_task_type_and_head(meters: Meters) -> None:
    meters.metrics.judged(JUDGED)
    meters.metrics.judged(JUDGED)
    points = meters.points("classifications")
    assert {labels: point.value for labels, point in points.items()} == {("medium", "embedding", "math", "head-1"): 2}
    assert meters.points("confidence")["embedding", "head-1"].sum == pytest.approx(1.4)
    assert meters.points("out_of_domain")["head-1",].sum == pytest.approx(0.5)


def test_each_layer_that_was_asked_has_its_time(meters: Meters) -> None:
    meters.metrics.judged(JUDGED)
    points = meters.points("layer.duration")
    assert {labels: point.sum for labels, point in points.items()} == {("heuristics",): 0.0004, ("embedding",): 0.02}


def test_questions_to_the_small_llm_are_counted_with_their_cost(meters: Meters) -> None:
    for asked in (Asked(Asking.ANSWERED, cost_nanousd=70), Asked(Asking.TIMEOUT), Asked(Asking.SURE)):
        meters.metrics.judged(Judgement(JUDGED.classification, asked=asked))
    asked_points = meters.points("small_llm.asked")
    assert {labels: point.value for labels, point in asked_points.items() if point.value} == {
        ("answered",): 1,
        ("timeout",): 1,
        ("sure",): 1,
    }
    assert meters.points("small_llm.cost")[()].value == 70


def test_outcomes_are_counted_and_unknown_tiers_are_one_label(meters: Meters) -> None:
    outcomes = [TierOutcome("head-1/0", tier, True, OutcomeSource.GATES) for tier in ("simple", "a", "b")]
    meters.metrics.recorded(outcomes, 1)
    points = meters.points("outcomes")
    assert {labels: point.value for labels, point in points.items()} == {
        ("gates", True, "simple"): 1,
        ("gates", True, "other"): 2,
    }
    assert meters.points("outcomes.left_out")[()].value == 2


def test_the_queue_and_the_memorys_size_are_read_when_they_are_exported(meters: Meters) -> None:
    assert meters.points("embedding.queue")[()].value == 3
    assert meters.points("memory.clusters")[()].value == 5
