"""One cluster for all tests of this folder: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.name_server import NameServer
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer

LATENCY_S = 1.0
"""Of a model: callers wait most of their time, as they do in life, and calls are under way whenever a process goes."""


@pytest.fixture(scope="package")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer, postgres_server: PostgresServer
) -> Iterator[Cluster]:
    with (
        NameServer() as names,
        Cluster(
            tmp_path_factory.mktemp("cluster"),
            names,
            redis_url=redis.url,
            database_url=postgres_server.new_database(),
        ) as made,
    ):
        made.script({"*": [{"text": "The river.", "confidence": 5, "latency_s": LATENCY_S}]})
        yield made
