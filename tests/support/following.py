"""What follows files in tests: how they are written, its looks on a fake clock, and what it counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from services.runtime.clock import FakeClock

__all__ = ["numbers", "put", "through"]


def put(path: Path, content: str) -> None:
    """Never half written, as a careful editor does it."""
    beside = path.with_suffix(".new")
    beside.write_text(content)
    beside.replace(path)


async def through(task: asyncio.Task[None], clock: FakeClock, step_s: float) -> None:
    """Waits for the task; time passes whenever it sleeps."""
    while not task.done():
        if clock.sleepers:
            clock.advance(step_s)
        await asyncio.sleep(0)
    await task


def numbers(reader: InMemoryMetricReader, prefix: str) -> dict[tuple[str, str], float]:
    """(name without `prefix`, label values) -> value."""
    found: dict[tuple[str, str], float] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    assert isinstance(point, NumberDataPoint)
                    label = ",".join(map(str, (point.attributes or {}).values()))
                    found[metric.name.removeprefix(prefix), label] = point.value
    return found
