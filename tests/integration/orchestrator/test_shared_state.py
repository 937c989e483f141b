"""What the orchestrator keeps where sentinels watch: which steps wait for a replica, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.orchestrator.jobs.job_store import NewJob
from services.orchestrator.quotas.books import BudgetLine, Granted, Order
from services.orchestrator.replays.replay_store import Owned
from services.orchestrator.shared_state import SharedState, open_shared_state
from services.runtime.clock import SystemClock
from spillway.settings import Settings
from tests.integration.orchestrator.neighbours import Neighbourhood
from tests.support.fake_sentinel import fake_sentinels
from tests.support.jobs_parts import submission
from tests.support.redis_server import RedisServer
from tests.support.smallest import SMALLEST
from tests.support.waiting import until

PATIENCE_S = 2.0
LEASE_S = 600.0


@pytest.fixture
async def state(redis_server: RedisServer) -> AsyncIterator[SharedState]:
    async with fake_sentinels(1) as (sentinel,):
        sentinel.place = ("127.0.0.1", redis_server.port)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        orchestrator = {"redis_url": url, "redis_timeout_s": PATIENCE_S}
        made = open_shared_state(Settings.model_validate({**SMALLEST, "orchestrator": orchestrator}), SystemClock())
        yield made
        await made.books.close()
        await made.drift.close()
        await made.close()


def waits(server: RedisServer) -> int:
    """For a replica, so far."""
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_wait", {}).get("calls", 0))


async def test_steps_of_budgets_wait_for_a_replica(state: SharedState, redis_server: RedisServer) -> None:
    order = Order("t", "run", 1, 1, 0, 0, LEASE_S, (BudgetLine("month", "", "month", "cost", 10),))
    assert isinstance(await state.books.reserve(order), Granted)
    assert waits(redis_server)


async def test_steps_of_jobs_wait_for_a_replica(state: SharedState, redis_server: RedisServer) -> None:
    job = NewJob("job", "acme", "", submission(request_id="job"), b"d", LEASE_S, LEASE_S)
    assert (await state.jobs.submit(job, open_max=10)).job_id == "job"
    assert waits(redis_server)


async def test_steps_of_request_ids_wait_for_a_replica(state: SharedState, redis_server: RedisServer) -> None:
    assert await state.replays.claim("t:1", b"d", "owner", lease_s=LEASE_S, window_s=LEASE_S) == Owned()
    assert waits(redis_server)


async def test_users_first_messages_and_the_canarys_counts_wait_for_none(
    state: SharedState, redis_server: RedisServer
) -> None:
    assert await state.users.seen("acme", "ann") == 0
    await state.drift.read()
    with redis_server.client() as client:
        assert "cmdstat_evalsha" in client.info("commandstats")
    assert not waits(redis_server)


async def test_an_orchestrator_knows_the_primary_and_is_seen_there_before_its_first_request(
    redis_server: RedisServer,
) -> None:
    async with fake_sentinels(1) as (sentinel,):
        sentinel.place = ("127.0.0.1", redis_server.port)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        async with Neighbourhood(orchestrator={"redis_url": url, "redis_timeout_s": PATIENCE_S}):

            async def is_seen() -> bool:
                with redis_server.client() as client:
                    return bool(client.pubsub_channels("spillway:alive:*"))

            await until(is_seen, what="it has subscribed to its channel")
