"""Each store that answers are kept in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from services.cache.store.answer_store import AnswerStore
from services.cache.store.answer_store_file import FileStore
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_limits import Limits
from services.runtime.clock import SystemClock
from tests.support.redis_server import RedisServer

WELL_S = 10.0


Opened = Callable[[Limits], Awaitable[AnswerStore]]


@pytest.fixture(params=["memory", "file", "redis"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens a store with these limits."""
    made: list[AnswerStore] = []

    async def open_store(limits: Limits) -> AnswerStore:
        bounds: dict[str, Any] = asdict(limits)
        if request.param == "memory":
            made.append(MemoryStore(clock=SystemClock(), **bounds))
        elif request.param == "file":
            made.append(await FileStore.open(tmp_path / "cache.sqlite", clock=SystemClock(), **bounds))
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            made.append(RedisStore(server.url, timeout_s=WELL_S, clock=SystemClock(), limits=limits))
        return made[-1]

    yield open_store
    for store in made:
        await store.close()


@pytest.fixture
async def store(opened: Opened) -> AnswerStore:
    return await opened(Limits(100, 100, 1_000_000))
