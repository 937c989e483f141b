"""Who may spend how much, asked once before a request's models are, and told once afterwards.

Promises: nothing is asked of anybody when nothing is configured for the holder. What is granted is a ceiling for the
executor, so models that keep to their limits never exceed a budget of money, whatever crashes. What was spent is told
until the books have it, also when the caller has left: at most `UNTOLD_MAX` at a time, for `TELL_S_MAX`; what is lost
beyond that, or with this process, the lease charges in full. While the books cannot be asked requests pass or are
refused, as configured, and are counted; what passed is told too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from services.orchestrator.quotas.books import (
    Books,
    BooksUnavailableError,
    BudgetLine,
    Granted,
    Order,
    RateLine,
    Refused,
    Spent,
    Standing,
)
from services.orchestrator.quotas.bound import Bound
from services.orchestrator.quotas.errors import BudgetExhausted, QuotaExceeded, RateLimited
from services.orchestrator.quotas.metrics import QuotaMetrics
from services.runtime.clock import Clock
from services.runtime.errors import Unavailable
from services.runtime.logs import get_logger
from spillway.settings import Budget, Rate
from spillway.settings import Quotas as QuotaSettings

__all__ = ["TELL_S_MAX", "UNTOLD_MAX", "Holder", "Quotas", "Reservation"]

UNTOLD_MAX: Final = 10_000
TELL_S_MAX: Final = 1_800.0  # well below the time for which the books remember a run
_TELL_AGAIN_S: Final = 1.0
_LEASE_MARGIN_S: Final = 30.0  # beyond the longest request: for what comes around it
_NANO: Final = 1_000_000_000
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who spends. `key_id` is empty without API keys."""

    tenant: str
    key_id: str = ""


class Reservation:
    """What one run of a request may spend. Settle it once, whatever becomes of the request."""

    def __init__(self, quotas: Quotas, order: Order | None, granted: Granted | None, ceiling: int | None) -> None:
        self._quotas = quotas
        self._order = order
        self._granted = granted
        self._is_settled = False
        self.cost_nanousd_max = ceiling
        """The ceiling for the plan, above 0; None: the plan's own is enough."""

    async def settle(self, cost_nanousd: int, tokens: int) -> None:
        """What the run came to, all attempts counted; (0, 0) when no model was asked. Raises nothing.

        Says it at once, and later again if the books do not answer; the second call and every further one do nothing.
        """
        if self._is_settled or self._order is None:
            return
        self._is_settled = True
        if self.cost_nanousd_max is not None and cost_nanousd > self.cost_nanousd_max:
            self._quotas.overspent(cost_nanousd - self.cost_nanousd_max)
        await self._quotas.tell(self._order, self._granted, Spent(cost_nanousd, tokens))


@dataclass(frozen=True, slots=True)
class _Untold:
    order: Order
    granted: Granted | None
    spent: Spent
    since_s: float


class Quotas:
    """For one process, on one event loop. `run_s_max` is how long the longest request may take.

    Raises ValueError when two quotas have one name.
    """

    def __init__(
        self,
        settings: QuotaSettings,
        books: Books,
        clock: Clock,
        *,
        run_s_max: float,
        metrics: QuotaMetrics | None = None,
    ) -> None:
        names = [quota.name for quota in (*settings.budgets, *settings.rates)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"quotas: more than one is called {', '.join(twice)}")
        self._settings = settings
        self._books = books
        self._clock = clock
        self._lease_s = run_s_max + _LEASE_MARGIN_S
        self._metrics = metrics
        if metrics is not None:
            metrics.follow(settings)
        self._untold: dict[str, _Untold] = {}
        self._telling: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is configured at all."""
        return not self._settings.budgets and not self._settings.rates

    @property
    def untold(self) -> int:
        """How many runs the books have yet to be told of."""
        return len(self._untold)

    def reconfigure(self, settings: QuotaSettings) -> None:
        """Other budgets and rates from now on; what is under way is settled by those under which it was granted."""
        self._settings = settings
        if self._metrics is not None:
            self._metrics.follow(settings)

    async def enter(self, holder: Holder) -> None:
        """Counts a request against the rates of requests, whoever will answer it. Raises RateLimited, Unavailable."""
        rates = tuple(line for line in self._rate_lines(holder) if line.measure == "requests")
        if not rates:
            return
        order = Order(_hash(holder.tenant), "", 0, 0, 0, 0, 0.0, rates=rates)
        try:
            answer = await self._books.reserve(order)
        except BooksUnavailableError as error:
            self._pass_or_refuse(error)
            return
        if isinstance(answer, Refused):
            raise self._refused(answer)

    async def admit(
        self, holder: Holder, reservation_id: str, bound: Bound, *, run_s_max: float | None = None
    ) -> Reservation:
        """Leave to spend up to `bound` or what is left of the budgets, and the ceiling for it. It counts no request.

        `reservation_id` names the request; every run of it is a reservation of its own, for whatever an earlier one was
        doing when it was lost may be paid for. `run_s_max` is for a run that may take longer than most. Raises
        BudgetExhausted, RateLimited, and Unavailable (QUOTA_UNAVAILABLE).
        """
        budgets = self._budget_lines(holder)
        rates = tuple(line for line in self._rate_lines(holder) if line.measure == "tokens")
        if not budgets and not rates:
            return Reservation(self, None, None, None)
        order = Order(
            tenant=_hash(holder.tenant),
            run=f"{_hash(reservation_id)}-{secrets.token_hex(6)}",
            cost_nanousd=bound.cost_nanousd,
            least_cost_nanousd=bound.least_cost_nanousd,
            tokens=bound.tokens,
            rate_tokens=bound.rate_tokens or bound.tokens,
            lease_s=self._lease_s if run_s_max is None else run_s_max + _LEASE_MARGIN_S,
            budgets=budgets,
            rates=rates,
        )
        try:
            answer = await self._books.reserve(order)
        except BooksUnavailableError as error:
            self._pass_or_refuse(error, order)
            return Reservation(self, order, None, None)
        except asyncio.CancelledError:
            self._let_go(order)
            raise
        if isinstance(answer, Refused):
            raise self._refused(answer)
        for line, used in zip(budgets, answer.used, strict=True):
            if self._metrics is not None:
                self._metrics.used(line.name, used)
        is_bounded = bound.cost_nanousd > 0 and any(line.measure == "cost" for line in budgets)
        return Reservation(self, order, answer, max(answer.cost_nanousd, 1) if is_bounded else None)

    async def look(self, holder: Holder) -> dict[str, tuple[Standing, int]]:
        """How each budget of the holder stands, with its limit, by name. Raises Unavailable (QUOTA_UNAVAILABLE)."""
        lines = self._budget_lines(holder)
        try:
            standings = await self._books.look(_hash(holder.tenant), lines) if lines else ()
        except BooksUnavailableError as error:
            raise _unavailable(error) from error
        return {line.name: (standing, line.limit) for line, standing in zip(lines, standings, strict=True)}

    async def tell(self, order: Order, granted: Granted | None, spent: Spent) -> None:
        """Tells the books what a run came to; raises nothing."""
        untold = _Untold(order, granted, spent, self._clock.monotonic())
        is_kept = self._keep(untold)
        if await self._told(untold):
            self._untold.pop(order.run, None)
        elif not is_kept:
            self._lost()

    async def close(self, timeout_s: float) -> None:
        """Tells what there is to tell, within `timeout_s`; then closes the books."""
        if self._telling is not None:  # first, for after an outage the books answer one call at a time
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.tell_all_once()
        for _ in self._untold:
            self._lost()
        await self._books.close()

    def overspent(self, cost_nanousd: int) -> None:
        """Counts what a run spent beyond its grant."""
        _log.warning("budget_overspent", cost_nanousd=cost_nanousd)
        if self._metrics is not None:
            self._metrics.overspent(cost_nanousd)

    def _keep(self, untold: _Untold) -> bool:
        """Remembers what is to be told, and sees to it that it is; False when there is no room."""
        if len(self._untold) >= UNTOLD_MAX:
            return False
        self._untold[untold.order.run] = untold
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_all(), name="quotas-telling")
        return True

    def _let_go(self, order: Order) -> None:
        """Of an order whose answer did not come, should it have been carried out all the same."""
        if not self._keep(_Untold(order, None, Spent(0, 0), self._clock.monotonic())):
            self._lost()

    async def _tell_all(self) -> None:
        """Until there is nothing left to tell."""
        while self._untold:
            await self._clock.sleep(_TELL_AGAIN_S)
            await self.tell_all_once()

    async def tell_all_once(self) -> None:
        """Tells everything that is still to be told; what cannot be told now is kept."""
        for untold in list(self._untold.values()):
            if untold.order.run in self._untold:
                await self._tell_one(untold)

    async def _tell_one(self, untold: _Untold) -> None:
        is_old = self._clock.monotonic() - untold.since_s > TELL_S_MAX
        if is_old:
            self._lost()
        if is_old or await self._told(untold):
            self._untold.pop(untold.order.run, None)

    async def _told(self, untold: _Untold) -> bool:
        try:
            await self._books.settle(untold.order, untold.granted, untold.spent)
        except BooksUnavailableError:
            return False
        return True

    def _lost(self) -> None:
        if self._metrics is not None:
            self._metrics.unsettled()

    def _pass_or_refuse(self, error: BooksUnavailableError, order: Order | None = None) -> None:
        """What is configured for while the books cannot be asked."""
        is_open = self._settings.when_unavailable == "open"
        if self._metrics is not None:
            self._metrics.without("passed" if is_open else "refused")
        if is_open:
            return
        if order is not None:
            self._let_go(order)
        raise _unavailable(error) from error

    def _refused(self, answer: Refused) -> QuotaExceeded:
        if self._metrics is not None:
            self._metrics.refused(answer.kind, answer.quota)
        if answer.kind == "budget":
            return BudgetExhausted(answer.quota, answer.retry_after_s)
        return RateLimited(answer.quota, answer.retry_after_s)

    def _budget_lines(self, holder: Holder) -> tuple[BudgetLine, ...]:
        return tuple(
            BudgetLine(
                budget.name,
                _holder(budget, holder),
                budget.period,
                "tokens" if budget.tokens is not None else "cost",
                budget.tokens if budget.tokens is not None else round((budget.cost_usd or 0.0) * _NANO),
            )
            for budget in self._settings.budgets
            if _is_of(budget, holder)
        )

    def _rate_lines(self, holder: Holder) -> tuple[RateLine, ...]:
        lines = []
        for rate in self._settings.rates:
            if not _is_of(rate, holder):
                continue
            whose = _holder(rate, holder)
            if rate.requests_per_minute is not None:
                lines.append(RateLine(rate.name, whose, "requests", rate.requests_per_minute))
            if rate.tokens_per_minute is not None:
                lines.append(RateLine(rate.name, whose, "tokens", rate.tokens_per_minute))
        return tuple(lines)


def _unavailable(error: BooksUnavailableError) -> Unavailable:
    public = "budgets and rates cannot be asked"
    return Unavailable("QUOTA_UNAVAILABLE", public, retry_after_s=1.0, detail=str(error))


def _is_of(quota: Budget | Rate, holder: Holder) -> bool:
    """Whether the quota is one of the holder's."""
    if quota.tenant not in {"*", holder.tenant}:
        return False
    return not quota.key or (bool(holder.key_id) and quota.key in {"*", holder.key_id})


def _holder(quota: Budget | Rate, holder: Holder) -> str:
    return _hash(holder.key_id) if quota.key else "tenant"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
