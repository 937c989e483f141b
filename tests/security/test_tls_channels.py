"""What channels of services do when certificates change: calls go on, the newest are used, and old channels end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from services.runtime.channel import open_channel
from services.runtime.dev_certs import Authority
from services.runtime.renewed_channel import RETIRED_MAX, RenewedChannel
from services.runtime.tls import open_certificates
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support.served_tls import Served, served
from tests.support.toy import NAME, Toy, command, settings
from tests.support.waiting import until


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
