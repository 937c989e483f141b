"""The targets as this process sees them: which are configured, how busy and how well each one is.

Promises: pure; time is an argument. A call needs a lease, which holds one place of the target's concurrency limit and
one permit of its breaker, and, for a call that follows a failed one, maybe a token of the retry budget; it is returned
exactly once, and one that is never returned is lost after the tier's attempt timeout and `LEASE_MARGIN_S`, its place
free again. Within a tier the configured balance is the order of preference, and a target that refuses its lease is
passed over at once, so the next one takes its load. The targets of a provider together have no more calls under way
than it has connections: a call never waits for one, where it would look like a slow target. A spend cap closes off
every target of its provider: the account is empty for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from services.executor.balancer import Balance, Candidate, arrange, slow_start_share
from services.executor.breaker import Breaker, BreakerState, CallResult, Transition
from services.executor.latency import Latencies
from services.executor.lease import BREAKER_OPEN, CONCURRENCY_LIMIT, LEASE_MARGIN_S, RETRY_S, Lease, Refusal
from services.executor.retry_budget import RetryBudget
from services.executor.target_health import TargetChange, TargetHealth, TargetState
from spillway.routing import Plan
from spillway.settings import Settings, Target, Tier

__all__ = ["TargetPool"]


@dataclass(frozen=True, slots=True)
class _Entry:
    tier: str
    target: Target
    health: TargetHealth
    connections_max: int
    """Of its provider."""

    @property
    def breaker(self) -> Breaker:
        return self.health.breaker


class TargetPool:
    """Every target of a configuration. `random` gives floats in [0, 1). Not thread-safe: one event loop.

    `retry_budget`, `latencies` and `subscribers` are the pool's own; others may read them. `before`, the pool of an
    earlier configuration, goes on to be used by those who have it: the two share the retry budget, the subscribers,
    and all that is known of a target which is the same model at the same place.
    """

    def __init__(self, settings: Settings, *, random: Callable[[], float], before: TargetPool | None = None) -> None:
        self._random = random
        self._doubt_s = settings.executor.breaker.window_s
        self._slow_start_s = settings.executor.slow_start_s
        self._spend_cap_s = settings.executor.retry_after_s_max
        self._balance: dict[str, Balance] = {tier.name: tier.balance for tier in settings.tiers}
        self.subscribers: list[Callable[[TargetChange], None]] = [] if before is None else before.subscribers
        self.waiting: list[Callable[[frozenset[str]], None]] = [] if before is None else before.waiting
        """Told, at each call that ends, at which targets there may be a place now. As `subscribers` otherwise."""
        self.promised: list[Callable[[frozenset[str]], int]] = [] if before is None else before.promised
        """How many places at these targets are kept for others. As `waiting` otherwise."""
        self._entries: dict[str, _Entry] = {
            target.name: _Entry(
                tier.name,
                target,
                self._health(settings, tier, target, before),
                settings.providers[target.provider].connections_max,
            )
            for tier in settings.tiers
            for target in tier.targets
        }
        self._beside = {
            name: frozenset(
                other for other, each in self._entries.items() if each.target.provider == entry.target.provider
            )
            for name, entry in self._entries.items()
        }
        self.latencies = Latencies(self._entries, {name: entry.health.latency for name, entry in self._entries.items()})
        if before is None:
            self.retry_budget = RetryBudget(settings.executor.retry_budget)
        else:
            self.retry_budget = before.retry_budget
            self.retry_budget.reconfigure(settings.executor.retry_budget)

    def _health(self, settings: Settings, tier: Tier, target: Target, before: TargetPool | None) -> TargetHealth:
        options = settings.executor
        provider = settings.providers[target.provider]
        place = (target.provider, provider.kind, provider.base_url, target.model)
        permit_s_max = tier.attempt_timeout_s + LEASE_MARGIN_S
        known = None if before is None else before.health(target.name)
        if known is not None and known.place == place:
            known.breaker.reconfigure(
                options.breaker, retry_after_s_max=options.retry_after_s_max, permit_s_max=permit_s_max
            )
            return known
        breaker = Breaker(
            options.breaker,
            retry_after_s_max=options.retry_after_s_max,
            permit_s_max=permit_s_max,
            random=self._random,
            on_change=partial(self._changed, target),
        )
        return TargetHealth(place, breaker)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Target:
        return self._entries[name].target

    @property
    def tiers(self) -> frozenset[str]:
        """The names of the configured tiers."""
        return frozenset(self._balance)

    def health(self, name: str) -> TargetHealth | None:
        """What is known of a target, for a pool that comes after this one; None of one that is not configured."""
        entry = self._entries.get(name)
        return None if entry is None else entry.health

    def subscribe(self, listener: Callable[[TargetChange], None]) -> None:
        """`listener` is told of every change of a breaker, at once; it must not raise, wait, or call the pool."""
        self.subscribers.append(listener)

    def take(self, name: str, now_s: float, *, is_further: bool = False, is_newcomer: bool = False) -> Lease | Refusal:
        """A lease, or why there is none. `is_further`: the request's last call failed for want of availability.

        `is_newcomer`: the request has had no call yet, so what is promised to others is not for it.
        """
        entry = self._entries[name]
        entry.breaker.forget_lost(now_s)
        kept = self._kept(frozenset((name,))) if is_newcomer else 0
        kept_beside = self._kept(self._beside[name]) if is_newcomer else 0
        is_full = entry.breaker.in_flight + kept >= entry.target.concurrency_max
        if is_full or not self._has_connection(name, now_s, kept_beside):
            return Refusal(CONCURRENCY_LIMIT, RETRY_S)
        permit = entry.breaker.acquire(now_s)
        if permit is None:
            return Refusal(BREAKER_OPEN, self._ready_in_s(entry, now_s))
        if not (is_further and (permit.is_probe or self._is_in_doubt(entry, now_s))):
            return Lease(name, permit)
        if self.retry_budget.take():
            return Lease(name, permit, has_token=True)
        entry.breaker.settle(permit, CallResult.NEITHER, now_s)
        return Refusal("RETRY_BUDGET", RETRY_S)

    def give_back(
        self,
        lease: Lease,
        result: CallResult,
        now_s: float,
        retry_after_s: float | None = None,
        *,
        took_s: float = 0.0,
        unanswered: bool = False,
    ) -> None:
        """Ends a lease with what the call said about the target, which needed `took_s` for it.

        `unanswered`: there was no answer in the caller's time; it is no FAILURE, but raises a doubt. Raises PermitError
        the second time.
        """
        entry = self._entries[lease.target]
        entry.breaker.settle(lease.permit, result, now_s, took_s=took_s, retry_after_s=retry_after_s)
        if result is CallResult.FAILURE or unanswered:
            entry.health.failed_at_s = now_s
        elif result is CallResult.SUCCESS:
            entry.health.failed_at_s = None
            if lease.has_token:
                self.retry_budget.give_back()
            else:
                self.retry_budget.earn()
        for listener in self.waiting:
            listener(self._beside[lease.target])

    def spend_cap(self, name: str, now_s: float) -> None:
        """The account behind a target has no money left: no target of its provider is called for long."""
        provider = self._entries[name].target.provider
        for entry in self._entries.values():
            if entry.target.provider == provider:
                entry.breaker.open_for(self._spend_cap_s, now_s)

    def opened_by_peer(self, name: str, provider: str, for_s: float, now_s: float) -> None:
        """Another replica opened its breaker of this target; one that is configured otherwise here is left alone."""
        entry = self._entries.get(name)
        if entry is not None and entry.target.provider == provider:
            entry.breaker.open_for(for_s, now_s, by_peer=True)

    def arranged(self, plan: Plan, now_s: float) -> Plan:
        """The plan with the targets of each tier in the order in which this process would ask them now.

        A tier that is not configured here keeps its order.
        """
        return replace(
            plan,
            tiers=tuple(
                replace(tier, targets=self._arranged(tier.name, tier.targets, now_s)) if len(tier.targets) > 1 else tier
                for tier in plan.tiers
            ),
        )

    def retry_after_s(self, names: Iterable[str], now_s: float) -> float:
        """After how many seconds the first of these targets may be asked again; `RETRY_S` when one may be now."""
        return min((self._ready_in_s(self._entries[name], now_s) for name in names), default=RETRY_S)

    def states(self, now_s: float) -> Iterator[TargetState]:
        """All targets in the order of the configuration."""
        for name, entry in self._entries.items():
            yield TargetState(entry.target, entry.tier, entry.breaker.snapshot(now_s), self.latencies[name].average_s)

    def breakers(self) -> Iterator[tuple[str, BreakerState, int]]:
        """Name, state and calls under way of every target, as of its last change. Safe in another thread."""
        for name, entry in self._entries.items():
            yield name, entry.breaker.state, entry.breaker.in_flight

    def _kept(self, targets: frozenset[str]) -> int:
        return sum(promised(targets) for promised in self.promised)

    def _has_connection(self, name: str, now_s: float, kept: int) -> bool:
        connections_max = self._entries[name].connections_max - kept
        places = [self._entries[other].breaker for other in self._beside[name]]
        if sum(breaker.in_flight for breaker in places) >= connections_max:
            for breaker in places:
                breaker.forget_lost(now_s)
        return sum(breaker.in_flight for breaker in places) < connections_max

    def _is_in_doubt(self, entry: _Entry, now_s: float) -> bool:
        failed_at_s = entry.health.failed_at_s
        return failed_at_s is not None and now_s - failed_at_s < self._doubt_s

    def _arranged(self, tier: str, names: tuple[str, ...], now_s: float) -> tuple[str, ...]:
        return arrange(self._balance.get(tier, "order"), [self._candidate(name, now_s) for name in names], self._random)

    def _candidate(self, name: str, now_s: float) -> Candidate:
        entry = self._entries[name]
        seen = entry.breaker.snapshot(now_s)
        return Candidate(
            name,
            weight=entry.target.weight,
            share=slow_start_share(seen.closed_for_s, self._slow_start_s),
            is_open=seen.state is BreakerState.OPEN,
            in_flight=seen.in_flight,
            latency_s=self.latencies[name].average_s,
            failure_ratio=seen.window_failures / seen.window_calls if seen.window_calls else 0.0,
        )

    def _ready_in_s(self, entry: _Entry, now_s: float) -> float:
        seen = entry.breaker.snapshot(now_s)
        return seen.open_for_s if seen.state is BreakerState.OPEN else RETRY_S

    def _changed(self, target: Target, transition: Transition) -> None:
        change = TargetChange(target, transition)
        for listener in self.subscribers:
            listener(change)
