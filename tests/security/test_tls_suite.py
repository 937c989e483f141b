"""The suite with mutual TLS on every hop: who is refused, and certificates and authorities changed under load."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.dev_certs import Authority
from spillway.client import AsyncClient
from spillway.errors import RequestError, UnavailableError
from spillway.routing import CacheKind, CacheMode, RoutingOptions
from spillway.v1 import cache_pb2, cache_pb2_grpc, executor_pb2, executor_pb2_grpc
from tests.support.certificates import CertificateFolders, credentials_of
from tests.support.processes import wait_until
from tests.support.suite import Suite
from tests.support.waiting import until

SERVICES = ("orchestrator", "classifier", "cache", "executor")
CALLERS = {
    "orchestrator": ["client"],
    "classifier": ["spiffe://spillway/orchestrator", "cache"],
    "cache": ["orchestrator"],
    "executor": ["orchestrator", "classifier"],
}
CALLS_AT_ONCE = 20
CALLS_PER_CONNECTION = 25
RENEWALS = int(os.environ.get("SPILLWAY_TLS_RENEWALS", "1"))
"""Of certificates by the same authority, before the authority is changed."""


def secured(folder: Path) -> tuple[CertificateFolders, Suite]:
    folders = CertificateFolders(folder / "certs").make(*SERVICES, "client")
    tls = {**folders.settings, "callers": CALLERS, "health_listen": "127.0.0.1:0"}
    return folders, Suite(folder, config={"tls": tls})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CertificateFolders, Suite]]:
    folders, suite = secured(tmp_path_factory.mktemp("tls"))
    with suite:
        yield folders, suite


def check(channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=20)


def refused(address: str, credentials: grpc.ChannelCredentials | None, *, server_name: str = "") -> str:
    """What a health check, which is for everybody who gets through the handshake, ends with."""
    options = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    opened = (
        grpc.insecure_channel(address, options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options)
    )
    with opened as channel, pytest.raises(grpc.RpcError) as caught:
        check(channel)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    return str(error.details())


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_no_certificate_a_wrong_authority_and_a_wrong_name_are_refused_by_every_service(
    running: tuple[CertificateFolders, Suite], service: str
) -> None:
    folders, suite = running
    address, ours, other = suite.addresses[service], folders.authority, Authority.create("somebody else")
    mine = ours.issue("orchestrator", "client")
    refused(address, None)
    refused(address, credentials_of(None, ours))
    refused(address, credentials_of(other.issue("orchestrator", "client"), ours))
    refused(address, credentials_of(ours.issue("orchestrator", days=-1), ours))
    assert "CERTIFICATE_VERIFY_FAILED" in refused(address, credentials_of(mine, other))
    said = refused(address, credentials_of(mine, ours), server_name="somebody-else")
    assert "Hostname Verification Check failed" in said
    wait_until(
        lambda: "PEER_DID_NOT_RETURN_A_CERTIFICATE" in suite.processes[service].log(), what="the server says why"
    )
    with grpc.secure_channel(address, credentials_of(mine, ours)) as channel:
        check(channel)


@pytest.mark.slow
def test_a_service_takes_calls_of_those_who_are_named_alone(running: tuple[CertificateFolders, Suite]) -> None:
    folders, suite = running
    with suite.client(credentials=folders.credentials("client")) as client:
        client.complete("What is the capital of France?")
    calls: dict[str, Callable[[Any], Any]] = {
        "executor": lambda channel: executor_pb2_grpc.ExecutorServiceStub(channel).ListTargets(
            executor_pb2.ListTargetsRequest(), timeout=20
        ),
        "cache": lambda channel: cache_pb2_grpc.CacheServiceStub(channel).GetStats(
            cache_pb2.GetStatsRequest(), timeout=20
        ),
    }
    for service, call in calls.items():
        with grpc.secure_channel(suite.addresses[service], folders.credentials("orchestrator")) as channel:
            call(channel)
        with (
            grpc.secure_channel(suite.addresses[service], folders.credentials("client")) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            call(channel)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    with (
        suite.client(credentials=folders.credentials("executor")) as client,
        pytest.raises(RequestError, match="the client certificate does not allow this"),
    ):
        client.complete("What is the capital of France?")


@pytest.mark.slow
def test_commands_and_clients_take_their_certificates_from_the_environment(
    running: tuple[CertificateFolders, Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, suite = running
    own = folders.folder / "client"
    monkeypatch.setenv("SPILLWAY_TLS_CA", f"{own}/ca.crt")
    with suite.client() as client, pytest.raises(UnavailableError):
        client.explain("What is the capital of France?", timeout_s=20)
    monkeypatch.setenv("SPILLWAY_TLS_CERT", f"{own}/tls.crt")
    with pytest.raises(ValueError, match="SPILLWAY_TLS_KEY"):
        suite.client()
    monkeypatch.setenv("SPILLWAY_TLS_KEY", f"{own}/tls.key")
    with suite.client() as client:
        client.explain("What is the capital of France?")
    status = [sys.executable, "-m", "spillway.cli", "status", "--json", "--config", str(suite.folder / "spillway.yaml")]
    done = subprocess.run(status, check=False, capture_output=True, text=True, timeout=60)
    seen = {each["service"]: each["serving"] for each in json.loads(done.stdout)["services"]}
    assert [seen[service] for service in ("classifier", "cache", "executor")] == [True] * 3, done.stdout
    monkeypatch.setenv("SPILLWAY_TLS_SERVER_NAME", "somebody-else")
    with suite.client() as client, pytest.raises(UnavailableError, match="Hostname Verification"):
        client.explain("What is the capital of France?", timeout_s=20)
    monkeypatch.setenv("SPILLWAY_TLS_CA", f"{own}/none.crt")
    with pytest.raises(ValueError, match="the file of SPILLWAY_TLS_CA cannot be read"):
        suite.client()
    done = subprocess.run(status, check=False, capture_output=True, text=True, timeout=60)
    assert "the file of SPILLWAY_TLS_CA cannot be read" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.slow
def test_a_probe_without_tls_sees_health_and_nothing_else(running: tuple[CertificateFolders, Suite]) -> None:
    _, suite = running
    for service in ("executor", "cache"):
        (serving,) = re.findall(r'"health_listen": "([^"]+)"', suite.processes[service].log())
        with grpc.insecure_channel(serving) as channel:
            assert check(channel).status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                executor_pb2_grpc.ExecutorServiceStub(channel).ListTargets(executor_pb2.ListTargetsRequest())
            error: Any = caught.value
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.slow
def test_a_service_with_a_wrong_authority_or_name_is_not_spoken_to_until_its_files_are_right(
    running: tuple[CertificateFolders, Suite],
) -> None:
    """The cache is done without; the executor cannot be."""
    folders, suite = running
    log = suite.processes["orchestrator"].log
    with suite.client(credentials=folders.credentials("client")) as client:

        def kind() -> CacheKind | None:
            """What the cache was good for; None when there is no answer."""
            try:
                return client.complete("What is the capital of Spain?", timeout_s=20).cache.kind
            except UnavailableError:
                return None

        folders.issue("cache", authority=Authority.create("somebody else"))
        folders.issue("executor", names=("somebody-else.example",))
        for service in ("cache", "executor"):
            suite.processes[service].kill()
            suite.restart(service)
        wait_until(lambda: kind() is None and "Hostname Verification" in log(), what="the log says why")
        folders.issue("executor")
        wait_until(lambda: kind() is CacheKind.UNAVAILABLE, what="an answer without the cache")
        folders.issue("cache")
        wait_until(lambda: kind() is CacheKind.EXACT_HIT, what="an answer of the cache")


class Load:
    """Callers without a pause, each over a connection that it makes anew every now and then."""

    def __init__(self, folders: CertificateFolders, target: str) -> None:
        self.answered = 0
        self.failures: list[RequestError] = []
        self._folders = folders
        self._target = target
        self._ended = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(CALLS_AT_ONCE)]

    async def _run(self, number: int) -> None:
        asked = 0
        options = RoutingOptions(cache_mode=CacheMode.BYPASS if number % 2 else CacheMode.USE)
        while not self._ended.is_set():
            async with AsyncClient(self._target, credentials=self._folders.credentials("client")) as client:
                for _ in range(CALLS_PER_CONNECTION):
                    asked += 1
                    try:
                        await client.complete(f"What is {number} plus {asked % 7}?", options=options, timeout_s=60)
                    except RequestError as error:
                        self.failures.append(error)
                    else:
                        self.answered += 1
                    if self._ended.is_set():
                        break

    async def more(self, count: int) -> None:
        """Returns after `count` more answers, or with the first failure."""
        goal = self.answered + count
        await until(lambda: self.answered >= goal or bool(self.failures))

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def load(folders: CertificateFolders, target: str) -> AsyncIterator[Load]:
    made = Load(folders, target)
    try:
        yield made
    finally:
        await made.end()


def renewals(suite: Suite, service: str) -> int:
    return suite.processes[service].log().count('"event": "tls_renewed"')


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_renewed_certificates_and_a_new_authority_under_load_lose_no_call(
    running: tuple[CertificateFolders, Suite],
) -> None:
    folders, suite = running
    first, second = folders.authority, Authority.create("second")
    names = (*SERVICES, "client")

    before = {service: renewals(suite, service) for service in SERVICES}

    async def taken_over(count: int) -> None:
        await until(lambda: all(renewals(suite, service) - before[service] >= count for service in SERVICES))

    async with load(folders, suite.target) as calls:
        await calls.more(100)
        for number in range(RENEWALS):
            for name in names:
                folders.issue(name)
            await taken_over(number + 1)
            await calls.more(100)
        for name in names:
            folders.trust(name, first, second)
        await taken_over(RENEWALS + 1)
        await calls.more(100)
        for name in names:
            folders.issue(name, authority=second)
        await taken_over(RENEWALS + 2)
        await calls.more(100)
        for name in names:
            folders.trust(name, second)
        await taken_over(RENEWALS + 3)
        await calls.more(100)
    print(f"{calls.answered} answers, {len(calls.failures)} failures")
    assert [str(failure) for failure in calls.failures] == []
    assert calls.answered >= 100 * (RENEWALS + 4)

    # The first authority is gone for good, at every port and in every channel.
    for service in SERVICES:
        host, _, port = suite.addresses[service].partition(":")
        served = await asyncio.to_thread(_served_by, host, int(port), folders)
        assert served.issuer.rfc4514_string() == "CN=second"
        await asyncio.to_thread(refused, suite.addresses[service], credentials_of(first.issue("client"), second))
    suite.processes["executor"].kill()
    await asyncio.to_thread(suite.restart, "executor")
    async with AsyncClient(suite.target, credentials=folders.credentials("client")) as client:
        answered = False
        async with asyncio.timeout(60):
            while not answered:
                with suppress(UnavailableError):  # of the time when it was gone
                    answered = bool((await client.complete("What is 5 plus 5?", timeout_s=60)).attempts)
    folders.authority = second


def _served_by(host: str, port: int, folders: CertificateFolders) -> x509.Certificate:
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, port), timeout=20).encode())
