"""Each store that answers are kept in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cache.store.answer_store import AnswerStore
from services.cache.store.answer_store_file import FileStore
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.support.redis_server import RedisServer

WELL_S = 10.0


@pytest.fixture(params=["memory", "file", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnswerStore]:
    made: AnswerStore
    if request.param == "memory":
        made = MemoryStore(entries_max=100, clock=SystemClock())
    elif request.param == "file":
        made = await FileStore.open(
            tmp_path / "cache.sqlite", entries_max=100, bytes_max=1_000_000, clock=SystemClock()
        )
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        made = RedisStore(server.url, timeout_s=WELL_S, clock=SystemClock())
    yield made
    await made.close()
