"""What the executor counts.

Promises: labels come from bounded sets: the configured tiers and targets, the outcomes of attempts, the states of a
breaker. Gauges are read by the exporter's thread, so only from what may be read there. A breaker shows as open until a
probe is let through. Without a meter provider every count costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.executor.breaker import BreakerState
from services.executor.targets import TargetChange, TargetPool

__all__ = ["STATE_VALUES", "ExecutorMetrics"]

STATE_VALUES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class ExecutorMetrics:
    """The instruments of one process, made once."""

    def __init__(self, meter: Meter, pool: TargetPool) -> None:
        self._pool = pool
        self._tiers = pool.tiers
        self._attempts = meter.create_counter("spillway.attempts", unit="{call}", description="Calls of models.")
        self._transitions = meter.create_counter(
            "spillway.breaker.transitions", unit="{transition}", description="Changes of a breaker's state."
        )
        meter.create_observable_gauge(
            "spillway.breaker.state", [self._states], description="0 closed, 1 half-open, 2 open."
        )
        meter.create_observable_gauge(
            "spillway.in_flight", [self._in_flight], unit="{call}", description="Calls of models under way."
        )
        meter.create_observable_gauge(
            "spillway.retry_budget", [self._budget], unit="{call}", description="Further calls that may be made now."
        )
        pool.subscribe(self._changed)

    def follow(self, pool: TargetPool) -> None:
        """Reads this pool from now on, which shares its subscribers with the one before."""
        self._tiers = pool.tiers
        self._pool = pool

    def attempt(self, tier: str, target: str, outcome: str) -> None:
        """Counts one attempt that has ended, or was not made. A plan may name any tier, and any target."""
        tier = tier if tier in self._tiers else "other"
        target = target if target in self._pool else "other"
        self._attempts.add(1, {"tier": tier, "target": target, "outcome": outcome})

    def _changed(self, change: TargetChange) -> None:
        labels = {"target": change.target.name, "to": change.transition.state.value}
        self._transitions.add(1, {**labels, "by_peer": change.transition.by_peer})

    def _states(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(STATE_VALUES[state], {"target": name}) for name, state, _ in self._pool.breakers()]

    def _in_flight(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(in_flight, {"target": name}) for name, _, in_flight in self._pool.breakers()]

    def _budget(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._pool.retry_budget.calls_left)]
