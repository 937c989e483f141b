"""What the exporter sees."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from services.cache import metrics
from services.cache.entry import Scope
from services.cache.matching.risk_control import RiskPolicy
from services.cache.metrics import class_label, export_metrics
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding
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
    checked = [found["spillway.cache.checked_hits", OTHER_OF_ACME, verdict] for verdict in ("right", "wrong")]
    assert sum(checked) == told.audits
    rate = {name: found["spillway.cache.wrong_rate", OTHER_OF_ACME, name] for name in ("low", "estimate", "high")}
    assert 0.0 <= rate["low"] <= rate["estimate"] <= rate["high"]
    assert found["spillway.cache.comparisons", OTHER_OF_ACME, "same"] > 0
    assert found["spillway.cache.threshold", OTHER_OF_ACME, "p_same"] <= 1.0
    provider.shutdown()


async def test_a_request_that_is_looked_up_exactly_and_then_by_meaning_is_one_lookup_and_no_count_ever_falls() -> None:
    clock, reader = FakeClock(), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    cache = cache_over(MemoryStore(entries_max=100, clock=clock), clock)
    export_metrics(provider.get_meter("test"), cache)
    asked = Scope("acme"), chat("How do I turn on the heater?")
    await cache.store(*asked, answer(), embedding=embedding("heater"), task_type=TaskType.OTHER)

    async def look(text: str, *, skip_exact: bool) -> dict[str, float]:
        at = embedding("heater") if skip_exact else None
        await cache.lookup(asked[0], chat(text), embedding=at, task_type=TaskType.OTHER, skip_exact=skip_exact)
        return {key[1]: count for key, count in points(reader).items() if key[0] == "spillway.cache.lookups" and count}

    found, missed = "how do I turn on  the heater", "How do I turn off the heater?"
    assert await look(missed, skip_exact=False) == {"miss": 1}
    assert await look(missed, skip_exact=True) == {"miss": 1}
    assert await look(found, skip_exact=False) == {"miss": 2}
    assert await look(found, skip_exact=True) == {"miss": 2, "semantic_hit": 1}  # it was told as a miss before
    assert await look(missed, skip_exact=False) == {"miss": 2, "semantic_hit": 1}
    assert await look(asked[1].messages[-1].text, skip_exact=False) == {"miss": 2, "semantic_hit": 1, "exact_hit": 1}
    assert cache.stats().lookups == 4
    assert await look(found, skip_exact=True) == {"miss": 2, "semantic_hit": 2, "exact_hit": 1}  # begun elsewhere
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
