"""What both books of quotas promise, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import calendar
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.orchestrator.guarded_redis import connect
from services.orchestrator.quotas.books import (
    Books,
    BooksUnavailableError,
    BudgetLine,
    Granted,
    Order,
    RateLine,
    Refused,
    Spent,
)
from services.orchestrator.quotas.memory_books import KEEP_S, MemoryBooks
from services.orchestrator.quotas.redis_books import RedisBooks
from services.orchestrator.quotas.windows import Period
from services.runtime.clock import FakeClock
from tests.support.redis_server import RedisServer

NOON = calendar.timegm((2026, 1, 31, 12, 0, 0))
DAY = BudgetLine("day", "tenant", "day", "cost", 100)
MONTH = BudgetLine("month", "tenant", "month", "cost", 250)
TOKENS = BudgetLine("tokens", "key", "hour", "tokens", 1_000)
LEASE_S = 60.0
runs = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    directory: Path = tmp_path_factory.mktemp("redis")
    server = RedisServer(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(unix=NOON)


def open_books(kind: str, server: RedisServer, clock: FakeClock) -> Books:
    if kind == "memory":
        return MemoryBooks(clock)
    return RedisBooks(connect(server.url, password="", timeout_s=10.0), clock, timeout_s=10.0, time=clock)


@pytest.fixture(params=["memory", "redis"])
async def books(request: pytest.FixtureRequest, server: RedisServer, clock: FakeClock) -> AsyncIterator[Books]:
    with server.client() as client:
        client.flushall()
    subject = open_books(request.param, server, clock)
    yield subject
    await subject.close()


def order(
    *budgets: BudgetLine,
    cost: int = 10,
    least: int | None = None,
    tokens: int = 100,
    rates: tuple[RateLine, ...] = (),
    tenant: str = "t",
    lease_s: float = LEASE_S,
) -> Order:
    least = cost if least is None else least
    return Order(tenant, f"run-{next(runs)}", cost, least, tokens, tokens, lease_s, budgets, rates)


async def taken(books: Books, asked: Order) -> Granted:
    answer = await books.reserve(asked)
    assert isinstance(answer, Granted), answer
    return answer


async def wait_of(books: Books, asked: Order) -> float | None:
    answer = await books.reserve(asked)
    assert isinstance(answer, Refused), answer
    assert (answer.kind, answer.quota) == ("rate", "r")
    return answer.retry_after_s


async def standing(books: Books, *budgets: BudgetLine) -> list[tuple[int, int]]:
    return [(one.spent, one.held) for one in await books.look("t", budgets)]


async def test_what_is_held_counts_until_what_was_spent_takes_its_place(books: Books) -> None:
    asked = order(DAY, cost=80)
    granted = await taken(books, asked)
    assert granted.cost_nanousd == 80
    assert granted.used == (0.8,)
    assert await standing(books, DAY) == [(0, 80)]
    assert isinstance(await books.reserve(order(DAY, cost=21)), Refused)
    assert await books.settle(asked, granted, Spent(15, 7)) is True
    assert await standing(books, DAY) == [(15, 0)]
    assert (await taken(books, order(DAY, cost=85))).cost_nanousd == 85


async def test_settling_again_changes_nothing(books: Books) -> None:
    asked = order(DAY)
    granted = await taken(books, asked)
    assert await books.settle(asked, granted, Spent(3, 0)) is True
    assert await books.settle(asked, granted, Spent(9, 0)) is False
    assert await standing(books, DAY) == [(3, 0)]


async def test_a_budget_with_less_grants_what_it_has_but_not_less_than_the_least(books: Books) -> None:
    assert (await taken(books, order(DAY, cost=70))).cost_nanousd == 70
    assert (await taken(books, order(DAY, cost=70, least=30))).cost_nanousd == 30
    assert await standing(books, DAY) == [(0, 100)]
    assert isinstance(await books.reserve(order(DAY, cost=1)), Refused)
    assert (await taken(books, order(DAY, cost=0))).cost_nanousd == 0


async def test_several_budgets_are_one_step(books: Books) -> None:
    key_day = BudgetLine("key", "k", "day", "cost", 30)
    assert (await taken(books, order(DAY, MONTH, key_day, TOKENS, cost=50, least=5))).cost_nanousd == 30
    assert await standing(books, DAY, MONTH, key_day, TOKENS) == [(0, 30), (0, 30), (0, 30), (0, 100)]
    refused = await books.reserve(order(DAY, MONTH, key_day, cost=5))
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.quota) == ("budget", "key")
    assert await standing(books, DAY, MONTH, key_day) == [(0, 30), (0, 30), (0, 30)]


async def test_tokens_are_granted_whole_or_not_at_all(books: Books) -> None:
    first = order(TOKENS, cost=0, tokens=950)
    granted = await taken(books, first)
    refused = await books.reserve(order(TOKENS, cost=0, tokens=51))
    assert isinstance(refused, Refused)
    assert refused.quota == "tokens"
    await books.settle(first, granted, Spent(0, 40))
    assert await standing(books, TOKENS) == [(40, 0)]
    await taken(books, order(TOKENS, cost=0, tokens=960))


async def test_what_was_spent_beyond_the_grant_counts_in_full(books: Books) -> None:
    asked = order(DAY, cost=100)
    await books.settle(asked, await taken(books, asked), Spent(130, 0))
    assert await standing(books, DAY) == [(130, 0)]
    assert isinstance(await books.reserve(order(DAY, cost=1)), Refused)


async def test_a_run_that_never_settles_is_charged_in_full_when_its_lease_ends(books: Books, clock: FakeClock) -> None:
    asked = order(DAY, TOKENS, cost=60)
    granted = await taken(books, asked)
    clock.advance(LEASE_S - 1)
    assert await standing(books, DAY, TOKENS) == [(0, 60), (0, 100)]
    clock.advance(1)
    assert await standing(books, DAY, TOKENS) == [(60, 0), (100, 0)]
    assert await books.settle(asked, granted, Spent(4, 9)) is True, "it was alive after all"
    assert await standing(books, DAY, TOKENS) == [(4, 0), (9, 0)]


async def test_a_dead_run_of_a_tenant_who_was_away_for_long_is_charged_and_holds_nothing(
    books: Books, clock: FakeClock
) -> None:
    asked = order(MONTH, cost=80)
    granted = await taken(books, asked)
    clock.advance(LEASE_S + 2 * KEEP_S)
    assert await standing(books, MONTH) == [(80, 0)]
    assert await books.settle(asked, granted, Spent(15, 7)) is True
    assert await standing(books, MONTH) == [(15, 0)]


async def test_a_run_belongs_to_the_window_in_which_it_began(books: Books, clock: FakeClock) -> None:
    minute = BudgetLine("minute", "tenant", "minute", "cost", 100)
    asked = order(minute, cost=100)
    granted = await taken(books, asked)
    clock.advance(60)
    assert await standing(books, minute) == [(0, 0)]
    await books.settle(asked, granted, Spent(100, 0))
    assert await standing(books, minute) == [(0, 0)]
    await taken(books, order(minute, cost=100))


@pytest.mark.parametrize(
    ("period", "wait_s"), [("minute", 60), ("hour", 3_600), ("day", 12 * 3_600), ("month", 12 * 3_600)]
)
async def test_an_exhausted_budget_says_when_its_window_ends(books: Books, period: Period, wait_s: float) -> None:
    line = BudgetLine("b", "tenant", period, "cost", 10)
    asked = order(line)
    await books.settle(asked, await taken(books, asked), Spent(10, 0))
    refused = await books.reserve(order(line, cost=1))
    assert refused == Refused("budget", "b", wait_s)


@pytest.mark.parametrize(
    ("when", "days"),
    [
        ((2026, 2, 1), 28),
        ((2026, 6, 1), 30),
        ((2026, 11, 1), 30),
        ((2026, 12, 1), 31),
        ((2028, 2, 1), 29),
        ((2100, 2, 1), 28),
    ],
)
async def test_months_are_those_of_the_calendar(
    books: Books, clock: FakeClock, when: tuple[int, int, int], days: int
) -> None:
    clock.advance(calendar.timegm((*when, 0, 0, 0)) - clock.unix())
    asked = order(MONTH, cost=250)
    await books.settle(asked, await taken(books, asked), Spent(250, 0))
    assert await books.reserve(order(MONTH, cost=1)) == Refused("budget", "month", days * 86_400)


async def test_where_only_reservations_stand_in_the_way_the_soonest_lease_is_the_time_to_retry(
    books: Books, clock: FakeClock
) -> None:
    await taken(books, order(DAY, cost=50, lease_s=90))
    clock.advance(10)
    await taken(books, order(DAY, cost=50, lease_s=30))
    clock.advance(5)
    assert await books.reserve(order(DAY, cost=10)) == Refused("budget", "day", 25)


async def test_what_no_window_could_pay_has_no_time_to_retry(books: Books) -> None:
    assert await books.reserve(order(DAY, cost=101)) == Refused("budget", "day", None)


async def test_the_longest_wait_is_the_one_that_is_said(books: Books) -> None:
    asked = order(DAY, TOKENS, cost=100, tokens=1_000)
    await books.settle(asked, await taken(books, asked), Spent(100, 1_000))
    assert await books.reserve(order(TOKENS, DAY)) == Refused("budget", "day", 12 * 3_600)


async def test_a_minute_of_requests_may_come_at_once_and_then_one_at_a_time(books: Books, clock: FakeClock) -> None:
    rate = RateLine("r", "tenant", "requests", 6)
    for _ in range(6):
        await taken(books, order(rates=(rate,)))
    assert await wait_of(books, order(rates=(rate,))) == pytest.approx(10.0)
    clock.advance(9.999)
    assert isinstance(await books.reserve(order(rates=(rate,))), Refused)
    clock.advance(0.001)
    await taken(books, order(rates=(rate,)))
    assert isinstance(await books.reserve(order(rates=(rate,))), Refused)
    clock.advance(600)
    for _ in range(6):
        await taken(books, order(rates=(rate,)))
    assert isinstance(await books.reserve(order(rates=(rate,))), Refused)


async def test_what_only_counts_against_a_rate_is_over_at_once(books: Books) -> None:
    rate = RateLine("r", "tenant", "requests", 2)
    asked = Order("t", "", 0, 0, 0, 0, 0.0, rates=(rate,))
    assert await books.reserve(asked) == await books.reserve(asked) == Granted(0)
    assert await wait_of(books, asked) == pytest.approx(30.0)


async def test_tokens_that_were_not_used_are_given_back_to_the_rate(books: Books, clock: FakeClock) -> None:
    rate = RateLine("r", "tenant", "tokens", 1_000)
    large = order(tokens=5_000, rates=(rate,))  # more than a minute's worth counts as that
    granted = await taken(books, large)
    assert isinstance(await books.reserve(order(tokens=1, rates=(rate,))), Refused)
    await books.settle(large, granted, Spent(0, 400))
    await taken(books, order(tokens=600, rates=(rate,)))
    assert await wait_of(books, order(tokens=100, rates=(rate,))) == pytest.approx(6.0)
    clock.advance(6.0)
    more = order(tokens=100, rates=(rate,))
    granted = await taken(books, more)
    await books.settle(more, granted, Spent(0, 600))
    assert await wait_of(books, order(tokens=100, rates=(rate,))) == pytest.approx(36.0)


async def test_a_request_that_a_budget_refuses_uses_up_no_rate(books: Books) -> None:
    rate = RateLine("r", "tenant", "requests", 1)
    assert isinstance(await books.reserve(order(DAY, cost=101, rates=(rate,))), Refused)
    await taken(books, order(DAY, rates=(rate,)))
    assert isinstance(await books.reserve(order(DAY, rates=(rate,))), Refused)
    assert await standing(books, DAY) == [(0, 10)]


async def test_tenants_and_holders_have_budgets_of_their_own(books: Books) -> None:
    await taken(books, order(DAY, cost=100))
    await taken(books, order(DAY, cost=100, tenant="other"))
    await taken(books, order(BudgetLine("day", "another", "day", "cost", 100), cost=100))


async def test_an_order_whose_answer_was_lost_is_let_go_whenever_it_comes(books: Books) -> None:
    came = order(DAY, cost=40)
    await taken(books, came)
    await books.settle(came, None, Spent(0, 0))
    late = order(DAY, cost=40)
    await books.settle(late, None, Spent(7, 0))
    with pytest.raises(BooksUnavailableError):
        await books.reserve(late)
    assert await standing(books, DAY) == [(7, 0)]


async def test_two_hundred_at_once_never_get_more_than_there_is(books: Books) -> None:
    asked = [order(DAY, MONTH, cost=7, least=2) for _ in range(200)]
    answers = await asyncio.gather(*(books.reserve(one) for one in asked))
    assert sum(answer.cost_nanousd for answer in answers if isinstance(answer, Granted)) == 100
    assert await standing(books, DAY, MONTH) == [(0, 100), (0, 100)]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("reserve"),
            st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400), st.integers(1, 90)),
            st.lists(st.sampled_from([DAY, MONTH, TOKENS]), unique=True),
            st.lists(
                st.sampled_from([RateLine("r", "tenant", "requests", 5), RateLine("s", "k", "tokens", 900)]),
                unique=True,
            ),
        ),
        st.tuples(st.just("settle"), st.integers(0, 20), st.integers(0, 90), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 20.0, 61.0, 3_600.0, 50_000.0])),
    ),
    min_size=5,
    max_size=30,
)


@given(steps)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_books_say_the_same_of_any_sequence(server: RedisServer, steps: list[tuple[object, ...]]) -> None:
    asyncio.run(play(server, steps))


async def play(server: RedisServer, steps: list[tuple[object, ...]]) -> None:
    with server.client() as client:
        client.flushall()
    clock = FakeClock(unix=NOON)
    both = [open_books(kind, server, clock) for kind in ("memory", "redis")]
    made: list[tuple[Order, list[Granted], float]] = []
    try:
        for step in steps:
            match step:
                case ("reserve", (int(cost), int(least), int(tokens), int(lease_s)), list(budgets), list(rates)):
                    asked = order(
                        *budgets, cost=cost, least=min(cost, least), tokens=tokens, rates=tuple(rates), lease_s=lease_s
                    )
                    first, second = [await books.reserve(asked) for books in both]
                    if isinstance(first, Refused):
                        assert isinstance(second, Refused)
                        assert (first.kind, first.quota) == (second.kind, second.quota)
                        assert second.retry_after_s == pytest.approx(first.retry_after_s, abs=1e-4)
                    else:
                        assert second == first
                        assert isinstance(second, Granted)
                        made.append((asked, [first, second], clock.unix()))
                case ("settle", int(which), int(cost), bool(is_known)) if made:
                    asked, granted, at_s = made[which % len(made)]
                    if clock.unix() - at_s >= KEEP_S:
                        continue  # runs are not remembered for ever
                    spent = Spent(cost, 5 * cost)
                    said = [
                        await books.settle(asked, of if is_known else None, spent)
                        for books, of in zip(both, granted, strict=True)
                    ]
                    assert said[0] == said[1]
                case ("wait", float(seconds)):
                    clock.advance(seconds)
            first_seen, second_seen = [await books.look("t", (DAY, MONTH, TOKENS)) for books in both]
            assert first_seen == second_seen
            assert min(one.held for one in first_seen) >= 0
    finally:
        for books in both:
            await books.close()
