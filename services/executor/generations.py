"""The configurations that this executor works by: the one in force, and those before it that are still needed.

Promises: an execution belongs to one generation from its beginning to its end: its targets, prices, gates' weights and
connections. A plan is run by the version that it was made by, as long as that is one of the last `KEPT_MAX` and was
replaced less than `KEEP_S` ago; so orchestrators that are a little behind are answered as they planned it. Is the plan
of a version that is not here yet, the file is looked at first. Connections are shared by the generations that agree on
them, and are closed after the last execution of the last of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from services.executor.execution import Executor
from services.executor.providers.provider import Provider
from services.executor.targets import TargetPool
from services.runtime.clock import Clock
from services.runtime.tasks import end_tasks

__all__ = ["KEEP_S", "KEPT_MAX", "Client", "Generation", "Generations"]

KEEP_S: Final = 120.0
"""Longer than a mounted ConfigMap takes to reach every node."""
KEPT_MAX: Final = 4
"""With the one in force."""


@dataclass(eq=False, slots=True)
class Client:
    """A provider's connections. `place` is all that they depend on, the key included, so it is never shown."""

    place: tuple[object, ...]
    provider: Provider
    holders: int = 0

    def __repr__(self) -> str:
        return "Client()"


@dataclass(eq=False, slots=True)
class Generation:
    """One configuration at work. `clients` by the name of their provider."""

    version: str
    executor: Executor
    pool: TargetPool
    clients: dict[str, Client]
    executions: int = 0
    is_retired: bool = False


class Generations:
    """One per process, for one event loop. Close it after the last execution.

    `look_for` is called with a version that a plan names and that is not here.
    """

    def __init__(self, first: Generation, clock: Clock) -> None:
        self._clock = clock
        self._kept = {first.version: first}
        self._expiring: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.current = first
        self.look_for: Callable[[str], Awaitable[None]] | None = None
        _hold(first)

    @asynccontextmanager
    async def of(self, version: str) -> AsyncIterator[Generation]:
        """The generation of this version, else the one in force; it is kept until the body has ended."""
        if version and version not in self._kept and self.look_for is not None:
            await self.look_for(version)
        generation = self._kept.get(version, self.current)
        generation.executions += 1
        try:
            yield generation
        finally:
            generation.executions -= 1
            self._let_go(generation)

    def exchange(self, new: Generation) -> None:
        """What begins from now on is of this one, unless it asks for another."""
        before, self.current = self.current, new
        _hold(new)
        same = self._kept.pop(new.version, None)
        self._kept[new.version] = new
        if same is not None:
            self._retire(same)
        if before is not same:
            _keep(self._expiring, asyncio.create_task(self._expire(before)))
        while len(self._kept) > KEPT_MAX:
            self._retire(next(iter(self._kept.values())))

    async def close(self) -> None:
        """Closes every connection."""
        await end_tasks(self._expiring)
        for generation in list(self._kept.values()):
            self._retire(generation)
        await asyncio.gather(*self._closing)

    async def _expire(self, generation: Generation) -> None:
        await self._clock.sleep(KEEP_S)
        self._retire(generation)

    def _retire(self, generation: Generation) -> None:
        if self._kept.get(generation.version) is generation:
            del self._kept[generation.version]
        if not generation.is_retired:
            generation.is_retired = True
            self._let_go(generation)

    def _let_go(self, generation: Generation) -> None:
        """Closes what nobody needs any more."""
        if not generation.is_retired or generation.executions:
            return
        for client in generation.clients.values():
            client.holders -= 1
            if client.holders == 0:
                _keep(self._closing, asyncio.ensure_future(client.provider.close()))
        generation.clients = {}


def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    """Until it has ended."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _hold(generation: Generation) -> None:
    for client in generation.clients.values():
        client.holders += 1
