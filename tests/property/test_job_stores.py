"""Random steps on jobs: the store in memory and the one in Redis say the same, and no job ends twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.orchestrator.jobs.job_store import (
    Ending,
    JobStore,
    NewJob,
    SubmissionConflictError,
    TooManyJobsError,
)
from services.orchestrator.jobs.memory_store import MemoryJobStore
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.runtime.clock import FakeClock, SystemClock
from spillway.routing import Job, JobState
from tests.support.jobs_parts import WELL_S, completion, redis_client, submission
from tests.support.redis_server import RedisServer

LONG_S = 600.0
OPEN_MAX = 4
ENDINGS = [Ending(JobState.SUCCEEDED, completion()), Ending(JobState.FAILED, reason="INTERNAL", message="no")]

numbers = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), numbers, st.sampled_from(["", "a", "b"]), st.booleans()),
        st.tuples(st.just("take"), numbers, st.integers(0, 3)),
        st.tuples(st.sampled_from(["end", "retry", "give_back", "renew"]), numbers, numbers, st.integers(0, 1)),
        st.tuples(st.sampled_from(["cancel", "cancel_of_another", "notices"]), numbers),
        st.tuples(st.just("wait"), st.integers(1, 900)),
    ),
    max_size=40,
)


@dataclass
class Player:
    """Plays steps on a store; numbers stand for the jobs and the owners that there were."""

    store: JobStore
    clock: FakeClock | None = None
    jobs: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    async def play(self, step: tuple[Any, ...]) -> Any:
        match step:
            case ("submit", number, request_id, webhook):
                return await self._submit(number, request_id, "https://x.example/" if webhook else "")
            case ("take", _, count):
                self.owners.append(f"w{len(self.owners)}")
                taken = await self.store.take(self.owners[-1], count, lease_s=LONG_S, tries_max=3)
                return [(job.job_id, job.tries, job.submission) for job in taken]
            case ("notices", count):
                return {notice.job.job_id for notice in await self.store.due_notices(count or 9, lease_s=LONG_S)}
            case ("wait", seconds):
                if self.clock is not None:
                    self.clock.advance(seconds)
                return None
            case (name, number, *rest):
                return await self._on_job(name, self._of(self.jobs, number), rest)
        raise AssertionError(step)

    async def _submit(self, number: int, request_id: str, url: str) -> Any:
        job_id = f"j{len(self.jobs)}"
        what = submission(f"prompt {number % 2}", request_id=request_id, webhook_url=url)
        new = NewJob(job_id, "acme", "k", what, f"{number % 2}{url}".encode(), LONG_S * 2, LONG_S)
        try:
            job = await self.store.submit(new, open_max=OPEN_MAX)
        except (SubmissionConflictError, TooManyJobsError) as error:
            return type(error).__name__
        if job.job_id == job_id:
            self.jobs.append(job_id)
        return job.job_id, job.state

    async def _on_job(self, name: str, job_id: str, rest: list[int]) -> Any:
        owner = self._of(self.owners, rest[0]) if rest else ""
        match name:
            case "end":
                return await self.store.end(job_id, owner, ENDINGS[rest[1]])
            case "retry":
                return await self.store.retry_later(job_id, owner, LONG_S)
            case "give_back":
                return await self.store.give_back(job_id, owner)
            case "renew":
                return await self.store.renew({job_id: owner})
            case "cancel":
                return _gist(await self.store.cancel(job_id, "acme"))
            case _:
                return _gist(await self.store.cancel(job_id, "umbrella"))

    async def seen(self) -> list[Any]:
        return [_gist(await self.store.get(job_id, "acme")) for job_id in self.jobs]

    @staticmethod
    def _of(names: list[str], number: int) -> str:
        return names[number % len(names)] if names else "nobody"


def _gist(job: Job | None) -> Any:
    return job and (job.job_id, job.state, job.completion, job.error_reason, job.tries, job.deliveries)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_both_stores_say_the_same_of_any_steps(server: RedisServer, steps: list[tuple[Any, ...]]) -> None:
    async def play() -> None:
        client = redis_client(server.url)
        await client.flushall()
        memory = Player(MemoryJobStore(SystemClock()))
        redis = Player(RedisJobStore(client, timeout_s=WELL_S, clock=SystemClock()))
        for step in steps:
            assert await memory.play(step) == await redis.play(step), step
        assert await memory.seen() == await redis.seen()
        assert await memory.store.open_jobs() == await redis.store.open_jobs()
        letters = [_gist(job) for job in await redis.store.dead_letters(99)]
        assert sorted(map(str, letters)) == sorted(str(_gist(job)) for job in await memory.store.dead_letters(99))
        await client.aclose()

    asyncio.run(play())


@settings(max_examples=150)
@given(steps=STEPS)
def test_a_job_ends_once_whatever_happens_and_however_long_it_takes(steps: list[tuple[Any, ...]]) -> None:
    async def play() -> None:
        clock = FakeClock()
        player = Player(MemoryJobStore(clock), clock)
        ended: Counter[str] = Counter()
        states: dict[str, Any] = {}
        for step in steps:
            result = await player.play(step)
            if step[0] == "end" and result:
                ended[player.jobs[step[1] % len(player.jobs)]] += 1
            for job_id, gist in zip(player.jobs, await player.seen(), strict=True):
                before = states.get(job_id)
                if before is not None and before[1].has_ended:
                    assert gist in {None, before}, "it stays as it ended, until it is forgotten"
                elif gist is not None:
                    states[job_id] = gist
            assert await player.store.open_jobs() <= OPEN_MAX
        assert all(count == 1 for count in ended.values())

    asyncio.run(play())
