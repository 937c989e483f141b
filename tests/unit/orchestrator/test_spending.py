"""What a run may spend: one reservation for each sending, the plan's ceiling under it, and what is told at the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.orchestrator.quotas.bound import bound_of
from services.orchestrator.quotas.memory_books import MemoryBooks
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.run import Run
from services.orchestrator.spending import Spending
from services.runtime.clock import FakeClock
from spillway.chat import Usage
from spillway.routing import Attempt, AttemptOutcome, FailedExecution, Plan, PlannedTier
from spillway.settings import Quotas as QuotaSettings
from tests.unit.orchestrator.fakes import Bench, executed
from tests.unit.orchestrator.ladder import request_of

PLAN = Plan((PlannedTier("simple", ("simple-1",)),))


class Till:
    """A budget of a day, and a run that spends of it."""

    def __init__(self, cost_usd: float | None, *, tokens: int | None = None) -> None:
        budgets: list[dict[str, Any]] = []
        if tokens is not None:
            budgets.append({"name": "tokens", "period": "day", "tokens": tokens})
        if cost_usd is not None:
            budgets.append({"name": "day", "period": "day", "cost_usd": cost_usd})
        clock = FakeClock()
        self.quotas = Quotas(
            QuotaSettings.model_validate({"budgets": budgets}), MemoryBooks(clock), clock, run_s_max=120.0
        )
        self.run: Run = Bench().pipeline.begin(request_of(tenant="acme"), remaining_s=30.0)
        self.told: list[asyncio.Task[None]] = []

    def spending(self, plan: Plan = PLAN) -> Spending:
        return Spending(self.quotas, self.run, plan, lambda telling: self.told.append(asyncio.ensure_future(telling)))

    async def standing(self) -> tuple[int, int]:
        await asyncio.gather(*self.told)
        (stands, _), *_ = (await self.quotas.look(Holder("acme"))).values()
        return stands.spent, stands.held


async def test_without_budgets_the_plan_is_as_it_was_and_nobody_is_told() -> None:
    till = Till(None)
    spending = till.spending()
    assert await spending.open() is PLAN
    spending.settle()
    assert till.told == []


async def test_the_smaller_of_the_callers_ceiling_and_the_budgets_holds() -> None:
    budget = (await Till(0.004).spending().open()).cost_nanousd_max
    assert budget == 4_000_000
    assert (await Till(1.0).spending(replace(PLAN, cost_nanousd_max=4_500_000)).open()).cost_nanousd_max == 4_500_000


async def test_what_the_run_came_to_is_told_and_the_rest_is_free_again() -> None:
    till = Till(1.0)
    spending = till.spending()
    await spending.open()
    assert (await till.standing())[1] > 0
    till.run.answered(executed())
    spending.settle()
    assert await till.standing() == (4_350, 0)


async def test_of_a_call_whose_cost_nobody_knows_all_stays_reserved_for_its_lease() -> None:
    till = Till(1.0)
    spending = till.spending()
    await spending.open()
    held = (await till.standing())[1]
    till.run.cost_unknown = True
    spending.settle()
    assert await till.standing() == (0, held)


async def test_a_call_that_is_sent_again_has_a_reservation_of_its_own() -> None:
    till = Till(1.0)
    spending = till.spending()
    await spending.open()
    held = (await till.standing())[1]
    planned = await spending.again()
    assert planned is not None
    assert planned.cost_nanousd_max == held
    assert (await till.standing())[1] == 2 * held
    till.run.answered(executed())
    spending.settle()
    assert await till.standing() == (4_350, held)


async def test_a_budget_that_does_not_pay_twice_ends_a_lost_call_and_is_not_blamed_for_it() -> None:
    till = Till(0.004)
    spending = till.spending()
    await spending.open()
    assert await spending.again() is None
    spending.settle()
    assert await till.standing() == (0, 4_000_000)


def uncounted(outcome: AttemptOutcome, cost_nanousd: int) -> Attempt:
    return Attempt("simple", "simple-1", "m", "p", outcome, cost_nanousd=cost_nanousd)


@pytest.mark.parametrize("outcome", [AttemptOutcome.ACCEPTED, AttemptOutcome.CANCELLED, AttemptOutcome.ERROR])
async def test_a_charged_call_whose_tokens_nobody_counted_has_taken_as_many_as_it_may_have(
    outcome: AttemptOutcome,
) -> None:
    till = Till(None, tokens=100_000)
    spending = till.spending()
    await spending.open()
    till.run.failed = FailedExecution((uncounted(outcome, 900),))
    spending.settle()
    most = bound_of(till.run.request.chat, PLAN, till.run.configured.prices).tokens
    assert await till.standing() == (most, 0)


@pytest.mark.parametrize("outcome", [AttemptOutcome.SKIPPED, AttemptOutcome.THROTTLED, AttemptOutcome.ERROR])
async def test_a_call_that_was_not_charged_takes_no_tokens(outcome: AttemptOutcome) -> None:
    till = Till(None, tokens=100_000)
    spending = till.spending()
    await spending.open()
    till.run.failed = FailedExecution((uncounted(outcome, 0),))
    spending.settle()
    assert await till.standing() == (0, 0)


async def test_what_providers_count_is_what_a_budget_of_tokens_is_charged() -> None:
    till = Till(None, tokens=100_000)
    spending = till.spending()
    await spending.open()
    done = executed()
    counted = tuple(replace(attempt, usage=Usage(11, 4)) for attempt in done.attempts)
    till.run.answered(replace(done, attempts=counted))
    spending.settle()
    assert await till.standing() == (15 * len(counted), 0)
