"""A Redis behind a socket file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from services.runtime.redis_client import open_redis
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    socket = tmp_path / "s"
    server = RedisServer(tmp_path, "--unixsocket", str(socket))
    server.start()
    yield f"unix://{socket}?db=1"
    server.stop()


async def test_a_client_of_a_socket_gets_answers(url: str) -> None:
    client = open_redis(url, setting="some.url", password="", timeout_s=20, connections_max=2)
    assert await client.set("where", "here")
    await client.aclose()


async def test_the_cache_keeps_answers_behind_a_socket(url: str) -> None:
    store = RedisStore(url, timeout_s=20.0, clock=SystemClock())
    put = entry("q", now_unix_s=SystemClock().unix())
    assert await store.put(put)
    assert await store.get_many([put.key]) == [put]
    await store.close()
