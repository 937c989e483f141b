"""What the exporter sees."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from services.cache import metrics
from services.cache.matching.risk_control import RiskPolicy
from services.cache.metrics import class_label, export_metrics
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import TaskType
from tests.support.cache_parts import cache_over
from tests.support.cache_world import World

OTHER_OF_ACME = "other/822b33ad"  # printf %s acme | sha256sum


def points(reader: InMemoryMetricReader) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    assert isinstance(point, NumberDataPoint)
                    found[metric.name, *(str(value) for value in (point.attributes or {}).values())] = point.value
    return found


async def test_what_is_known_of_the_errors_is_exported_by_class() -> None:
    clock, reader = FakeClock(), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    cache = cache_over(MemoryStore(entries_max=10_000, clock=clock), clock, risk=RiskPolicy(0.02, 0.2))
    export_metrics(provider.get_meter("test"), cache)
    told = await World(cache, 1).ask(320)
    found = points(reader)
    assert found["spillway.cache.semantic", OTHER_OF_ACME, "hits"] == told.hits > 0
    assert found["spillway.cache.lookups", "semantic_hit"] == told.hits
    assert found["spillway.cache.lookups", "miss"] == told.lookups - told.hits
    checked = [found["spillway.cache.checked_hits", OTHER_OF_ACME, verdict] for verdict in ("right", "wrong")]
    assert sum(checked) == told.audits
    rate = {name: found["spillway.cache.wrong_rate", OTHER_OF_ACME, name] for name in ("low", "estimate", "high")}
    assert 0.0 <= rate["low"] <= rate["estimate"] <= rate["high"]
    assert found["spillway.cache.comparisons", OTHER_OF_ACME, "same"] > 0
    assert found["spillway.cache.threshold", OTHER_OF_ACME, "p_same"] <= 1.0
    provider.shutdown()


async def test_classes_beyond_the_bound_have_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CLASSES_MAX", 2)
    clock, reader = FakeClock(), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    cache = cache_over(MemoryStore(entries_max=100, clock=clock), clock)
    export_metrics(provider.get_meter("test"), cache)
    for index in range(5):
        cache._search.classes.of(TaskType.OTHER, f"tenant {index}")
    labels = {key[1] for key in points(reader) if key[0] == "spillway.cache.semantic"}
    assert labels == {class_label(f"other/tenant {index}") for index in range(2)}
    assert not any("tenant" in label for label in labels)
    provider.shutdown()
