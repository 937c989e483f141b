"""What quotas and keys count. Labels are names of the configuration and members of fixed sets."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from spillway.settings import Quotas

__all__ = ["QuotaMetrics"]

_SHARES = [0.0, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99, 1.0, 1.25, 2.0]


class QuotaMetrics:
    """The instruments of `spillway.quotas`."""

    def __init__(self, meter: Meter) -> None:
        self._refused = meter.create_counter(
            "spillway.quotas.refused", unit="{request}", description="Requests that a budget or a rate turned away."
        )
        self._without = meter.create_counter(
            "spillway.quotas.without", unit="{request}", description="While quotas could not be asked: passed, refused."
        )
        self._used = meter.create_histogram(
            "spillway.quotas.used_ratio",
            unit="1",
            description="Share of a budget that is spent and held, at each request.",
            explicit_bucket_boundaries_advisory=_SHARES,
        )
        self._overspent = meter.create_counter(
            "spillway.quotas.overspent", unit="{nanousd}", description="Spent beyond what was granted."
        )
        self._unsettled = meter.create_counter(
            "spillway.quotas.unsettled", unit="{request}", description="Never settled here: their leases are charged."
        )
        self._bad_files = meter.create_counter(
            "spillway.keys.refused", unit="{file}", description="Changes of the keys' file that could not be used."
        )
        self._bad_files.add(0)
        for outcome in ("passed", "refused"):
            self._without.add(0, {"outcome": outcome})
        self._overspent.add(0)
        self._unsettled.add(0)

    def follow(self, settings: Quotas) -> None:
        """These are the quotas from now on: the first refusal of each is to be seen as one."""
        for kind, quotas in (("budget", settings.budgets), ("rate", settings.rates)):
            for quota in quotas:
                self._refused.add(0, {"kind": kind, "quota": quota.name})

    def refused(self, kind: str, quota: str) -> None:
        """A request was turned away; `kind` is budget or rate, `quota` its configured name."""
        self._refused.add(1, {"kind": kind, "quota": quota})

    def without(self, outcome: str) -> None:
        """Quotas could not be asked; `outcome` is passed or refused."""
        self._without.add(1, {"outcome": outcome})

    def used(self, budget: str, ratio: float) -> None:
        """How much of a budget is spent and held."""
        self._used.record(ratio, {"budget": budget})

    def overspent(self, cost_nanousd: int) -> None:
        """A run spent more than it was granted."""
        self._overspent.add(cost_nanousd)

    def unsettled(self) -> None:
        """What a run spent could not be told."""
        self._unsettled.add(1)

    def bad_keys(self) -> None:
        """The keys' file was changed into one that cannot be used; the old keys stay in force."""
        self._bad_files.add(1)
