"""A client whose primary moves, on two real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.runtime.clock import FakeClock
from services.runtime.redis_client import find_places, open_redis
from services.runtime.redis_places import RedisPlaces
from tests.support.redis_server import RedisServer

URL = "redis+sentinel://127.0.0.1:1/main"
"""Nobody is there to be asked: what is known stays."""


@pytest.fixture
def successor(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "successor").mkdir()
    server = RedisServer(tmp_path / "successor")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def places(redis_server: RedisServer) -> AsyncIterator[RedisPlaces]:
    found = find_places(URL, setting="some.url", password="", clock=FakeClock())
    assert found is not None
    moved(found, redis_server)
    yield found
    await found.close()


@pytest.fixture
async def client(places: RedisPlaces) -> AsyncIterator[Redis]:
    made = open_redis(URL, setting="some.url", password="", timeout_s=20, connections_max=2, places=places)
    yield made
    await made.aclose()


def moved(places: RedisPlaces, server: RedisServer) -> None:
    places._places[0] = ("127.0.0.1", server.port)


async def test_a_connection_to_a_primary_that_was_replaced_is_not_used_though_it_goes_on_answering(
    redis_server: RedisServer, successor: RedisServer, places: RedisPlaces, client: Redis
) -> None:
    assert await client.set("where", "first")
    moved(places, successor)
    assert await client.get("where") is None
    moved(places, redis_server)
    assert await client.get("where") == b"first"


async def test_a_server_that_has_become_a_replica_is_gone_and_is_not_connected_to_again(
    redis_server: RedisServer, successor: RedisServer, places: RedisPlaces, client: Redis
) -> None:
    assert await client.set("where", "first")
    with redis_server.client() as other:
        other.replicaof("127.0.0.1", str(successor.port))
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await client.set("where", "lost")
    moved(places, successor)
    assert await client.set("where", "second")


async def test_a_replica_is_not_even_read_from(
    redis_server: RedisServer, successor: RedisServer, places: RedisPlaces, client: Redis
) -> None:
    with redis_server.client() as other:
        other.set("where", "outdated")
        other.replicaof("127.0.0.1", str(successor.port))
    with pytest.raises(RedisConnectionError, match="not a primary"):
        await client.get("where")


async def test_when_nobody_knows_of_a_primary_the_call_fails_at_once() -> None:
    places = find_places(URL, setting="some.url", password="", clock=FakeClock())
    client = open_redis(URL, setting="some.url", password="", timeout_s=20, connections_max=2, places=places)
    with pytest.raises(RedisConnectionError, match="no server is known"):
        await client.ping()
    await client.aclose()
