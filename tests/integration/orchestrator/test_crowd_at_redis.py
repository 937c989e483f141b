"""More calls at once than there are connections: they wait for their turn, and none of them calls it an outage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from services.orchestrator.jobs.job_store import NewJob
from services.orchestrator.quotas.books import BudgetLine, Granted, Order
from services.orchestrator.replays.claims import ReplayEvent
from services.orchestrator.replays.idempotency import Owner, Replays
from services.orchestrator.shared_state import SharedState, open_shared_state
from services.runtime.clock import SystemClock
from tests.support.jobs_parts import submission
from tests.support.redis_server import RedisServer
from tests.unit.orchestrator.ladder import settings_of

CALLS = 300
# Far above what 300 calls take: what is asked is whether a crowd is told from an outage, not how fast it is served.
PATIENT_S = 4.0


@pytest.fixture
async def shared(redis_server: RedisServer) -> AsyncIterator[SharedState]:
    options = {"redis_url": redis_server.url, "redis_timeout_s": PATIENT_S}
    state = open_shared_state(settings_of(orchestrator=options), SystemClock())
    yield state
    await state.books.close()
    await state.drift.close()
    await state.close()


async def test_a_crowd_of_repeatable_requests_is_not_answered_without_the_store(shared: SharedState) -> None:
    events: Counter[ReplayEvent] = Counter()
    replays = Replays(
        shared.replays, window_s=60, clock=SystemClock(), on_event=lambda event: events.update({event: 1})
    )

    async def ask(number: int) -> None:
        begun = await replays.begin("t", f"request {number}", b"d" * 32)
        assert isinstance(begun, Owner)
        begun.abandon()

    await asyncio.gather(*(ask(number) for number in range(CALLS)))
    assert events == {ReplayEvent.OWNED: CALLS}
    await replays.close()


async def test_a_crowd_of_submissions_is_queued_to_the_last(shared: SharedState) -> None:
    new = [NewJob(f"job_{number}", "t", "", submission(), b"d" * 32, 60, 60) for number in range(CALLS)]
    jobs = await asyncio.gather(*(shared.jobs.submit(each, open_max=10 * CALLS) for each in new))
    assert len({job.job_id for job in jobs}) == CALLS


async def test_a_crowd_of_new_users_and_of_reservations_is_counted_to_the_last(shared: SharedState) -> None:
    line = BudgetLine("b", "tenant", "month", "cost", 10**9)

    async def reserve(number: int) -> None:
        order = Order("t", f"run-{number}", 1_000, 100, 10, 10, 30.0, budgets=(line,))
        assert isinstance(await shared.books.reserve(order), Granted)

    seen, _ = await asyncio.gather(
        asyncio.gather(*(shared.users.seen("t", "one and the same") for _ in range(CALLS))),
        asyncio.gather(*(reserve(number) for number in range(CALLS))),
    )
    assert sorted(count for count in seen if count is not None) == list(range(CALLS))
