"""Redis behind TLS, as each service reaches it: the authority and the certificate stand in the URL."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.cache.store.redis_servers import RedisServers, parse_redis_url
from services.executor.sharing import BreakerSharing
from services.executor.targets import TargetPool
from services.orchestrator.canary.drift_store_redis import RedisDrift
from services.orchestrator.quotas.redis_books import connect
from services.runtime.clock import SystemClock
from tests.support.certificates import CertificateFolders
from tests.support.redis_server import RedisServer, free_port
from tests.support.toy import settings


class Secured:
    """A redis-server that speaks TLS alone and lets in nobody without a certificate."""

    def __init__(self, folder: Path) -> None:
        self.folders = CertificateFolders(folder / "certs").make("redis", "client")
        self.folders.issue("misnamed", names=("somebody-else.example",))
        self.port = free_port()
        self.misnamed_port = free_port()
        self._servers = [
            self._server(folder, name, port) for name, port in (("redis", self.port), ("misnamed", self.misnamed_port))
        ]

    def _server(self, folder: Path, name: str, port: int) -> RedisServer:
        own, ca = self.folders.folder / name, self.folders.folder / "client" / "ca.crt"
        files = ("--tls-cert-file", f"{own}/tls.crt", "--tls-key-file", f"{own}/tls.key", "--tls-ca-cert-file", str(ca))
        server = RedisServer(folder, "--tls-port", str(port), "--tls-auth-clients", "yes", *files)
        server.start()
        return server

    def url(self, *, port: int = 0, authority: bool = True, certificate: bool = True) -> str:
        own = self.folders.folder / "client"
        queries = [f"ssl_ca_certs={own}/ca.crt"] if authority else []
        queries += [f"ssl_certfile={own}/tls.crt", f"ssl_keyfile={own}/tls.key"] if certificate else []
        return f"rediss://127.0.0.1:{port or self.port}/0" + ("?" + "&".join(queries) if queries else "")

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


@asynccontextmanager
async def orchestrator(url: str, _: Path) -> AsyncIterator[Redis]:
    client = connect(url, password="", timeout_s=20)
    yield client
    await client.aclose()


@asynccontextmanager
async def drift(url: str, _: Path) -> AsyncIterator[Redis]:
    store = RedisDrift(url, timeout_s=20, clock=SystemClock())
    yield store._redis
    await store.close()


@asynccontextmanager
async def executor(url: str, folder: Path) -> AsyncIterator[Redis]:
    pool = TargetPool(settings(folder).settings, random=random.random)
    sharing = BreakerSharing(url, password="", pool=pool, clock=SystemClock())
    yield sharing._redis
    await sharing.close()


@asynccontextmanager
async def cache(url: str, _: Path) -> AsyncIterator[Redis]:
    servers = RedisServers(parse_redis_url(url), password="", clock=SystemClock())
    yield await servers.client(0)
    await servers.close()


@pytest.mark.parametrize("opening", [orchestrator, drift, executor, cache], ids=lambda opening: opening.__name__)
async def test_every_service_reaches_a_redis_behind_tls_and_no_other_than_that(
    secured: Secured, tmp_path: Path, opening: Callable[..., object]
) -> None:
    async def answers(url: str) -> bool:
        async with opening(url, tmp_path) as client:  # type: ignore[attr-defined]
            try:
                return bool(await client.execute_command("PING"))
            except RedisConnectionError:
                return False

    assert await answers(secured.url())
    refused = {
        "an authority that it does not know": secured.url(authority=False),
        "no certificate of its own": secured.url(certificate=False),
        "a server with another name": secured.url(port=secured.misnamed_port),
        "no TLS": secured.url().replace("rediss://", "redis://").partition("?")[0],
    }
    for why, url in refused.items():
        assert not await answers(url), why
