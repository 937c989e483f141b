"""How a server begins and ends, and what its callers notice: nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import open_channel
from services.runtime.server import start
from spillway.v1 import executor_pb2_grpc
from tests.support.processes import Process
from tests.support.toy import NAME, Toy, command, settings, toy_service
from tests.support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Watch:
    """Follows the health of a service as a client does."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.seen: list[int] = []
        self.done = asyncio.create_task(self._follow(channel))

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=NAME), wait_for_ready=True):
                self.seen.append(answer.status)
        except grpc.aio.AioRpcError as error:
            self.seen.append(-error.code().value[0])


async def test_a_server_is_not_serving_until_it_is_warm(tmp_path: Path) -> None:
    warm = asyncio.Event()
    loaded = settings(tmp_path, "limits: {drain_s: 0, grace_s: 1}")
    address = f"unix:{tmp_path}/toy.sock"
    starting = asyncio.create_task(start(toy_service(Toy(), warm=warm.wait), loaded, address))
    async with grpc.aio.insecure_channel(address) as channel:
        watch = Watch(channel)
        await until(lambda: watch.seen == [NOT_SERVING])
        assert not starting.done()
        warm.set()
        await until(lambda: watch.seen == [NOT_SERVING, SERVING])
        server = await starting
        await server.stop()
        await watch.done


async def test_a_warm_up_that_fails_ends_the_server(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def close() -> None:
        closed.set()

    async def warm() -> None:
        raise RuntimeError("no model")

    loaded = settings(tmp_path)
    with pytest.raises(RuntimeError, match="no model"):
        await start(toy_service(Toy(), warm=warm, close=close), loaded, "127.0.0.1:0")
    assert closed.is_set()


async def test_health_flips_and_a_call_under_way_finishes(tmp_path: Path) -> None:
    toy, events = Toy(), list[str]()

    async def close() -> None:
        events.append("closed")

    loaded = settings(tmp_path, "limits: {drain_s: 0.1, grace_s: 20}")
    server = await start(toy_service(toy, close=close), loaded, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = Watch(channel)
        call = asyncio.ensure_future(executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!wait")))
        await toy.started.wait()
        await until(lambda: watch.seen == [SERVING])
        stopping = asyncio.create_task(server.stop())
        await until(lambda: watch.seen[:2] == [SERVING, NOT_SERVING])
        await watch.done  # the watch ends, so that it does not use up the grace
        assert not call.done()
        assert events == []
        toy.release.set()
        await call
        await stopping
    assert events == ["closed"]
    assert watch.seen == [SERVING, NOT_SERVING, -grpc.StatusCode.UNAVAILABLE.value[0]]


async def test_a_server_that_drains_serves_and_tells_those_who_ask_before_those_who_watch(tmp_path: Path) -> None:
    settings(tmp_path, "limits: {drain_s: 600, grace_s: 5}")
    arguments = ["--config", str(tmp_path / "spillway.yaml"), "--listen", "127.0.0.1:0"]
    process = Process("tests.support.toy", arguments, {}, tmp_path / "toy.log")
    try:
        address = (await asyncio.to_thread(process.ready))["listen"]
        async with grpc.aio.insecure_channel(address) as channel:
            watch = Watch(channel)
            await until(lambda: watch.seen == [SERVING])
            process.signal(signal.SIGTERM)
            health: Any = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(20):
                while (await health.Check(health_pb2.HealthCheckRequest(service=NAME))).status == SERVING:
                    pass
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
            answer = await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=10)
            assert answer.execution.model == str(process.pid)
            assert watch.seen == [SERVING]
            watch.done.cancel()
    finally:
        process.signal(signal.SIGKILL)
        await asyncio.to_thread(process.stop)


async def test_a_call_that_outlasts_the_grace_is_cut_and_close_still_runs(tmp_path: Path) -> None:
    toy, closed = Toy(), asyncio.Event()

    async def close() -> None:
        closed.set()

    loaded = settings(tmp_path, "limits: {drain_s: 0, grace_s: 0.1}")
    server = await start(toy_service(toy, close=close), loaded, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = asyncio.ensure_future(executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!wait")))
        await toy.started.wait()
        await asyncio.gather(server.stop(), server.stop())
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert closed.is_set()
    assert toy.cancelled == 1


class Traffic:
    """Calls through one health-checking channel, without a pause, until told to stop."""

    def __init__(self, targets: str) -> None:
        self.answers: dict[str, int] = {}
        self.failures: list[grpc.aio.AioRpcError] = []
        self._on = True
        self._channel = open_channel(targets, service_name=NAME, message_bytes_max=1_000_000)
        self._tasks = [asyncio.create_task(self._call()) for _ in range(4)]

    async def _call(self) -> None:
        stub = executor_pb2_grpc.ExecutorServiceStub(self._channel)
        while self._on:
            try:
                answer = await stub.Execute(command("!ok"), timeout=10)
            except grpc.aio.AioRpcError as error:
                self.failures.append(error)
            else:
                name = answer.execution.model
                self.answers[name] = self.answers.get(name, 0) + 1

    async def more(self, name: str, count: int = 100) -> None:
        """Returns after `count` more answers of `name`."""
        goal = self.answers.get(name, 0) + count
        await until(lambda: self.answers.get(name, 0) >= goal)

    async def end(self) -> None:
        self._on = False
        await asyncio.gather(*self._tasks)
        await self._channel.close()


async def _two(folder: Path, during: Callable[[Traffic, Process, Process], Awaitable[None]]) -> Traffic:
    """Traffic over two processes while `during` does something to them."""
    settings(folder, "limits: {drain_s: 0.3, grace_s: 5}")
    arguments = ["--config", str(folder / "spillway.yaml"), "--listen", "127.0.0.1:0"]
    with ExitStack() as stack:
        processes = [Process("tests.support.toy", arguments, {}, folder / f"{i}.log") for i in range(2)]
        for process in processes:
            stack.callback(process.stop)
        addresses = [(await asyncio.to_thread(process.ready))["listen"] for process in processes]
        traffic = Traffic("ipv4:" + ",".join(addresses))
        try:
            for process in processes:
                await traffic.more(str(process.pid))
            await during(traffic, *processes)
        finally:
            await traffic.end()
    return traffic


async def test_a_restart_under_traffic_loses_no_call(tmp_path: Path) -> None:
    async def during(traffic: Traffic, first: Process, second: Process) -> None:
        assert await asyncio.to_thread(first.stop) == 0
        await traffic.more(str(second.pid))

    traffic = await _two(tmp_path, during)
    assert [error.details() for error in traffic.failures] == []


async def test_a_killed_process_of_two_loses_no_call(tmp_path: Path) -> None:
    async def during(traffic: Traffic, first: Process, second: Process) -> None:
        first.signal(signal.SIGKILL)
        await traffic.more(str(second.pid), 300)

    traffic = await _two(tmp_path, during)
    assert [error.details() for error in traffic.failures] == []


async def test_a_server_that_is_not_warm_gets_no_call(tmp_path: Path) -> None:
    warm = asyncio.Event()
    loaded = settings(tmp_path, "limits: {drain_s: 0, grace_s: 1}")
    ready, cold = Toy("ready"), Toy("cold")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        cold_address = f"127.0.0.1:{probe.getsockname()[1]}"
    starting = asyncio.create_task(start(toy_service(cold, warm=warm.wait), loaded, cold_address))
    server = await start(toy_service(ready), loaded, "127.0.0.1:0")
    channel = open_channel(f"ipv4:{cold_address},{server.address}", service_name=NAME, message_bytes_max=1_000_000)
    stub = executor_pb2_grpc.ExecutorServiceStub(channel)
    for _ in range(20):
        await stub.Execute(command("!ok"), timeout=10, wait_for_ready=True)
    assert cold.calls == 0
    warm.set()
    async with asyncio.timeout(20):
        while cold.calls == 0:
            await stub.Execute(command("!ok"), timeout=10)
    await channel.close()
    for running in (server, await starting):
        await running.stop()
