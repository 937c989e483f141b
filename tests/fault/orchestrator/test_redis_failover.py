"""Two orchestrators on a Redis that sentinels watch, while its primary is killed or demoted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.jobs.job_store import Ending, JobStoreError, NewJob
from services.orchestrator.quotas.books import BooksUnavailableError, BudgetLine, Granted, Order, Refused, Spent
from services.orchestrator.replays.replay_store import Answered, Busy, Owned, ReplayStoreError
from services.orchestrator.shared_state import SharedState, open_shared_state
from services.runtime.clock import SystemClock
from spillway.routing import JobState
from spillway.settings import Settings
from tests.support.jobs_parts import WELL_S, completion, submission
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer
from tests.support.redis_sites import SentinelSite, sentinel_site
from tests.support.smallest import SMALLEST
from tests.support.waiting import until

PATIENCE_S = 4.0
"""Of a call to Redis: long even on a busy machine."""

LEASE_S = 600.0
COST_NANOUSD = 1_000
RUNS_PAID = 150
BUDGET = BudgetLine("month", "", "month", "cost", RUNS_PAID * COST_NANOUSD)
BEFORE = 20
"""Of everything at least so many before the primary goes, and so many more afterwards."""
DONE = Ending(JobState.SUCCEEDED, completion("done"))
GONE = (BooksUnavailableError, JobStoreError, ReplayStoreError)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SentinelSite]:
    with sentinel_site(tmp_path) as made:
        with made.primary.client() as asking:
            wait_until(lambda: asking.incr("warm") and asking.wait(1, 1_000), what="the replica follows")
        yield made


@asynccontextmanager
async def orchestrator(url: str) -> AsyncIterator[SharedState]:
    orchestrator = {"redis_url": url, "redis_timeout_s": PATIENCE_S}
    settings = Settings.model_validate({**SMALLEST, "orchestrator": orchestrator})
    state = open_shared_state(settings, SystemClock())
    try:
        yield state
    finally:
        await state.books.close()
        await state.drift.close()
        await state.close()


async def until_told(step: Callable[[], Awaitable[Any]]) -> Any:
    """As a caller who asks again until somebody answers."""
    while True:
        try:
            return await step()
        except GONE:
            await asyncio.sleep(0.01)


class Load:
    """What callers were told, and what they did then."""

    def __init__(self, state: SharedState, name: str) -> None:
        self._state = state
        self._name = name
        self._numbers = itertools.count()
        self.stop = asyncio.Event()
        self.earned_nanousd = 0
        self.settled = 0
        self.submitted: list[str] = []
        self.ended: Counter[str] = Counter()
        self.answers: dict[str, bytes] = {}

    def _next(self) -> str:
        return f"{self._name}-{next(self._numbers)}"

    async def spend(self) -> None:
        """Until the budget is used up. A reservation that nobody confirmed earns nobody anything."""
        while True:
            order = Order("t", self._next(), COST_NANOUSD, COST_NANOUSD, 0, 0, LEASE_S, (BUDGET,))
            try:
                granted = await self._state.books.reserve(order)
            except BooksUnavailableError:
                await asyncio.sleep(0.01)
                continue
            if isinstance(granted, Refused):
                return
            self.earned_nanousd += COST_NANOUSD
            await until_told(lambda order=order, granted=granted: self._settle(order, granted))  # type: ignore[misc]
            self.settled += 1
            await asyncio.sleep(0.01)

    async def _settle(self, order: Order, granted: Granted) -> bool:
        return await self._state.books.settle(order, granted, Spent(COST_NANOUSD, 0))

    async def submit(self) -> None:
        while not self.stop.is_set():
            name = self._next()
            job = NewJob(name, "acme", "", submission(request_id=name), b"d", LEASE_S, LEASE_S)
            kept = await until_told(lambda job=job: self._state.jobs.submit(job, open_max=10_000))  # type: ignore[misc]
            self.submitted.append(kept.job_id)
            await asyncio.sleep(0.01)

    async def work(self) -> None:
        while not self.stop.is_set():
            try:
                taken = await self._state.jobs.take(self._name, 5, lease_s=1.0, tries_max=100)
                for job in taken:
                    self.ended[job.job_id] += await self._state.jobs.end(job.job_id, self._name, DONE)
            except JobStoreError:
                taken = []
            if not taken:
                await asyncio.sleep(0.01)

    async def answer(self) -> None:
        while not self.stop.is_set():
            name = f"t:{self._next()}"
            replays = self._state.replays
            try:
                claim = await replays.claim(name, b"d", "owner", lease_s=LEASE_S, window_s=LEASE_S)
                assert isinstance(claim, Owned)
                self.answers[name] = await replays.keep(name, b"d", name.encode(), window_s=LEASE_S)
            except ReplayStoreError:
                pass
            await asyncio.sleep(0.01)

    def least(self) -> int:
        return min(self.settled, len(self.submitted), self.ended.total(), len(self.answers))


async def test_what_was_acknowledged_outlives_the_primary_and_no_budget_is_exceeded(site: SentinelSite) -> None:
    async with orchestrator(site.url) as first, orchestrator(site.url) as second:
        loads = [Load(first, "a"), Load(second, "b")]
        spending = [asyncio.create_task(load.spend()) for load in loads]
        going = [asyncio.create_task(each()) for load in loads for each in (load.submit, load.work, load.answer)]

        async def all_have(count: int) -> bool:
            return all(load.least() >= count for load in loads)

        await until(lambda: all_have(BEFORE), what="everything is under way")
        assert not any(task.done() for task in spending)
        site.lose_primary()
        reached = max(len(load.submitted) + len(load.answers) for load in loads)
        await asyncio.wait_for(asyncio.gather(*spending), WELL_S)
        await until(
            lambda: all(len(load.submitted) + len(load.answers) >= reached + BEFORE for load in loads),
            what="the promoted replica takes over",
        )
        jobs = [job for load in loads for job in load.submitted]

        async def all_ended() -> bool:
            states = [await until_told(lambda job=job: first.jobs.get(job, "acme")) for job in jobs]  # type: ignore[misc]
            return all(state.state is JobState.SUCCEEDED for state in states)

        await until(all_ended, what="every job that was submitted ends")
        for load in loads:
            load.stop.set()
        await asyncio.gather(*going)
        earned = sum(load.earned_nanousd for load in loads)
        (standing,) = await first.books.look("t", (BUDGET,))
        assert earned == standing.spent, "each run that was granted is in the new primary's books, once"
        assert standing.spent + standing.held <= BUDGET.limit
        assert len(set(jobs)) == len(jobs)
        assert max((loads[0].ended + loads[1].ended).values()) == 1
        for load in loads:
            for name, kept in load.answers.items():
                again = await second.replays.claim(name, b"d", "late", lease_s=LEASE_S, window_s=LEASE_S)
                assert again == Answered(kept)


async def test_who_works_on_a_request_keeps_it_though_the_new_primary_knows_of_nobody_yet(site: SentinelSite) -> None:
    async with orchestrator(site.url) as owner, orchestrator(site.url) as other:
        assert owner.presence is not None
        channel = owner.presence.name
        owner.presence.begin()

        async def listens_at(server: RedisServer) -> bool:
            with server.client() as client:
                return bool(dict(client.pubsub_numsub(channel))[channel.encode()])

        await until(lambda: listens_at(site.primary), what="the owner's process is there")
        assert await owner.replays.claim("t:1", b"d", "owner", lease_s=LEASE_S, window_s=LEASE_S) == Owned()
        site.lose_primary()

        async def is_known_to_the_successor() -> bool:
            with contextlib.suppress(ReplayStoreError):
                claim = await other.replays.claim("t:1", b"d", "other", lease_s=LEASE_S, window_s=LEASE_S)
                assert isinstance(claim, Busy)
            return await listens_at(site.replica)

        await until(is_known_to_the_successor, what="the owner's process finds the successor")
        claim = await until_told(lambda: other.replays.claim("t:1", b"d", "other", lease_s=LEASE_S, window_s=LEASE_S))
        assert isinstance(claim, Busy)


async def test_a_demoted_primary_is_left_for_its_successor(site: SentinelSite) -> None:
    async with orchestrator(site.url) as state:
        assert await state.users.seen("acme", "ann") == 0
        site.fail_over()

        async def counted_by_the_successor() -> bool:
            await state.users.seen("acme", "ann")
            await state.drift.read()
            with site.replica.client() as successor:
                return "cmdstat_evalsha" in successor.info("commandstats")  # replicated are a script's effects alone

        await until(counted_by_the_successor, what="the successor is asked")
