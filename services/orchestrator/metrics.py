"""What the orchestrator counts.

Promises: labels come from bounded sets: the configured tiers, the kinds of cache outcome, and the reasons of
error.proto (any other reason counts as "OTHER"). What alarms look at is there from the start, at zero, so that the
first loss is seen as one. Without a meter provider every count costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.orchestrator.audits import AuditOutcome
from services.orchestrator.run import Run
from services.runtime.errors import REASONS
from spillway.routing import CacheKind

__all__ = ["RequestMetrics"]

_CANCELLED = 1
_ANSWERED = ("accepted", "unproven")
DROPPED = ("store", "record", "outcome", "audit", "ledger_record", "ledger_grade")
"""Kinds of background work."""


class RequestMetrics:
    """The instruments, made once. Thread-safe."""

    def __init__(self, meter: Meter, tiers: Iterable[str]) -> None:
        self._tiers: frozenset[str] = frozenset()
        self._requests = meter.create_counter("spillway.requests", unit="{request}", description="Requests that ended.")
        self._cost = meter.create_counter(
            "spillway.cost", unit="{nanousd}", description="Spent on requests, all attempts, in nano US dollars."
        )
        self._flagship_cost = meter.create_counter(
            "spillway.flagship_cost", unit="{nanousd}", description="What the flagship would have cost for the same."
        )
        self._escalations = meter.create_counter(
            "spillway.escalations", unit="{escalation}", description="Next tiers tried because of quality."
        )
        self._escalated = meter.create_counter(
            "spillway.requests.escalated",
            unit="{request}",
            description="Of those, the ones that went up a tier or more.",
        )
        self._fallbacks = meter.create_counter(
            "spillway.fallbacks", unit="{fallback}", description="Other targets tried because of availability."
        )
        self._done_without = meter.create_counter(
            "spillway.done_without", unit="{request}", description="Requests that an optional service did not help."
        )
        self._dropped = meter.create_counter(
            "spillway.background.dropped", unit="{item}", description="Stores, records, outcomes and audits given up."
        )
        self._shared = meter.create_counter(
            "spillway.shared", unit="{request}", description="Answered by a request that was the same and under way."
        )
        self._audits = meter.create_counter(
            "spillway.audits", unit="{audit}", description="Cached answers for which a model was to be asked as well."
        )
        self._audit_cost = meter.create_counter(
            "spillway.audit_cost", unit="{nanousd}", description="Spent on audits, charged to no request."
        )
        self._count_from_zero(("none",))
        self.reconfigure(tiers)
        for kind in DROPPED:
            self._dropped.add(0, {"kind": kind})
        for service in ("cache", "classifier"):
            self._done_without.add(0, {"service": service})
        for outcome in AuditOutcome:
            self._audits.add(0, {"outcome": outcome.value})
        self._shared.add(0)
        self._audit_cost.add(0)
        self._meter = meter

    def reconfigure(self, tiers: Iterable[str]) -> None:
        """The tiers from now on; those that are new count from zero."""
        names = frozenset(tiers)
        self._count_from_zero(sorted(names - self._tiers))
        for tier in sorted(names - self._tiers):
            for outcome in _ANSWERED:
                for kind in CacheKind:
                    self._requests.add(0, {"outcome": outcome, "tier": tier, "cache": kind.value})
        self._tiers = names

    def watch(self, waiting: Mapping[str, Callable[[], int]]) -> None:
        """Shows how much waits or is under way, by kind: numbers that may be read by another thread. Once."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(read(), {"kind": kind}) for kind, read in waiting.items()]

        self._meter.create_observable_gauge(
            "spillway.background.waiting", [observe], unit="{item}", description="Work of requests that were answered."
        )

    def ended(self, run: Run) -> None:
        """Counts one request that has ended."""
        done = run.completion
        tier = self._tier(done.tier) if done else "none"
        self._requests.add(1, {"outcome": _outcome(run), "tier": tier, "cache": run.cache.kind.value})
        if run.replayed:
            return  # what it cost was counted when it was answered
        if run.shared:
            self._shared.add(1)
        for service in run.degraded:
            self._done_without.add(1, {"service": service})
        if done is not None or run.failed is not None:
            labels = {"tier": tier}
            self._cost.add(run.cost.cost_nanousd, labels)
            self._flagship_cost.add(run.cost.flagship_cost_nanousd, labels)
            self._escalations.add(run.execution_done.escalations, labels)
            self._fallbacks.add(run.execution_done.fallbacks, labels)
            if run.execution_done.escalations:
                self._escalated.add(1, labels)

    def dropped(self, kind: str, count: int = 1) -> None:
        """Counts background work that was given up; `kind` is one of DROPPED."""
        self._dropped.add(count, {"kind": kind})

    def audited(self, outcome: AuditOutcome, cost_nanousd: int) -> None:
        """Counts one audit, whatever became of it."""
        self._audits.add(1, {"outcome": outcome.value})
        self._audit_cost.add(cost_nanousd)

    def _count_from_zero(self, tiers: Iterable[str]) -> None:
        for tier in tiers:
            for counter in (self._cost, self._flagship_cost, self._escalations, self._escalated, self._fallbacks):
                counter.add(0, {"tier": tier})

    def _tier(self, name: str) -> str:
        # A cached answer may name a tier that the configuration no longer has.
        return name if name in self._tiers else "other"


def _outcome(run: Run) -> str:
    if run.status_code == 0:
        return "accepted" if run.completion is not None and run.completion.accepted else "unproven"
    if run.status_code == _CANCELLED:
        return "CANCELLED"
    return run.error_reason if run.error_reason in REASONS else "OTHER"
