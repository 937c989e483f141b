"""What one run may spend: the reservation of its tenant's budgets, and the plan whose ceiling it is.

Promises: a plan is executed under one reservation once. When a call of it is lost with its executor, nobody knows what
was spent: that reservation is left to its lease, which charges all of it, and the call is sent again under a new one,
or not at all when the budgets do not allow that: then the caller hears of the loss, and not of budgets, for the first
sending was within them. What a run came to is settled however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace

from services.orchestrator.quotas.bound import bound_of, tokens_spent
from services.orchestrator.quotas.errors import QuotaExceeded
from services.orchestrator.quotas.quotas import Holder, Quotas, Reservation
from services.orchestrator.run import Run
from spillway.routing import Plan

__all__ = ["Spending"]


class Spending:
    """For one run. `open` first, `settle` last; `again` in between. `start` runs a coroutine to its end."""

    def __init__(
        self, quotas: Quotas, run: Run, plan: Plan, start: Callable[[Coroutine[None, None, None]], None]
    ) -> None:
        self._quotas = quotas
        self._run = run
        self._plan = plan
        self._start = start
        self._reservation: Reservation | None = None

    async def open(self) -> Plan:
        """The plan to execute. Raises BudgetExhausted, RateLimited, Unavailable."""
        if self._quotas.is_empty:
            return self._plan
        run = self._run
        with run.hop("quotas"):
            self._reservation = await self._quotas.admit(
                Holder(run.request.tenant, run.key_id),
                run.request_id,
                bound_of(run.request.chat, self._plan, run.configured.prices),
                run_s_max=run.remaining_s,
            )
        ceilings = (self._plan.cost_nanousd_max, self._reservation.cost_nanousd_max)
        return replace(self._plan, cost_nanousd_max=min((each for each in ceilings if each is not None), default=None))

    async def again(self) -> Plan | None:
        """The plan for a call that was lost and is sent again; None when quotas do not allow it. Raises Unavailable."""
        self._reservation = None
        try:
            return await self.open()
        except QuotaExceeded:
            return None

    def settle(self) -> None:
        """Tells what the run came to. Returns at once."""
        run = self._run
        if self._reservation is not None and not run.cost_unknown:
            tokens = tokens_spent(run.request.chat, self._plan, run.execution_done.attempts, run.configured.prices)
            self._start(self._reservation.settle(run.cost.cost_nanousd, tokens))
