"""Tests here run against a redis-server of their own; the service over it, and over memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.integration.cache.served import served
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

__all__ = ["redis_server", "store", "stub"]


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
