"""What tenants and keys may spend, and how fast they may ask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from spillway.settings.section import Name, Section

__all__ = ["Budget", "Quotas", "Rate"]

EACH = "*"
"""As a tenant or a key of a budget or a rate: each has one of its own."""


class _Holder(Section):
    """Whose it is. A key belongs to a tenant, so a quota of one key needs no tenant."""

    name: Name
    tenant: str = Field(EACH, max_length=128, description='"*": each tenant has one of its own.')
    key: str = Field("", max_length=64, description='The id of an API key, "*" for each its own; empty: the tenant\'s.')


class Budget(_Holder):
    """The most that may be spent in each period. Periods are those of the calendar, in UTC."""

    period: Literal["minute", "hour", "day", "month"]
    cost_usd: float | None = Field(None, gt=0, le=1e9)
    tokens: int | None = Field(None, gt=0, le=10**15, description="Input and output, of every attempt.")

    @model_validator(mode="after")
    def _one_measure(self) -> Budget:
        if (self.cost_usd is None) is (self.tokens is None):
            raise ValueError("needs either cost_usd or tokens")
        return self


class Rate(_Holder):
    """How fast requests and tokens may come; what was not used in a minute may come at once, and no more."""

    requests_per_minute: int | None = Field(None, ge=1, le=10**9)
    tokens_per_minute: int | None = Field(None, ge=1, le=10**12, description="Input, and the most that may come out.")

    @model_validator(mode="after")
    def _any_measure(self) -> Rate:
        if self.requests_per_minute is None and self.tokens_per_minute is None:
            raise ValueError("needs requests_per_minute or tokens_per_minute")
        return self


class Quotas(Section):
    """Budgets and rates. Shared by replicas through orchestrator.redis_url; without it each process has its own."""

    budgets: list[Budget] = Field([], max_length=200)
    rates: list[Rate] = Field([], max_length=200)
    when_unavailable: Literal["open", "closed"] = Field(
        "open", description="While budgets and rates cannot be asked: let requests pass (and count them), or refuse."
    )
