"""A meter, and what its instruments have come to."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

__all__ = ["Meters", "Points"]

Points = list[tuple[dict[str, Any], Any]]


class Meters:
    """`meter` is for what is under test."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")

    def points(self, name: str) -> Points:
        """Labels and value, or the sum of a histogram; none where nothing was shown by that name."""
        data = self._reader.get_metrics_data()
        shown = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        points = [point for metric in shown if metric.name == name for point in metric.data.data_points]
        return [(dict(p.attributes or {}), getattr(p, "value", getattr(p, "sum", None))) for p in points]

    def counted(self, name: str) -> Points:
        """Those that are not zero, of a metric that is shown."""
        points = self.points(name)
        assert points, name
        return [(labels, value) for labels, value in points if value]
