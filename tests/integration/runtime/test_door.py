"""What a caller sees of a server, whatever its servicer does and whatever it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.runtime import errors
from services.runtime.channel import open_channel
from services.runtime.server import ListenError, RunningServer, start
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from tests.support.toy import NAME, SECRET_TEXT, Toy, command, settings, toy_service
from tests.support.waiting import until

FAST_STOP = "limits: {drain_s: 0, grace_s: 0.2, message_bytes_max: 100000, metadata_bytes_max: 2048"
TRACEPARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


class Served:
    """A toy server in this loop, and a plain channel to it."""

    def __init__(self, toy: Toy, server: RunningServer, channel: grpc.aio.Channel) -> None:
        self.toy = toy
        self.server = server
        self.channel = channel
        self.stub = executor_pb2_grpc.ExecutorServiceStub(channel)

    def raw(self, method: str) -> Callable[..., Any]:
        return self.channel.unary_unary(f"/{NAME}/{method}")

    def raw_stream(self, method: str) -> Callable[..., Any]:
        return self.channel.unary_stream(f"/{NAME}/{method}")

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)


@asynccontextmanager
async def served(folder: Path, limits: str = "", more: str = "") -> AsyncIterator[Served]:
    toy = Toy()
    loaded = settings(folder, f"{FAST_STOP}{limits}}}\n{more}")
    server = await start(toy_service(toy), loaded, "127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Served(toy, server, channel)
    finally:
        await server.stop()


async def _drained(call: Any) -> None:
    async for _ in call:
        pass


async def failure(call: Any) -> errors.SpillwayError:
    """The error that a call ends with, as a client of ours reads it; its code and text are those on the wire."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (_drained(call) if hasattr(call, "__aiter__") else call)
    error = errors.from_rpc_error(caught.value)
    assert SECRET_TEXT not in str(caught.value.details())
    assert error.code is caught.value.code()
    return error


@pytest.mark.parametrize("name", ["!defect", "!key-error", "!recursion", "!wrong-type"])
async def test_a_defect_is_internal_and_its_text_stays_inside(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command(name)))
    assert (error.code, error.reason, error.public) == (grpc.StatusCode.INTERNAL, "INTERNAL", "internal error")


async def test_a_defect_in_a_stream_is_internal_after_what_was_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        call = it.stub.StreamExecute(pb.StreamExecuteRequest(request=command("!defect")))
        first = await call.read()
        assert isinstance(first, pb.StreamExecuteResponse)
        assert first.delta.text == "one"
        assert (await failure(call.read())).reason == "INTERNAL"


async def test_an_error_of_ours_keeps_its_reason_text_and_retry_time(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!unavailable")))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert (error.reason, error.public, error.retry_after_s) == ("NO_MODEL_AVAILABLE", "no model could answer", 3.5)
    assert error.detail == ""


async def test_an_untranslatable_field_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!wire")))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.violations == (("chat.messages[2].role", "must be set"),)


async def test_a_bad_schema_has_its_own_reason(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!schema")))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SCHEMA")


async def test_an_error_of_a_nested_call_passes_through_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!nested", it.server.address, "!unavailable")))
        assert (error.reason, error.retry_after_s) == ("NO_MODEL_AVAILABLE", 3.5)


async def test_what_a_handler_has_seen_is_not_repeated_by_the_channel(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as it,
        open_channel(it.server.address, service_name=NAME, message_bytes_max=100_000) as channel,
    ):
        error = await failure(executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!unavailable")))
        assert error.reason == "NO_MODEL_AVAILABLE"
        assert it.toy.calls == 1


async def test_a_nested_service_that_is_not_there_is_named_without_its_address(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!nested", "127.0.0.1:1", ""), timeout=10))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert "127.0.0.1" not in error.public


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\x05abc", b"\x12\x04\x12\x02\x0a\xff"])
async def test_bytes_that_are_no_message_are_malformed(tmp_path: Path, raw: bytes) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.raw("Execute")(raw))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
        wrapped = b"\x0a" + bytes([len(raw)]) + raw if raw[:1] == b"\x12" else raw
        error = await failure(it.raw_stream("StreamExecute")(wrapped))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
        assert it.toy.calls == 0


@pytest.mark.parametrize("extra_bytes", [1_000, 2_000_000])
async def test_an_oversize_message_is_refused_with_a_reason(tmp_path: Path, extra_bytes: int) -> None:
    """Just above the limit by the door; far above it by gRPC itself, whose text stands for the same reason."""
    async with served(tmp_path) as it:
        request = command("x" * (100_000 + extra_bytes))
        error = await failure(it.stub.Execute(request))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        await it.stub.Execute(command("!ok"))


async def test_oversize_metadata_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.Execute(command("!ok"), metadata=(("x-large", "x" * 4_000),)))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        await it.stub.Execute(command("!ok"))


@pytest.mark.parametrize("method", [f"/{NAME}/Nothing", "/no.Such/Method", "/"])
async def test_an_unknown_method_is_not_implemented(tmp_path: Path, method: str) -> None:
    async with served(tmp_path) as it:
        call: Any = it.channel.unary_unary(method)
        error = await failure(call(b""))
        assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


async def test_a_method_that_the_servicer_leaves_out_is_not_implemented(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        error = await failure(it.stub.ListTargets(pb.ListTargetsRequest()))
        assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


async def test_calls_above_the_limit_are_refused_at_once_and_health_is_not(tmp_path: Path) -> None:
    async with served(tmp_path, ", concurrent_rpcs_max: 2") as it:
        waiting = [asyncio.ensure_future(it.stub.Execute(command("!wait"))) for _ in range(2)]
        await until(lambda: it.toy.calls == 2)
        error = await failure(it.stub.Execute(command("!ok")))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_after_s is not None
        check = it.health.Check(health_pb2.HealthCheckRequest(service=NAME))
        assert (await check).status == health_pb2.HealthCheckResponse.SERVING
        it.toy.release.set()
        await asyncio.gather(*waiting)
        await it.stub.Execute(command("!ok"))


async def test_a_refused_call_frees_no_room(tmp_path: Path) -> None:
    async with served(tmp_path, ", concurrent_rpcs_max: 1") as it:
        waiting = asyncio.ensure_future(it.stub.Execute(command("!wait")))
        await it.toy.started.wait()
        for _ in range(3):
            assert (await failure(it.stub.Execute(command("!ok")))).reason == "OVERLOADED"
        it.toy.release.set()
        await waiting


async def test_a_call_without_a_deadline_gets_the_default(tmp_path: Path) -> None:
    async with served(tmp_path, more="orchestrator: {deadline_s: 0.1}") as it:
        error = await failure(it.stub.Execute(command("!wait")))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert it.toy.cancelled == 1


async def test_a_deadline_above_the_cap_is_cut(tmp_path: Path) -> None:
    async with served(tmp_path, more="orchestrator: {deadline_s: 5}") as it:
        answer = await it.stub.Execute(command("!remaining"), timeout=1_000)
        assert 0 < answer.execution.cost_nanousd / 1e9 <= 5


async def test_a_callers_own_deadline_is_what_remains(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        answer = await it.stub.Execute(command("!remaining"), timeout=3)
        assert 0 < answer.execution.cost_nanousd / 1e9 <= 3.2  # gRPC rounds what it sends up


async def test_a_stream_has_a_deadline_too(tmp_path: Path) -> None:
    async with served(tmp_path, more="orchestrator: {deadline_s: 0.1}") as it:
        error = await failure(it.stub.StreamExecute(pb.StreamExecuteRequest(request=command("!wait"))))
        assert error.reason == "DEADLINE_EXCEEDED"
        assert it.toy.cancelled == 1


async def test_a_caller_who_leaves_cancels_the_handler(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        call = it.stub.Execute(command("!wait"))
        waiting = asyncio.ensure_future(call)
        await it.toy.started.wait()
        waiting.cancel()
        await until(lambda: it.toy.cancelled == 1)


async def test_reflection_lists_the_services_and_outlives_the_default_deadline(tmp_path: Path) -> None:
    async with served(tmp_path, more="orchestrator: {deadline_s: 0.05}") as it:
        channel: Any = it.channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        for _ in range(3):
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            answer = await call.read()
            names = {service.name for service in answer.list_services_response.service}
            assert {NAME, "grpc.health.v1.Health"} <= names
            await asyncio.sleep(0.03)
        call.cancel()


async def test_a_malformed_message_of_a_streaming_caller_is_malformed(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        call: Any = it.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")()
        await call.write(b"\xff\xff")
        assert (await failure(call.read())).reason == "MALFORMED_MESSAGE"


async def test_channelz_answers(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        channel: Any = it.channel
        stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
        assert (await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0))).server


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetServer", channelz_pb2.GetServerRequest(server_id=999_999)),
        ("GetServerSockets", channelz_pb2.GetServerSocketsRequest(server_id=999_999)),
        ("GetChannel", channelz_pb2.GetChannelRequest(channel_id=999_999)),
        ("GetSubchannel", channelz_pb2.GetSubchannelRequest(subchannel_id=999_999)),
        ("GetSocket", channelz_pb2.GetSocketRequest(socket_id=999_999)),
    ],
)
async def test_what_channelz_does_not_know_is_not_found(tmp_path: Path, method: str, request_: Any) -> None:
    async with served(tmp_path) as it:
        channel: Any = it.channel
        error = await failure(getattr(channelz_pb2_grpc.ChannelzStub(channel), method)(request_))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_the_health_of_an_unknown_service_is_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await it.health.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_broken_traceparent_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        for value in ("nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", TRACEPARENT[1]):
            await it.stub.Execute(command("!ok"), metadata=(("traceparent", value),))


async def test_a_port_that_is_taken_is_an_error_and_is_not_shared(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        with pytest.raises(ListenError):
            await start(toy_service(Toy()), settings(tmp_path), it.server.address)


async def test_a_unix_socket_can_be_listened_on(tmp_path: Path) -> None:
    toy = Toy()
    loaded = settings(tmp_path, f"{FAST_STOP}}}")
    server = await start(toy_service(toy), loaded, f"unix:{tmp_path}/toy.sock")
    async with grpc.aio.insecure_channel(server.address) as channel:
        await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"))
    await server.stop()
    assert toy.calls == 1
