"""What canaries count, and how far quality has drifted, as instruments (docs/canary.md has the table).

Promises: labels come from bounded sets: outcomes, kinds of work, and "overall". Gauges are computed when they are read,
which is in the exporter's thread: they only read values that are replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.orchestrator.canary.comparing import CanaryOutcome
from services.orchestrator.canary.drift import STREAMS
from services.orchestrator.canary.monitor import Alarm, DriftMonitor
from spillway.routing import TaskType

__all__ = ["CanaryMetrics"]


class CanaryMetrics:
    """The instruments, made once. Its methods are callbacks for `Canary` and `DriftMonitor`."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._samples = meter.create_counter(
            "spillway.canary.samples",
            unit="{sample}",
            description="Answers drawn for a comparison.",
        )
        self._cost = meter.create_counter(
            "spillway.canary.cost", unit="{nanousd}", description="Spent on canaries, charged to no request."
        )
        self._alarms = meter.create_counter(
            "spillway.canary.alarms", unit="{alarm}", description="Drops of quality beyond what is allowed."
        )
        self._uncounted = meter.create_counter(
            "spillway.canary.uncounted", unit="{grade}", description="Grades that the shared count did not get."
        )

        self._uncounted.add(0)
        for stream in STREAMS:
            self._alarms.add(0, {"task_type": stream})

    def ended(self, outcome: CanaryOutcome, cost_nanousd: int, task_type: TaskType) -> None:
        """Counts one sample that was drawn, whatever became of it."""
        self._samples.add(1, {"outcome": outcome.value, "task_type": task_type.value})
        self._cost.add(cost_nanousd, {"task_type": task_type.value})

    def alarmed(self, alarm: Alarm) -> None:
        """Counts an alarm, in the replica that raised it."""
        self._alarms.add(1, {"task_type": alarm.stream})

    def uncounted(self) -> None:
        """Counts a grade that was lost to the test."""
        self._uncounted.add(1)

    def watch(self, monitor: DriftMonitor) -> None:
        """Shows how the test stands from now on. To be called once."""

        def drops(_: CallbackOptions) -> Iterable[Observation]:
            for each in monitor.standings():
                for bound, value in (("mean", each.drop.mean), ("low", each.drop.low), ("high", each.drop.high)):
                    yield Observation(value, {"task_type": each.stream, "bound": bound})

        def grades(_: CallbackOptions) -> Iterable[Observation]:
            for each in monitor.standings():
                yield Observation(each.drop.grades, {"task_type": each.stream})

        def alarm_shares(_: CallbackOptions) -> Iterable[Observation]:
            for each in monitor.standings():
                yield Observation(each.alarm_share, {"task_type": each.stream})

        def levels(_: CallbackOptions) -> Iterable[Observation]:
            found = monitor.levels()
            for kind in TaskType:
                yield Observation(found.get(kind, 0), {"task_type": kind.value})

        self._meter.create_observable_gauge(
            "spillway.canary.drop", [drops], unit="1", description="Flagship's grade less the answer's, 0 to 1."
        )
        self._meter.create_observable_gauge(
            "spillway.canary.grades", [grades], unit="{grade}", description="Grades since the test began."
        )
        self._meter.create_observable_gauge(
            "spillway.canary.alarm_share", [alarm_shares], unit="1", description="Evidence of a drop; 1 is an alarm."
        )
        self._meter.create_observable_gauge(
            "spillway.canary.level", [levels], unit="{step}", description="Steps by which confidence was raised."
        )
