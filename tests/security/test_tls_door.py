"""Who is let in through a port with TLS, and who through the one for health checks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from services.runtime import errors
from services.runtime.dev_certs import Authority
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support.certificates import credentials_of
from tests.support.served_tls import SERVING, health, served
from tests.support.toy import NAME, command


def reflection(channel: Any) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(channel)


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
