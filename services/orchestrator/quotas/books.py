"""What the books of quotas are asked and what they answer: plain values, and the Protocol of both implementations.

Promises of every implementation (tests/contract/orchestrator/test_books.py):
- an order is granted whole or changes nothing: all its budgets and rates in one step, whoever else asks at that time;
- in no window more is spent and held than the limit, as long as nobody spends more than was granted;
- money is granted in part when a budget has less than the order's `cost_nanousd`, but never less than
  `least_cost_nanousd`; tokens are granted whole or not at all;
- settling puts what was really spent in the place of what was held, once per run however often it is said, in the
  window in which it was granted; what was spent beyond the grant counts in full;
- a run that is not settled when its lease ends is taken for dead and charged in full, since nobody knows what it spent.
  Should it be alive and settle later, that is put right;
- rates: after `per_minute` units at once, one becomes free every minute / `per_minute`. Tokens that were asked for and
  not used are given back. An order of more than a minute's worth counts as a minute's worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from services.orchestrator.quotas.windows import Period

__all__ = [
    "Books",
    "BooksUnavailableError",
    "BudgetLine",
    "Granted",
    "Order",
    "RateLine",
    "Refused",
    "Spent",
    "Standing",
]


class BooksUnavailableError(Exception):
    """They cannot be asked now. Whether what was asked was carried out is not known."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget that an order is charged to. `holder` tells apart who has one of his own inside the tenant.

    `limit` is in nano US dollars or tokens, as `measure` says.
    """

    name: str
    holder: str
    period: Period
    measure: Literal["cost", "tokens"]
    limit: int


@dataclass(frozen=True, slots=True)
class RateLine:
    """A rate that an order counts against."""

    name: str
    holder: str
    measure: Literal["requests", "tokens"]
    per_minute: int


@dataclass(frozen=True, slots=True)
class Order:
    """One run of one request. `tenant` is a hash; `run` is new for every run; the lease is in seconds, above 0.

    Without a `run`, and then without budgets, it is over at once: nothing is remembered of it, nothing to be settled.
    `rate_tokens` count against rates, `tokens` and the money against budgets.
    """

    tenant: str
    run: str
    cost_nanousd: int
    least_cost_nanousd: int
    tokens: int
    rate_tokens: int
    lease_s: float
    budgets: tuple[BudgetLine, ...] = ()
    rates: tuple[RateLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """`cost_nanousd` is what may be spent; of no meaning without a budget of money.

    `starts_s` are the starts of the windows, in the order of the budgets, and `used` their spent and held shares of the
    limit, this order included.
    """

    cost_nanousd: int
    starts_s: tuple[int, ...] = ()
    used: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was taken. `quota` is the name of what refuses; without `retry_after_s` it always will."""

    kind: Literal["budget", "rate"]
    quota: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run came to. `tokens` are those of every attempt."""

    cost_nanousd: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget in its present window. `spent` and `held` are in the unit of its limit."""

    spent: int
    held: int


class Books(Protocol):
    """Safe for many callers at once on one event loop. Every method raises BooksUnavailableError."""

    async def reserve(self, order: Order) -> Granted | Refused:
        """All or nothing."""
        ...

    async def settle(self, order: Order, granted: Granted | None, spent: Spent) -> bool:
        """What became of a run; may be said again. False when it was settled before.

        Without a grant (the order's answer never came) what was spent counts in the present windows, and what the order
        may have reserved is let go, even if it has yet to arrive.
        """
        ...

    async def look(self, tenant: str, budgets: tuple[BudgetLine, ...]) -> tuple[Standing, ...]:
        """How budgets stand now, leases that have ended charged."""
        ...

    async def close(self) -> None:
        """Nothing is asked any more."""
        ...
