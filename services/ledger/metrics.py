"""What the ledger counts.

Promises: labels come from bounded sets. Without a meter provider every count costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = ["LedgerCounts"]


class LedgerCounts:
    """The instruments, made once. Thread-safe. `kind` is "decision", "feedback" or "grade"."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._kept = meter.create_counter("spillway.ledger.kept", unit="{item}", description="Written.")
        self._repeated = meter.create_counter(
            "spillway.ledger.repeated", unit="{item}", description="Sent again, and there already."
        )
        self._deleted = meter.create_counter(
            "spillway.ledger.deleted", unit="{row}", description="Too old: decisions, or what never had one."
        )
        for kind in ("decision", "feedback", "grade"):
            self._kept.add(0, {"kind": kind})
            self._repeated.add(0, {"kind": kind})
        self._deleted.add(0)

    def observe(self, waiting: Mapping[str, Callable[[], int]], refused: Mapping[str, Callable[[], int]]) -> None:
        """Exports what the threads ("write", "read") have to do, and what they refused. Once."""

        def of(read: Mapping[str, Callable[[], int]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda options: [Observation(each(), {"threads": name}) for name, each in read.items()]

        self._meter.create_observable_gauge(
            "spillway.ledger.waiting", [of(waiting)], unit="{request}", description="Queued for a thread or in one."
        )
        self._meter.create_observable_counter(
            "spillway.ledger.refused", [of(refused)], unit="{request}", description="The threads had enough to do."
        )

    def kept(self, kind: str, count: int) -> None:
        """Counts what was written."""
        self._kept.add(count, {"kind": kind})

    def repeated(self, kind: str, count: int) -> None:
        """Counts what was there already."""
        self._repeated.add(count, {"kind": kind})

    def deleted(self, count: int) -> None:
        """Counts what was too old."""
        self._deleted.add(count)
