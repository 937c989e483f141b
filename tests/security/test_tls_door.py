"""Who is let in through a port with TLS, and what its own channels do when certificates change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from services.runtime import errors
from services.runtime.channel import open_channel
from services.runtime.dev_certs import Authority
from services.runtime.renewed_channel import RETIRED_MAX, RenewedChannel
from services.runtime.server import RunningServer, start
from services.runtime.tls import Certificates, open_certificates
from spillway.failure import read_failure
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support.certificates import CertificateFolders, credentials_of
from tests.support.toy import NAME, Toy, command, settings, toy_service

SERVING = health_pb2.HealthCheckResponse.SERVING


class Served:
    """A toy that stands for the executor, behind TLS."""

    def __init__(self, folders: CertificateFolders, toy: Toy, server: RunningServer, own: Certificates) -> None:
        self.folders = folders
        self.toy = toy
        self.server = server
        self.own = own

    @asynccontextmanager
    async def channel(
        self, credentials: grpc.ChannelCredentials | None, *, address: str = "", server_name: str = ""
    ) -> AsyncIterator[Any]:
        """A channel of somebody else; plain without credentials."""
        options = [("grpc.ssl_target_name_override", server_name)] if server_name else []
        target = address or self.server.address
        if credentials is None:
            made = grpc.aio.insecure_channel(target, options)
        else:
            made = grpc.aio.secure_channel(target, credentials, options)
        async with made:
            yield made

    async def ask(self, credentials: grpc.ChannelCredentials | None, **options: str) -> errors.SpillwayError | None:
        """How a call of this caller ends; None when it is answered."""
        async with self.channel(credentials, **options) as channel:
            try:
                await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)
            except grpc.aio.AioRpcError as error:
                failure = read_failure(error)
                return errors.SpillwayError(failure.code, failure.reason, failure.message)
        return None

    async def renew(self, *names: str) -> None:
        """New certificates in the folders of `names`, taken over by the server."""
        for name in names:
            self.folders.issue(name)
        await self.own.look()


@asynccontextmanager
async def served(
    folder: Path,
    *,
    listen: str = "127.0.0.1:0",
    drain_s: float = 0.0,
    folders: CertificateFolders | None = None,
    **tls: Any,
) -> AsyncIterator[Served]:
    folders = folders or CertificateFolders(folder / "certs").make("executor", "orchestrator")
    sections = {"limits": {"drain_s": drain_s, "grace_s": 5}, "tls": {**folders.settings, **tls}}
    loaded = settings(folder, yaml.safe_dump(sections))
    own = open_certificates(loaded.settings.tls, "executor")
    assert own is not None
    toy = Toy()
    server = await start(replace(toy_service(toy), name="executor", certificates=own), loaded, listen)
    try:
        yield Served(folders, toy, server, own)
    finally:
        toy.release.set()
        await server.stop()


def health(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def reflection(channel: Any) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(channel)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition is not ours to signal
            await asyncio.sleep(0.001)


async def test_a_caller_with_a_certificate_of_the_authority_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        assert await it.ask(it.folders.credentials("orchestrator")) is None
        assert it.toy.calls == 1


async def test_nobody_else_gets_as_far_as_the_service(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        ours, other = it.folders.authority, Authority.create("somebody else")
        callers = {
            "without TLS": None,
            "without a certificate": credentials_of(None, ours),
            "of another authority": credentials_of(other.issue("orchestrator"), ours),
            "expired": credentials_of(ours.issue("orchestrator", days=-1), ours),
        }
        for who, credentials in callers.items():
            error = await it.ask(credentials)
            assert error is not None, who
            assert error.code is grpc.StatusCode.UNAVAILABLE, who
        assert it.toy.calls == 0


async def test_a_server_of_another_authority_or_another_name_is_not_spoken_to(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        mine = it.folders.issue("orchestrator")
        error = await it.ask(credentials_of(mine, Authority.create("somebody else")))
        assert error is not None
        assert "CERTIFICATE_VERIFY_FAILED" in error.public
        error = await it.ask(credentials_of(mine, it.folders.authority), server_name="cache")
        assert error is not None
        assert "Hostname Verification Check failed" in error.public
        assert it.toy.calls == 0
        assert await it.ask(credentials_of(mine, it.folders.authority), server_name="executor") is None


async def test_a_service_that_asks_for_no_certificate_takes_callers_without_one_and_is_still_tls(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, require_client_certificate=["cache"]) as it:
        assert await it.ask(credentials_of(None, it.folders.authority)) is None
        assert await it.ask(None) is not None


@pytest.mark.parametrize("admitted", ["orchestrator", "spiffe://spillway/orchestrator"])
async def test_only_who_is_named_may_call(tmp_path: Path, admitted: str) -> None:
    async with served(tmp_path, callers={"executor": ["classifier", admitted]}) as it:
        assert await it.ask(it.folders.credentials("orchestrator")) is None
        it.folders.make("cache")
        with capture_logs() as logs:
            for _ in range(2):
                error = await it.ask(it.folders.credentials("cache"))
                assert error is not None
                assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert it.toy.calls == 1
        (entry,) = (entry for entry in logs if entry["event"] == "caller_not_admitted")
        assert "cache" in entry["detail"]


@pytest.mark.parametrize("name", ["Orchestrator", "orchestrator.evil.example", "xorchestrator", "127.0.0.1"])
async def test_a_name_that_is_nearly_right_may_not_call(tmp_path: Path, name: str) -> None:
    async with served(tmp_path, callers={"executor": ["orchestrator", "127.0.0.1"]}) as it:
        issued = it.folders.authority.issue(name)
        error = await it.ask(credentials_of(issued, it.folders.authority))
        assert error is not None
        assert error.code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
        assert it.toy.calls == 0


async def test_streams_and_what_tells_of_the_inside_are_for_those_who_are_named_and_health_is_for_all(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, callers={"executor": ["orchestrator"]}) as it:
        it.folders.make("cache")
        async with it.channel(it.folders.credentials("cache")) as channel:
            check = health(channel).Check(health_pb2.HealthCheckRequest(service=NAME))
            assert (await check).status == SERVING
            inside: list[Any] = [
                channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest()),
                _first(
                    reflection(channel).ServerReflectionInfo(
                        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
                    )
                ),
                _first(executor_pb2_grpc.ExecutorServiceStub(channel).StreamExecute(pb.StreamExecuteRequest())),
            ]
            for call in inside:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def _first(stream: Any) -> Any:
    async for message in stream:
        return message
    return None


async def test_a_service_that_another_does_not_admit_is_no_fault_of_the_caller(tmp_path: Path) -> None:
    async with served(tmp_path, callers={"executor": ["classifier"]}) as it:
        channel = it.channel(it.folders.credentials("orchestrator"))
        async with channel as opened:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await executor_pb2_grpc.ExecutorServiceStub(opened).Execute(command("!ok"))
        passed_on = errors.from_rpc_error(caught.value)
        assert (passed_on.code, passed_on.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "PERMISSION_DENIED" in passed_on.detail


async def test_the_port_for_health_checks_speaks_no_tls_and_answers_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path, health_listen="127.0.0.1:0") as it:
        assert it.server.health_address != it.server.address
        assert await it.ask(it.folders.credentials("orchestrator")) is None
        error = await it.ask(None, address=it.server.health_address)
        assert error is not None
        assert error.code is grpc.StatusCode.UNIMPLEMENTED
        async with it.channel(None, address=it.server.health_address) as channel:
            check = health(channel).Check(health_pb2.HealthCheckRequest(service=NAME))
            assert (await check).status == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest())
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert it.toy.calls == 1


async def test_the_port_for_health_checks_says_that_the_process_is_stopping(tmp_path: Path) -> None:
    async with (
        served(tmp_path, health_listen="127.0.0.1:0") as it,
        it.channel(it.folders.credentials("orchestrator")) as busy,
        it.channel(None, address=it.server.health_address) as channel,
    ):
        call = executor_pb2_grpc.ExecutorServiceStub(busy).Execute(command("!wait"))
        await it.toy.started.wait()
        stopping = asyncio.create_task(it.server.stop())
        stub = health(channel)
        async with asyncio.timeout(20):
            while (await stub.Check(health_pb2.HealthCheckRequest(service=NAME))).status == SERVING:
                pass
        it.toy.release.set()
        await call
        await stopping


async def test_new_connections_get_the_new_certificate_and_those_that_there_are_go_on(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        second = Authority.create("second")
        async with it.channel(it.folders.credentials("orchestrator")) as old:
            stub = executor_pb2_grpc.ExecutorServiceStub(old)
            await stub.Execute(command("!ok"))
            it.folders.issue("executor", authority=second)
            it.folders.trust("executor", second)
            await it.own.look()
            await stub.Execute(command("!ok"))
            assert await it.ask(it.folders.credentials("orchestrator")) is not None
            assert await it.ask(credentials_of(second.issue("orchestrator"), second)) is None


@asynccontextmanager
async def hop(it: Served, *, target: str = "", server_name: str = "") -> AsyncIterator[tuple[RenewedChannel, Any]]:
    """A channel as services open it, with certificates of its own, and what looks at their files."""
    loaded = settings(it.folders.folder.parent, yaml.safe_dump({"tls": it.folders.settings}))
    certificates = open_certificates(loaded.settings.tls, "orchestrator")
    assert certificates is not None
    channel = open_channel(
        target or it.server.address,
        service_name=NAME,
        message_bytes_max=1_000_000,
        certificates=certificates,
        server_name=server_name,
    )
    assert isinstance(channel, RenewedChannel)
    try:
        yield channel, certificates.look
    finally:
        await channel.close()


async def test_addresses_of_several_hosts_need_the_name_that_their_certificates_have(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        one_host = f"ipv4:{it.server.address},{it.server.address}"
        async with hop(it, target=one_host) as (channel, _):
            await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)
        target = f"ipv4:{it.server.address},{it.server.address.replace('127.0.0.1', '127.0.0.2')}"
        async with hop(it, target=target, server_name="executor") as (channel, _):
            await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)
        async with hop(it, target=target) as (channel, _):
            # Of the two, which complaint comes last is chance: one is not listened at.
            with pytest.raises(grpc.aio.AioRpcError, match=r"Hostname Verification|Connection refused") as caught:
                await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_under_way_ends_where_it_began_and_the_next_goes_over_new_certificates(tmp_path: Path) -> None:
    async with served(tmp_path) as it, hop(it) as (channel, look):
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        waiting = asyncio.ensure_future(stub.Execute(command("!wait"), timeout=60))
        streaming: Any = stub.StreamExecute(pb.StreamExecuteRequest(request=command("!wait")), timeout=60)
        assert (await streaming.read()).delta.text == "one"
        await it.toy.started.wait()
        before = channel._current
        it.folders.issue("orchestrator")
        await look()
        await until(lambda: channel._current is not before)
        await stub.Execute(command("!ok"), timeout=20)
        assert before in channel._retired
        it.toy.release.set()
        await waiting
        assert (await streaming.read()).HasField("execution")
        assert await streaming.read() is grpc.aio.EOF
        await until(lambda: not channel._retired and not channel._closings)
        with pytest.raises(grpc.aio.UsageError):
            await before.channel.channel_ready()
        await stub.Execute(command("!ok"), timeout=20)


async def test_certificates_that_the_other_side_does_not_take_yet_lose_nothing(tmp_path: Path) -> None:
    """The order of a rotation turned round: who calls is renewed first, and waits for the one who is called."""
    async with served(tmp_path) as it, hop(it) as (channel, look):
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        await stub.Execute(command("!ok"), timeout=20)
        before = channel._current
        second = Authority.create("second")
        it.folders.issue("orchestrator", authority=second)
        it.folders.trust("orchestrator", second)
        await look()
        assert channel._renewal is not None
        for _ in range(50):
            await stub.Execute(command("!ok"), timeout=20)
        assert channel._current is before
        it.folders.issue("executor", authority=second)
        it.folders.trust("executor", second)
        await it.own.look()
        await until(lambda: channel._current is not before)
        await stub.Execute(command("!ok"), timeout=20)


async def test_of_certificates_that_come_one_after_the_other_the_last_are_used(tmp_path: Path) -> None:
    async with served(tmp_path) as it, hop(it) as (channel, look):
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        await stub.Execute(command("!ok"), timeout=20)
        before = channel._current
        it.folders.issue("orchestrator", authority=Authority.create("second"))  # which the server does not take
        await look()
        assert channel._current is before
        it.folders.issue("orchestrator")
        await look()
        await until(lambda: channel._current is not before)
        await stub.Execute(command("!ok"), timeout=20)
        assert it.toy.calls == 2
        # Nothing still waits for the server to take those in between.
        await until(lambda: not any(task.get_name() == "tls-channel" for task in asyncio.all_tasks()))


async def test_a_channel_that_nobody_has_used_is_renewed_without_connecting(tmp_path: Path) -> None:
    async with served(tmp_path) as it, hop(it) as (channel, look):
        before = channel._current
        it.folders.issue("orchestrator")
        await look()
        await until(lambda: channel._current is not before)
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)


async def test_who_waits_for_a_channel_waits_for_the_newest(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        second = Authority.create("second")
        it.folders.issue("orchestrator", authority=second)
        async with hop(it) as (channel, look):
            ready = asyncio.create_task(channel.channel_ready())
            await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.IDLE)
            it.folders.issue("orchestrator")
            await look()
            await asyncio.wait_for(ready, 20)
            assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_renewals_without_end_keep_a_bounded_number_of_channels(tmp_path: Path) -> None:
    async with served(tmp_path) as it, hop(it) as (channel, look):
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        waiting = []
        for _ in range(RETIRED_MAX + 2):
            calls = it.toy.calls
            waiting.append(asyncio.ensure_future(stub.Execute(command("!wait"), timeout=60)))
            await until(lambda calls=calls: it.toy.calls > calls)  # type: ignore[misc]
            before = channel._current
            it.folders.issue("orchestrator")
            await look()
            await until(lambda before=before: channel._current is not before)  # type: ignore[misc]
        assert len(channel._retired) == RETIRED_MAX
        it.toy.release.set()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, BaseException) for each in ended] == [True, True] + [False] * RETIRED_MAX


async def test_calls_go_round_over_healthy_servers_through_renewals_and_a_restart_and_none_is_lost(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(tmp_path))
        second_up = served(tmp_path, drain_s=0.3, folders=first.folders)
        second = await second_up.__aenter__()
        address = second.server.address
        target = f"ipv4:{first.server.address},{address}"
        channel, look = await stack.enter_async_context(hop(first, target=target, server_name="executor"))
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        ended = asyncio.Event()

        async def call() -> None:
            while not ended.is_set():
                await stub.Execute(command("!ok"), timeout=20)

        async def more(*toys: Toy) -> None:
            goals = [toy.calls + 50 for toy in toys]
            await until(lambda: all(toy.calls >= goal for toy, goal in zip(toys, goals, strict=True)))

        callers = [asyncio.create_task(call()) for _ in range(4)]
        await more(first.toy, second.toy)
        before = channel._current
        first.folders.issue("orchestrator")
        await look()
        await until(lambda: channel._current is not before)
        await more(first.toy, second.toy)
        await second_up.__aexit__(None, None, None)
        await more(first.toy)
        first.folders.issue("executor")
        again = await stack.enter_async_context(served(tmp_path, listen=address, folders=first.folders))
        await more(first.toy, again.toy)
        ended.set()
        await asyncio.gather(*callers)


async def test_a_socket_file_speaks_tls_too(tmp_path: Path) -> None:
    async with served(tmp_path, listen=f"unix:{tmp_path}/s") as it:
        assert await it.ask(it.folders.credentials("orchestrator"), server_name="executor") is None
        assert await it.ask(None) is not None


async def test_a_closed_channel_follows_no_files(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        async with hop(it) as (channel, look):
            await channel.channel_ready()
        before = channel._current
        it.folders.issue("orchestrator")
        await look()
        assert channel._renewal is None
        assert channel._current is before


async def test_a_call_that_is_cancelled_does_not_hold_an_old_channel(tmp_path: Path) -> None:
    async with served(tmp_path) as it, hop(it) as (channel, look):
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        calls: list[Awaitable[Any]] = [stub.Execute(command("!wait"), timeout=60) for _ in range(3)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await until(lambda: it.toy.calls == 3)
        it.folders.issue("orchestrator")
        await look()
        await until(lambda: bool(channel._retired))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not channel._retired)
