"""What the cache counts, and what it knows of its errors, as metrics.

Promises: labels come from bounded sets: kinds of outcome, verdicts, and classes, of which the first `CLASSES_MAX` that
there were are exported, also after others took their places; who the tenant of a class is they do not say. Values are
read when they are exported, by the exporter's thread; without a meter provider that never happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.partition_classes import OWN_MAX, ClassReport
from services.cache.outcomes import Stats
from services.cache.semantic_cache import SemanticCache

__all__ = ["class_label", "export_metrics"]

CLASSES_MAX = 2 * OWN_MAX
"""Classes with metrics of their own in the life of a process."""

Observe = Callable[[CallbackOptions], Iterable[Observation]]


def class_label(name: str) -> str:
    """ "TASK_TYPE" or "TASK_TYPE/xxxxxxxx" of a class, the first eight hexadecimal digits of SHA-256 of its tenant."""
    task_type, _, tenant = name.partition("/")
    digest = hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{task_type}/{digest[:8]}" if tenant else task_type


def export_metrics(meter: Meter, cache: SemanticCache) -> None:
    """Makes the instruments. Once per cache."""

    labelled: set[str] = set()

    def reports() -> list[ClassReport]:
        found = cache.wrong_rates()
        for report in found:
            if len(labelled) < CLASSES_MAX:
                labelled.add(report.name)
        return [report for report in found if report.name in labelled]

    def of_stats(read: Callable[[Stats], dict[str, int]], label: str) -> list[Observe]:
        return [lambda options: [Observation(value, {label: name}) for name, value in read(cache.stats()).items()]]

    def of_classes(read: Callable[[ClassReport], dict[str, float]], label: str) -> list[Observe]:
        return [
            lambda options: [
                Observation(value, {"class": class_label(report.name), label: name})
                for report in reports()
                for name, value in read(report).items()
            ]
        ]

    meter.create_observable_counter(
        "spillway.cache.lookups", of_stats(_Lookups(), "outcome"), unit="{lookup}", description="By what came of them."
    )
    meter.create_observable_counter(
        "spillway.cache.stores", of_stats(_stores, "outcome"), unit="{answer}", description="By what became of them."
    )
    meter.create_observable_gauge(
        "spillway.cache.index", of_stats(_index, "what"), description="Entries and partitions in the index."
    )
    meter.create_observable_counter(
        "spillway.cache.semantic", of_classes(_semantic, "what"), unit="{lookup}", description="By meaning, by class."
    )
    meter.create_observable_counter(
        "spillway.cache.comparisons",
        of_classes(lambda report: {verdict.value: report.comparisons[verdict] for verdict in Comparison}, "verdict"),
        unit="{answer}",
        description="Fresh answers held against the stored one that would have been served.",
    )
    meter.create_observable_counter(
        "spillway.cache.checked_hits",
        of_classes(lambda report: {"right": report.audited - report.wrong, "wrong": report.wrong}, "verdict"),
        unit="{hit}",
        description="Hits by meaning of which it became known whether they were right.",
    )
    meter.create_observable_gauge(
        "spillway.cache.wrong_rate",
        of_classes(_wrong_rate, "what"),
        description="Wrong answers as a share of lookups by meaning: estimate, its 95 % interval, and what is booked.",
    )
    meter.create_observable_gauge(
        "spillway.cache.threshold",
        of_classes(lambda report: {"p_same": report.threshold}, "what"),
        description="The least P(same answer) that is served; above 1 nothing is.",
    )


class _Lookups:
    """What came of lookups. Of one that has missed exactly nobody knows yet whether it goes on by meaning, and finds
    something, perhaps after it began at another replica: so what was once told as a miss stays one, as counters never
    fall, until others have made up for it."""

    def __init__(self) -> None:
        self._misses = 0

    def __call__(self, stats: Stats) -> dict[str, int]:
        found = stats.exact_hits + stats.semantic_hits + stats.unavailable
        self._misses = max(self._misses, stats.lookups - found)
        return {
            "exact_hit": stats.exact_hits,
            "semantic_hit": stats.semantic_hits,
            "unavailable": stats.unavailable,
            "miss": self._misses,
        }


def _stores(stats: Stats) -> dict[str, int]:
    return {
        "stored": stats.stored,
        "not_admitted": stats.not_admitted - stats.overtaken,
        "overtaken": stats.overtaken,
        "dropped": stats.dropped,
        "evicted": stats.evicted,
    }


def _index(stats: Stats) -> dict[str, int]:
    return {"entries": stats.indexed_entries, "partitions": stats.partitions}


def _semantic(report: ClassReport) -> dict[str, float]:
    return {"lookups": report.lookups, "hits": report.hits}


def _wrong_rate(report: ClassReport) -> dict[str, float]:
    risk = report.risk
    return {
        "estimate": risk.wrong_rate,
        "low": risk.wrong_rate_low,
        "high": risk.wrong_rate_high,
        "booked": risk.booked_rate,
    }
