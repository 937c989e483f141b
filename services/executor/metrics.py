"""What the executor counts.

Promises: labels come from bounded sets: the configured tiers and targets, the outcomes of attempts, the names of gates
and their verdicts, the states of a breaker. Gauges are read by the exporter's thread, so only from what may be read
there. A breaker shows as open until a probe is let through. Without a meter provider every count costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.executor.breaker import BreakerState
from services.executor.target_health import TargetChange
from services.executor.targets import TargetPool
from services.runtime.clock import Clock
from spillway.chat import Usage
from spillway.routing import GateVerdict

__all__ = ["STATE_VALUES", "ExecutorMetrics"]

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
STATE_VALUES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class ExecutorMetrics:
    """The instruments of one process, made once."""

    def __init__(self, meter: Meter, pool: TargetPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._open_until_s: dict[str, float] = {}
        self._tiers = pool.tiers
        self._attempts = meter.create_counter("spillway.attempts", unit="{call}", description="Calls of models.")
        self._duration = meter.create_histogram(
            "spillway.attempt.duration",
            unit="s",
            description="How long calls of models took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_token = meter.create_histogram(
            "spillway.attempt.time_to_first_token",
            unit="s",
            description="Of streamed calls of models.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_counter(
            "spillway.tokens", unit="{token}", description="Billed, of every call of a model, opinions included."
        )
        self._verdicts = meter.create_counter(
            "spillway.gate.verdicts", unit="{verdict}", description="What gates said of answers."
        )
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
        self._meter = meter

    def watch(self, waiting: Callable[[], int]) -> None:
        """Shows how many executions wait for a place: a number that may be read by another thread. Once."""
        self._meter.create_observable_gauge(
            "spillway.line.waiting",
            [lambda _: [Observation(waiting())]],
            unit="{execution}",
            description="Executions that wait for a place at a target.",
        )

    def follow(self, pool: TargetPool) -> None:
        """Reads this pool from now on, which shares its subscribers with the one before."""
        self._tiers = pool.tiers
        self._pool = pool

    def attempt(
        self,
        tier: str,
        target: str,
        outcome: str,
        *,
        billed: Usage | None = None,
        latency_s: float | None = None,
        time_to_first_token_s: float | None = None,
        verdicts: Sequence[GateVerdict] = (),
    ) -> None:
        """Counts one attempt that has ended, or was not made. A plan may name any tier, and any target."""
        tier = tier if tier in self._tiers else "other"
        target = target if target in self._pool else "other"
        self._attempts.add(1, {"tier": tier, "target": target, "outcome": outcome})
        if latency_s is not None:
            self._duration.record(latency_s, {"target": target, "outcome": outcome})
        if time_to_first_token_s is not None:
            self._first_token.record(time_to_first_token_s, {"target": target})
        if billed is not None:
            self._tokens.add(billed.input_tokens, {"tier": tier, "target": target, "direction": "input"})
            self._tokens.add(billed.output_tokens, {"tier": tier, "target": target, "direction": "output"})
        for verdict in verdicts:
            self._verdicts.add(1, {"tier": tier, "gate": verdict.gate, "verdict": verdict.verdict.value})

    def _changed(self, change: TargetChange) -> None:
        self._open_until_s[change.target.name] = self._clock.monotonic() + change.transition.open_for_s
        labels = {"target": change.target.name, "to": change.transition.state.value}
        self._transitions.add(1, {**labels, "by_peer": change.transition.by_peer})

    def _states(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._value(name, state), {"target": name}) for name, state, _ in self._pool.breakers()]

    def _value(self, name: str, state: BreakerState) -> int:
        """An interval that is over is HALF_OPEN, also of a target that nobody has asked for since."""
        is_over = self._open_until_s.get(name, 0.0) <= self._clock.monotonic()
        return STATE_VALUES[BreakerState.HALF_OPEN if state is BreakerState.OPEN and is_over else state]

    def _in_flight(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(in_flight, {"target": name}) for name, _, in_flight in self._pool.breakers()]

    def _budget(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._pool.retry_budget.calls_left)]
