"""The books of one process, in its memory.

Promises: as `books` says. Bounded: windows and runs are forgotten when nobody can ask for them any more, and beyond
`WINDOWS_MAX` of them nothing new is granted (BooksUnavailableError) until some are.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from services.orchestrator.quotas.books import (
    BooksUnavailableError,
    BudgetLine,
    Granted,
    Order,
    RateLine,
    Refused,
    Spent,
    Standing,
)
from services.orchestrator.quotas.windows import Window, window_at
from services.runtime.clock import Clock

__all__ = ["KEEP_S", "MINUTE_S", "WINDOWS_MAX", "MemoryBooks"]

KEEP_S: Final = 3_600.0
"""How long a run is remembered after its lease or its settling: settling it again within that time changes nothing."""
MINUTE_S: Final = 60.0
WINDOWS_MAX: Final = 1_000_000
_ROUNDING_S: Final = 1e-6

_WindowKey = tuple[str, str, str, str, str, int]
_RateKey = tuple[str, str, str, str]


@dataclass(slots=True)
class _Count:
    spent: int = 0
    held: int = 0


@dataclass(slots=True)
class _Run:
    """`held` are (window, amount); `state` is open, charged or settled."""

    held: tuple[tuple[_WindowKey, int], ...]
    state: str = "open"


class MemoryBooks:
    """For one process. No method waits, so each is one step. Times are those of the clock, since 1970."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[_WindowKey, _Count] = {}
        self._runs: dict[tuple[str, str], _Run] = {}
        self._rates: dict[_RateKey, float] = {}  # the theoretical arrival time of the next unit
        self._leases: list[tuple[float, str, str]] = []
        self._open: dict[str, dict[str, float]] = {}  # of each tenant: runs with the end of their lease
        self._ends: list[tuple[float, int, _WindowKey | tuple[str, str]]] = []  # when what may be forgotten
        self._numbered = 0
        self._sweep_at_s = 0.0

    async def reserve(self, order: Order) -> Granted | Refused:
        now_s = self._begin()
        if (order.tenant, order.run) in self._runs:
            raise BooksUnavailableError("the run was settled before its order came")
        refused = self._too_fast(order, now_s)
        if refused is not None:
            return refused
        windows = [window_at(line.period, now_s) for line in order.budgets]
        keys = [_key(order.tenant, line, window.start_s) for line, window in zip(order.budgets, windows, strict=True)]
        counts = [self._windows.get(key) or _Count() for key in keys]
        cost = order.cost_nanousd
        for line, count in zip(order.budgets, counts, strict=True):
            if line.measure == "cost":
                cost = min(cost, max(0, line.limit - count.spent - count.held))
        refused = self._too_much(order, windows, counts, now_s)
        if refused is not None:
            return refused
        if len(self._windows) + len(self._rates) + len(self._runs) >= WINDOWS_MAX:
            raise BooksUnavailableError("too many windows, rates and runs are kept")
        for rate in order.rates:
            units = min(_units(order, rate), rate.per_minute)
            rate_key = (order.tenant, rate.name, rate.holder, rate.measure)
            self._rates[rate_key] = max(self._rates.get(rate_key, 0.0), now_s) + units * MINUTE_S / rate.per_minute
        if not order.run:
            return Granted(0)
        held = []
        for key, line, window in zip(keys, order.budgets, windows, strict=True):
            amount = cost if line.measure == "cost" else order.tokens
            self._count(key, window).held += amount
            held.append((key, amount))
        self._runs[order.tenant, order.run] = _Run(tuple(held))
        heapq.heappush(self._leases, (now_s + order.lease_s, order.tenant, order.run))
        self._open.setdefault(order.tenant, {})[order.run] = now_s + order.lease_s
        return Granted(cost, tuple(window.start_s for window in windows), tuple(self._used(order, keys)))

    async def settle(self, order: Order, granted: Granted | None, spent: Spent) -> bool:
        now_s = self._begin()
        run = self._runs.get((order.tenant, order.run))
        if run is not None and run.state == "settled":
            return False
        for key, amount in run.held if run is not None else ():
            if run is not None and run.state == "open":
                self._windows[key].held -= amount
            else:
                self._windows[key].spent -= amount
        for index, line in enumerate(order.budgets):
            window = window_at(line.period, now_s if granted is None else granted.starts_s[index])
            count = self._count(_key(order.tenant, line, window.start_s), window)
            count.spent += spent.cost_nanousd if line.measure == "cost" else spent.tokens
        for rate in order.rates if run is not None else ():
            if rate.measure == "tokens":
                unused = min(order.rate_tokens, rate.per_minute) - spent.tokens
                rate_key = (order.tenant, rate.name, rate.holder, rate.measure)
                arrival_s = max(self._rates.get(rate_key, 0.0), now_s if unused < 0 else 0.0)
                self._rates[rate_key] = arrival_s - unused * MINUTE_S / rate.per_minute
        if run is None:
            run = self._runs[order.tenant, order.run] = _Run(())
        self._close(order.tenant, order.run)
        run.state = "settled"
        self._forget_at(now_s + KEEP_S, (order.tenant, order.run))
        return True

    async def look(self, tenant: str, budgets: tuple[BudgetLine, ...]) -> tuple[Standing, ...]:
        now_s = self._begin()
        keys = [_key(tenant, line, window_at(line.period, now_s).start_s) for line in budgets]
        counts = [self._windows.get(key) or _Count() for key in keys]
        return tuple(Standing(count.spent, count.held) for count in counts)

    async def close(self) -> None:
        """Nothing is open."""

    def _begin(self) -> float:
        """Charges the leases that have ended, and forgets what is over."""
        now_s = self._clock.unix()
        while self._leases and self._leases[0][0] <= now_s:
            _, tenant, run_id = heapq.heappop(self._leases)
            run = self._runs.get((tenant, run_id))
            if run is None or run.state != "open":
                continue
            for key, amount in run.held:
                self._windows[key].held -= amount
                self._windows[key].spent += amount
            self._close(tenant, run_id)
            run.state = "charged"
            self._forget_at(now_s + KEEP_S, (tenant, run_id))
        while self._ends and self._ends[0][0] <= now_s:
            self._forget(heapq.heappop(self._ends)[2], now_s)
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + MINUTE_S
            self._rates = {key: arrival_s for key, arrival_s in self._rates.items() if arrival_s > now_s}
        return now_s

    def _forget_at(self, when_s: float, what: _WindowKey | tuple[str, str]) -> None:
        self._numbered += 1
        heapq.heappush(self._ends, (when_s, self._numbered, what))

    def _forget(self, what: _WindowKey | tuple[str, str], now_s: float) -> None:
        if len(what) == 2:
            self._runs.pop(what, None)
        elif what in self._windows and self._windows[what].held == 0:
            del self._windows[what]
        elif what in self._windows:
            self._forget_at(now_s + KEEP_S, what)

    def _count(self, key: _WindowKey, window: Window) -> _Count:
        count = self._windows.get(key)
        if count is None:
            count = self._windows[key] = _Count()
            self._forget_at(max(window.end_s, self._clock.unix()) + KEEP_S, key)
        return count

    def _too_fast(self, order: Order, now_s: float) -> Refused | None:
        slowest: Refused | None = None
        for rate in order.rates:
            arrival_s = max(self._rates.get((order.tenant, rate.name, rate.holder, rate.measure), 0.0), now_s)
            units = min(_units(order, rate), rate.per_minute)
            wait_s = arrival_s + units * MINUTE_S / rate.per_minute - now_s - MINUTE_S
            if wait_s > _ROUNDING_S and (slowest is None or wait_s > (slowest.retry_after_s or 0.0)):
                slowest = Refused("rate", rate.name, wait_s)
        return slowest

    def _too_much(self, order: Order, windows: list[Window], counts: list[_Count], now_s: float) -> Refused | None:
        longest: Refused | None = None
        for line, window, count in zip(order.budgets, windows, counts, strict=True):
            needed = order.least_cost_nanousd if line.measure == "cost" else order.tokens
            if needed <= max(0, line.limit - count.spent - count.held):
                continue
            if needed > line.limit:
                return Refused("budget", line.name, None)
            wait_s = window.end_s - now_s
            if needed <= line.limit - count.spent:  # only what is held stands in the way
                wait_s = min(wait_s, self._next_lease_s(order.tenant, now_s))
            if longest is None or wait_s > (longest.retry_after_s or 0.0):
                longest = Refused("budget", line.name, wait_s)
        return longest

    def _next_lease_s(self, tenant: str, now_s: float) -> float:
        return min(self._open.get(tenant, {}).values(), default=now_s) - now_s

    def _close(self, tenant: str, run_id: str) -> None:
        """The run holds nothing any more."""
        runs = self._open.get(tenant, {})
        runs.pop(run_id, None)
        if not runs:
            self._open.pop(tenant, None)

    def _used(self, order: Order, keys: list[_WindowKey]) -> list[float]:
        counts = [self._windows[key] for key in keys]
        return [(n.spent + n.held) / line.limit for n, line in zip(counts, order.budgets, strict=True)]


def _key(tenant: str, line: BudgetLine, start_s: int) -> _WindowKey:
    return (tenant, line.name, line.holder, line.period, line.measure, start_s)


def _units(order: Order, rate: RateLine) -> int:
    return 1 if rate.measure == "requests" else order.rate_tokens
