"""Who may spend how much: which budgets count for whom, and what happens around the books."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.orchestrator.quotas.books import BooksUnavailableError, Granted, Order, Refused, Spent
from services.orchestrator.quotas.bound import Bound
from services.orchestrator.quotas.errors import BudgetExhausted, RateLimited
from services.orchestrator.quotas.memory_books import MemoryBooks
from services.orchestrator.quotas.metrics import QuotaMetrics
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.runtime.clock import FakeClock
from services.runtime.errors import SpillwayError
from spillway.settings import Quotas as QuotaSettings
from tests.support.metric_points import Meters

CENT = 10_000_000
BOUND = Bound(cost_nanousd=2 * CENT, tokens=100, least_cost_nanousd=CENT, rate_tokens=50)
ACME = Holder("acme", "k1")


class Books(MemoryBooks):
    """Books that can be away, with or without having done what was asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.loses_answers = False
        self.hangs = False
        self.told = 0

    async def reserve(self, order: Order) -> Granted | Refused:
        if self.is_away:
            raise BooksUnavailableError("away")
        answer = await super().reserve(order)
        if self.loses_answers:
            raise BooksUnavailableError("late")
        return answer

    async def settle(self, order: Order, granted: Granted | None, spent: Spent) -> bool:
        self.told += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_away:
            raise BooksUnavailableError("away")
        return await super().settle(order, granted, spent)


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.books = Books(self.clock)
        self.meters = Meters()
        metrics = QuotaMetrics(self.meters.meter)
        config = QuotaSettings.model_validate(settings)
        self.quotas = Quotas(config, self.books, self.clock, run_s_max=60, metrics=metrics)

    async def standing(self, budget: str, holder: Holder = ACME) -> tuple[int, int]:
        seen, _ = (await self.quotas.look(holder))[budget]
        return seen.spent, seen.held


def budget(name: str = "b", cents: float = 10, **fields: Any) -> dict[str, Any]:
    return {"name": name, "period": "day", "cost_usd": cents / 100, **fields}


async def test_without_quotas_nobody_is_asked() -> None:
    world = World()
    world.books.is_away = True
    assert world.quotas.is_empty
    await world.quotas.enter(ACME)
    reservation = await world.quotas.admit(ACME, "r", BOUND)
    assert reservation.cost_nanousd_max is None
    await reservation.settle(5, 5)
    assert world.books.told == 0


@pytest.mark.parametrize(
    ("fields", "holders"),
    [
        ({}, [ACME, Holder("acme", "k2"), Holder("acme"), Holder("other")]),
        ({"tenant": "acme"}, [ACME, Holder("acme", "k2"), Holder("acme")]),
        ({"key": "*"}, [ACME, Holder("acme", "k2")]),
        ({"key": "k1"}, [ACME]),
        ({"tenant": "other", "key": "k1"}, []),
    ],
)
async def test_a_budget_counts_for_whom_it_is_configured(fields: dict[str, Any], holders: list[Holder]) -> None:
    world = World(budgets=[budget(**fields)])
    for holder in (ACME, Holder("acme", "k2"), Holder("acme"), Holder("other")):
        reservation = await world.quotas.admit(holder, "r", BOUND)
        assert (reservation.cost_nanousd_max is not None) is (holder in holders)


async def test_each_has_one_of_its_own() -> None:
    world = World(budgets=[budget("tenants", 4), budget("keys", 2, key="*")])
    await world.quotas.admit(ACME, "1", BOUND)
    await world.quotas.admit(Holder("other", "k1"), "1", BOUND)
    with pytest.raises(BudgetExhausted) as caught:
        await world.quotas.admit(ACME, "2", BOUND)
    assert caught.value.metadata == (("quota", "keys"),)
    await world.quotas.admit(Holder("acme", "k2"), "1", BOUND)
    with pytest.raises(BudgetExhausted) as caught:
        await world.quotas.admit(Holder("acme", "k3"), "1", BOUND)
    assert caught.value.metadata == (("quota", "tenants"),)


async def test_an_exhausted_budget_is_resource_exhausted_with_the_time_to_retry() -> None:
    world = World(budgets=[budget(cents=2)])
    await (await world.quotas.admit(ACME, "1", BOUND)).settle(2 * CENT, 10)
    with pytest.raises(BudgetExhausted) as caught:
        await world.quotas.admit(ACME, "2", BOUND)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED")
    assert caught.value.retry_after_s == 86_400 - world.clock.unix() % 86_400


async def test_requests_are_counted_at_the_door_and_tokens_when_they_are_known() -> None:
    world = World(rates=[{"name": "r", "requests_per_minute": 2, "tokens_per_minute": 60}])
    await world.quotas.enter(ACME)
    await world.quotas.enter(ACME)
    with pytest.raises(RateLimited) as caught:
        await world.quotas.enter(ACME)
    assert caught.value.retry_after_s == pytest.approx(30)
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    with pytest.raises(RateLimited):
        await world.quotas.admit(ACME, "2", BOUND)
    await reservation.settle(1, 5)
    await world.quotas.admit(ACME, "3", BOUND)


async def test_the_ceiling_is_what_the_budget_grants() -> None:
    world = World(budgets=[budget(cents=3)])
    assert (await world.quotas.admit(ACME, "1", BOUND)).cost_nanousd_max == 2 * CENT
    assert (await world.quotas.admit(ACME, "2", BOUND)).cost_nanousd_max == CENT
    free = await world.quotas.admit(ACME, "3", Bound(0, 10, 0))
    assert free.cost_nanousd_max is None


async def test_settling_twice_counts_once() -> None:
    world = World(budgets=[budget()])
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    await reservation.settle(CENT, 10)
    await reservation.settle(CENT, 10)
    assert (world.books.told, await world.standing("b")) == (1, (CENT, 0))


async def test_every_run_of_a_request_is_a_reservation_of_its_own() -> None:
    world = World(budgets=[budget()])
    await world.quotas.admit(ACME, "same", BOUND)  # whose process was killed
    again = await world.quotas.admit(ACME, "same", BOUND)
    await again.settle(CENT, 1)
    assert await world.standing("b") == (CENT, 2 * CENT)
    world.clock.advance(91)
    assert await world.standing("b") == (3 * CENT, 0)


async def test_what_was_spent_is_told_until_the_books_have_it() -> None:
    world = World(budgets=[budget()])
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    world.books.is_away = True
    await reservation.settle(CENT, 10)
    assert world.quotas.untold == 1
    await wake(world)
    assert world.quotas.untold == 1
    world.books.is_away = False
    await wake(world)
    assert (world.quotas.untold, await world.standing("b")) == (0, (CENT, 0))


async def test_a_cancelled_settling_is_not_lost() -> None:
    world = World(budgets=[budget()])
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    world.books.hangs = True
    task = asyncio.create_task(reservation.settle(CENT, 10))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.books.hangs = False
    await wake(world)
    assert await world.standing("b") == (CENT, 0)


async def test_while_the_books_are_away_requests_pass_and_are_counted_later() -> None:
    world = World(budgets=[budget()], rates=[{"name": "r", "requests_per_minute": 1}])
    world.books.is_away = True
    await world.quotas.enter(ACME)
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    assert reservation.cost_nanousd_max is None
    await reservation.settle(CENT, 10)
    world.books.is_away = False
    await wake(world)
    assert await world.standing("b") == (CENT, 0)


async def test_while_the_books_are_away_requests_are_refused_when_that_is_configured() -> None:
    world = World(budgets=[budget()], rates=[{"name": "r", "requests_per_minute": 1}], when_unavailable="closed")
    world.books.is_away = True
    for asking in (world.quotas.enter(ACME), world.quotas.admit(ACME, "1", BOUND)):
        with pytest.raises(SpillwayError) as caught:
            await asking
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "QUOTA_UNAVAILABLE")


async def test_an_order_whose_answer_came_too_late_holds_nothing() -> None:
    world = World(budgets=[budget()], when_unavailable="closed")
    world.books.loses_answers = True
    with pytest.raises(SpillwayError):
        await world.quotas.admit(ACME, "1", BOUND)
    world.books.loses_answers = False
    assert await world.standing("b") == (0, 2 * CENT)
    await wake(world)
    assert await world.standing("b") == (0, 0)


async def test_closing_tells_what_there_is_to_tell() -> None:
    world = World(budgets=[budget()])
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    world.books.is_away = True
    await reservation.settle(CENT, 10)
    world.books.is_away = False
    await world.quotas.close(5)
    assert await world.standing("b") == (CENT, 0)


async def test_what_is_under_way_is_settled_by_what_it_was_granted_under() -> None:
    world = World(budgets=[budget("old")])
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    world.quotas.reconfigure(QuotaSettings.model_validate({"budgets": [budget("new")]}))
    await reservation.settle(CENT, 1)
    assert await world.standing("new") == (0, 0)
    world.quotas.reconfigure(QuotaSettings.model_validate({"budgets": [budget("old")]}))
    assert await world.standing("old") == (CENT, 0)


async def test_what_happens_is_counted_by_names_of_the_configuration() -> None:
    world = World(budgets=[budget(cents=4)], rates=[{"name": "r", "requests_per_minute": 1}])
    assert {count for _, count in world.meters.points("spillway.quotas.refused")} == {0}  # the first one is seen as one
    await world.quotas.enter(ACME)
    with pytest.raises(RateLimited):
        await world.quotas.enter(ACME)
    reservation = await world.quotas.admit(ACME, "1", BOUND)
    await reservation.settle(5 * CENT, 1)
    with pytest.raises(BudgetExhausted):
        await world.quotas.admit(ACME, "2", BOUND)
    world.books.is_away = True
    await world.quotas.admit(ACME, "3", BOUND)
    assert world.meters.points("spillway.quotas.refused") == [
        ({"kind": "budget", "quota": "b"}, 1),
        ({"kind": "rate", "quota": "r"}, 1),
    ]
    assert world.meters.points("spillway.quotas.used_ratio") == [({"budget": "b"}, 0.5)]
    assert world.meters.points("spillway.quotas.overspent") == [({}, 3 * CENT)]
    assert ({"outcome": "passed"}, 1) in world.meters.points("spillway.quotas.without")


def test_two_quotas_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one is called b"):
        World(budgets=[budget(), budget(cents=3)])


async def wake(world: World) -> None:
    """Lets the second pass after which is told again."""
    for _ in range(5):
        await asyncio.sleep(0)
    world.clock.advance(1.0)
    for _ in range(5):
        await asyncio.sleep(0)
