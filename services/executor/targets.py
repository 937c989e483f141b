"""The targets as this process sees them: which are configured, how busy and how well each one is.

Promises: pure; time is an argument. A call needs a lease, which holds one place of the target's concurrency limit and
one permit of its breaker; it is returned exactly once. Within a tier the plan's order is the order of preference, and
a target that refuses its lease is passed over at once, so the next one takes its load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.executor.breaker import Breaker, BreakerState, CallResult, Permit, Snapshot
from services.executor.latency import Latencies
from spillway.settings import Settings, Target

__all__ = ["Lease", "Refusal", "TargetPool", "TargetState"]


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to call one target once."""

    target: str
    permit: Permit


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no lease, and after how many seconds to ask again, if that is known."""

    error_reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target and its health as of one moment."""

    target: Target
    tier: str
    breaker: Snapshot
    in_flight: int


class _Entry:
    __slots__ = ("breaker", "in_flight", "target", "tier")

    def __init__(self, tier: str, target: Target, breaker: Breaker) -> None:
        self.tier = tier
        self.target = target
        self.breaker = breaker
        self.in_flight = 0


class TargetPool:
    """Every configured target. Not thread-safe: one event loop."""

    def __init__(self, settings: Settings, *, random: Callable[[], float]) -> None:
        self._entries = {
            target.name: _Entry(
                tier.name,
                target,
                Breaker(
                    settings.executor.breaker,
                    retry_after_s_max=settings.executor.retry_after_s_max,
                    random=random,
                ),
            )
            for tier in settings.tiers
            for target in tier.targets
        }
        self.latencies = Latencies(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Target:
        return self._entries[name].target

    def take(self, name: str, now_s: float) -> Lease | Refusal:
        """A lease, or why there is none."""
        entry = self._entries[name]
        if entry.in_flight >= entry.target.concurrency_max:
            return Refusal("CONCURRENCY_LIMIT")
        permit = entry.breaker.acquire(now_s)
        if permit is None:
            snapshot = entry.breaker.snapshot(now_s)
            known = snapshot.open_for_s if snapshot.state is BreakerState.OPEN else None
            return Refusal("BREAKER_OPEN", known)
        entry.in_flight += 1
        return Lease(name, permit)

    def give_back(self, lease: Lease, result: CallResult, now_s: float, retry_after_s: float | None = None) -> None:
        """Ends a lease with what the call said about the target. Raises PermitError the second time."""
        entry = self._entries[lease.target]
        entry.breaker.settle(lease.permit, result, now_s, retry_after_s)
        entry.in_flight -= 1

    def states(self, now_s: float) -> Iterator[TargetState]:
        """All targets in the order of the configuration."""
        for entry in self._entries.values():
            yield TargetState(entry.target, entry.tier, entry.breaker.snapshot(now_s), entry.in_flight)
