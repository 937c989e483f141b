"""Redis behind TLS, as each service reaches it: the authority and the certificate stand in the URL."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.cache.store.redis_servers import RedisServers
from services.executor.sharing import BreakerSharing
from services.executor.targets import TargetPool
from services.orchestrator.canary.drift_store_redis import RedisDrift
from services.orchestrator.guarded_redis import connect
from services.runtime.clock import SystemClock
from spillway.configuration.redis_url import parse_redis_url
from tests.support.certificates import CertificateFolders
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer, free_port
from tests.support.redis_sites import command
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
        options = ("--tls-port", str(port), "--tls-auth-clients", "yes", *self.files_of(name))
        server = RedisServer(folder, *options)
        server.start()
        return server

    def url(self, *, port: int = 0, authority: bool = True, certificate: bool = True) -> str:
        own = self.folders.folder / "client"
        queries = [f"ssl_ca_certs={own}/ca.crt"] if authority else []
        queries += [f"ssl_certfile={own}/tls.crt", f"ssl_keyfile={own}/tls.key"] if certificate else []
        return f"rediss://127.0.0.1:{port or self.port}/0" + ("?" + "&".join(queries) if queries else "")

    def files_of(self, name: str) -> tuple[str, ...]:
        own, ca = self.folders.folder / name, self.folders.folder / "client" / "ca.crt"
        return ("--tls-cert-file", f"{own}/tls.crt", "--tls-key-file", f"{own}/tls.key", "--tls-ca-cert-file", str(ca))

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
    store = RedisDrift(connect(url, password="", timeout_s=20), timeout_s=20, clock=SystemClock())
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


class SecuredSites:
    """A primary that a sentinel names, and a cluster of one node; all of them speak TLS with each other and with us."""

    def __init__(self, folder: Path, secured: Secured) -> None:
        self._secured = secured
        self._sentinel_port = free_port()
        self._cluster_port = free_port()
        mutual = ("--tls-auth-clients", "yes", *secured.files_of("redis"))
        clustered = ("--tls-cluster", "yes", "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        self._cluster = RedisServer(folder, "--tls-port", str(self._cluster_port), *clustered, *mutual)
        self._cluster.start()
        with self._cluster.client() as client:
            command(client, "CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            wait_until(
                lambda: b"cluster_state:ok" in command(client, "CLUSTER", "INFO"), what="the cluster is complete"
            )
        config = folder / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {secured.port} 1\n")
        program = shutil.which("redis-server")
        assert program is not None
        listening = ("--port", "0", "--tls-port", str(self._sentinel_port), "--tls-replication", "yes")
        self._sentinel = subprocess.Popen(
            [program, str(config), "--sentinel", "--bind", "127.0.0.1", "--dir", str(folder), *listening, *mutual],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._sentinel_answers, what="the sentinel answers")

    def _sentinel_answers(self) -> bool:
        own = self._secured.folders.folder / "client"
        files = {"ssl_ca_certs": f"{own}/ca.crt", "ssl_certfile": f"{own}/tls.crt", "ssl_keyfile": f"{own}/tls.key"}
        with redis.Redis(port=self._sentinel_port, host="127.0.0.1", ssl=True, **files) as client:  # type: ignore[arg-type]
            try:
                return bool(client.ping())
            except RedisConnectionError:
                return False

    def url(self, kind: str, **how: bool) -> str:
        _, question, query = self._secured.url(**how).partition("?")
        place = f"127.0.0.1:{self._sentinel_port}/main" if kind == "sentinel" else f"127.0.0.1:{self._cluster_port}"
        return f"rediss+{kind}://{place}{question}{query}"

    def stop(self) -> None:
        self._sentinel.kill()
        self._sentinel.wait()
        self._cluster.stop()


@pytest.fixture(scope="module")
def secured_sites(tmp_path_factory: pytest.TempPathFactory, secured: Secured) -> Iterator[SecuredSites]:
    made = SecuredSites(tmp_path_factory.mktemp("sites"), secured)
    yield made
    made.stop()


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_the_cache_shows_its_certificate_to_sentinels_and_clusters_too(
    secured_sites: SecuredSites, kind: str
) -> None:
    async def answers(url: str) -> bool:
        servers = RedisServers(parse_redis_url(url), password="", clock=SystemClock())
        try:
            return bool(await (await servers.client(0)).ping())
        except RedisConnectionError:
            return False
        finally:
            await servers.close()

    assert await answers(secured_sites.url(kind))
    assert not await answers(secured_sites.url(kind, authority=False))
    assert not await answers(secured_sites.url(kind, certificate=False))
    assert not await answers(secured_sites.url(kind).replace("rediss", "redis").partition("?")[0])
