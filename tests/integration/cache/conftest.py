"""Tests here run against a redis-server of their own; the service over it, and over memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.cache.entry import Entry
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.integration.cache.served import served
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

__all__ = ["another", "put", "redis_server", "store", "stub"]


@pytest.fixture(params=["memory", "redis"])
async def stub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CacheServiceAsyncStub]:
    cache: dict[str, Any] = {"store": request.param, "redis_timeout_s": 10}
    if request.param == "redis":
        cache["redis_url"] = cast("RedisServer", request.getfixturevalue("redis_server")).url
    async with served(tmp_path, cache) as made:
        yield made


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    made = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    yield made
    await made.close()


@pytest.fixture
async def another(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    """A replica that has read nothing yet."""
    made = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock())
    yield made
    await made.close()


@pytest.fixture
def put() -> Entry:
    return entry("q", tags=("red",), now_unix_s=SystemClock().unix())
