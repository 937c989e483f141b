"""Callers of one pipeline at once, and an executor that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from services.orchestrator.hops import Again
from services.orchestrator.run import Run
from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest
from spillway.routing import AnswerDelta, CacheKind, Completion, CompletionRequest, Execution, Plan, TaskType
from spillway.settings import Settings
from tests.unit.orchestrator.fakes import Bench, FakeExecutor
from tests.unit.orchestrator.ladder import request_of

__all__ = ["REMAINING_S", "Crowd", "kinds", "settle"]

REMAINING_S = 30.0


@dataclass
class HeldExecutor(FakeExecutor):
    """Holds every call until it is let go, one by one; each gives what comes next, and the last for ever."""

    calls: list[asyncio.Future[None]] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    next_gives: list[Execution | SpillwayError] = field(default_factory=list)

    async def execute(
        self, chat: ChatRequest, plan: Plan, *, task_type: TaskType | None, timeout_s: float, again: Again | None = None
    ) -> Execution:
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.append(held)
        self.arrived.release()
        await held
        gives = self.next_gives.pop(0) if self.next_gives else self.gives
        if isinstance(gives, SpillwayError):
            raise gives
        return gives


class Crowd:
    """Callers of one pipeline whose executor holds its calls, and whose cache finds what was stored."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.bench = Bench(settings, tasks_max=1_000)
        self.bench.cache.remembers = True
        self.executor = HeldExecutor(self.bench.clock)
        self.bench.use_executor(self.executor)
        self.tasks: list[asyncio.Task[Completion]] = []
        self.runs: list[Run] = []

    async def come(self, count: int = 1, request: CompletionRequest | None = None, *, streams: bool = False) -> None:
        for _ in range(count):
            run = self.bench.pipeline.begin(request or request_of(), remaining_s=REMAINING_S)
            self.runs.append(run)
            self.tasks.append(asyncio.create_task(self._call(run, self._last(run) if streams else None)))
        await settle()

    async def let_go(self, index: int = -1) -> None:
        """Ends a call of the executor."""
        self.executor.calls[index].set_result(None)
        await settle()

    @property
    def waiting(self) -> int:
        return sum(not task.done() for task in self.tasks)

    async def all(self) -> list[Completion]:
        async with asyncio.timeout(10):
            return await asyncio.gather(*self.tasks)

    async def _call(self, run: Run, call: Coroutine[Any, Any, Completion] | None) -> Completion:
        try:
            return await (call or self.bench.pipeline.complete(run))
        finally:
            self.bench.pipeline.finish(run)

    async def _last(self, run: Run) -> Completion:
        *deltas, last = [event async for event in self.bench.pipeline.stream(run)]
        assert isinstance(last, Completion)
        assert "".join(delta.text for delta in deltas if isinstance(delta, AnswerDelta)) == last.text
        return last


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def kinds(completions: list[Completion]) -> list[CacheKind]:
    """Of what kind the answers were, each once."""
    return sorted({each.cache.kind for each in completions})
