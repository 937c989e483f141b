"""How well a target is: what is known of the place that serves it, what is seen of it, and what its breaker did."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.executor.breaker import Breaker, Snapshot, Transition
from services.executor.latency import Latency
from spillway.settings import Target

__all__ = ["TargetChange", "TargetHealth", "TargetState"]


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target and its health as of one moment. `latency_average_s` is None before its first call."""

    target: Target
    tier: str
    breaker: Snapshot
    latency_average_s: float | None = None


@dataclass(frozen=True, slots=True)
class TargetChange:
    """What a target's breaker did."""

    target: Target
    transition: Transition


@dataclass(slots=True)
class TargetHealth:
    """What is known of a place that serves a model. Pools of several configurations may share it."""

    place: tuple[str, ...]
    breaker: Breaker
    latency: Latency = field(default_factory=Latency)
    failed_at_s: float | None = None
    """The last call, if it did not answer."""
