"""Jobs among scripted models and webhooks, in processes that share one store and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from opentelemetry.metrics import NoOpMeterProvider

from services.orchestrator.jobs.job_store import Ending, JobStoreError, Notice
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.memory_store import MemoryJobStore
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import Sent
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.replays.replay_store import MemoryReplayStore
from services.runtime.clock import FakeClock
from spillway.routing import Completion, CompletionRequest, Job, WebhookDelivery
from spillway.settings import Jobs as JobsSettings
from tests.support.jobs_parts import completion

__all__ = ["SEED", "URL", "World"]

SEED = 20_261_122
URL = "https://hooks.example.com/"


class Models:
    """The work: what each call does is scripted; after the script it answers."""

    def __init__(self) -> None:
        self.script: list[BaseException | asyncio.Event] = []
        self.calls: list[tuple[CompletionRequest, str, str]] = []
        self.cancelled = 0
        self.called = asyncio.Event()

    async def __call__(self, request: CompletionRequest, *, job_id: str, key_id: str, deadline_s: float) -> Completion:
        self.calls.append((request, job_id, key_id))
        self.called.set()
        step = self.script.pop(0) if self.script else None
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        elif step is not None:
            raise step
        return completion("42", request.request_id)


class Hooks:
    """Webhooks: what they say is scripted, in the end they take it."""

    def __init__(self) -> None:
        self.script: list[Sent] = []
        self.sent: list[Notice] = []
        self.closed = False

    async def send(self, notice: Notice) -> Sent:
        self.sent.append(notice)
        return self.script.pop(0) if self.script else Sent(WebhookDelivery(1.0, 200))

    def close(self) -> None:
        self.closed = True


class Told:
    """Decisions that are told of."""

    def __init__(self) -> None:
        self.replayed_of: list[tuple[str, str, str]] = []
        self.may_leave = asyncio.Event()
        self.asked = 0

    def replayed(self, request: CompletionRequest, completion: Completion, *, job_id: str, key_id: str) -> None:
        assert completion.request_id == request.request_id
        self.replayed_of.append((job_id, key_id, request.tenant))

    async def sent(self) -> None:
        self.asked += 1
        await self.may_leave.wait()


class FlakyStore(MemoryJobStore):
    """Is away for the next so many steps."""

    ends_away = 0
    gets_away = 0

    async def end(self, job_id: str, owner: str, ending: Ending) -> bool:
        if self.ends_away:
            self.ends_away -= 1
            raise JobStoreError("away")
        return await super().end(job_id, owner, ending)

    async def get(self, job_id: str, tenant: str) -> Job | None:
        if self.gets_away:
            self.gets_away -= 1
            raise JobStoreError("away")
        return await super().get(job_id, tenant)


class World:
    """Some processes with one store, and time that moves when it is told to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = FlakyStore(self.clock)
        self.replays = Replays(MemoryReplayStore(self.clock), window_s=3_600, clock=self.clock)
        self.models = Models()
        self.hooks = Hooks()
        self.revoked: set[str] = set()
        self.told = Told()
        self.told.may_leave.set()

    def process(self, *, webhooks: bool = True, **options: float) -> Jobs:
        settings = JobsSettings.model_validate({"workers": 2, "tries_max": 3, **options})
        return Jobs(
            settings,
            store=self.store,
            replays=self.replays,
            answer=self.models,
            clock=self.clock,
            metrics=JobMetrics(NoOpMeterProvider().get_meter("test")),
            guard=WebhookGuard(),
            sender=self.hooks if webhooks else None,
            decisions=self.told,
            may_run=lambda key_id: key_id not in self.revoked,
            rng=random.Random(SEED),
        )

    @asynccontextmanager
    async def running(self, **options: int | float) -> AsyncIterator[Jobs]:
        jobs = self.process(webhooks=True, **options)
        jobs.start()
        yield jobs
        await jobs.close()
        await self.replays.close()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, step_s: float = 0.1) -> None:
        """Moves time on until it holds."""
        for _ in range(20_000):
            if await condition():
                return
            for _ in range(5):
                await asyncio.sleep(0)
            self.clock.advance(step_s)
        raise AssertionError("it never holds")

    async def ended(self, jobs: Jobs, job: Job) -> Job:
        async def has_ended() -> bool:
            return (await jobs.get(job.job_id, "acme")).state.has_ended

        await self.until(has_ended)
        return await jobs.get(job.job_id, "acme")
