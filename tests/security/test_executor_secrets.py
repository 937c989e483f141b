"""Keys and prompts stay where they belong, however a provider misbehaves.

The executor runs as a process of its own, at its most talkative, with a key for each API, against a server that
repeats everything it was sent in every place where a response can say something. Logs, spans, metrics and errors are
then searched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.provider import ProviderCall
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Plan, PlannedTier
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.wire import chat_request_to_proto, plan_to_proto
from tests.support.otlp import Receiver
from tests.support.processes import Process, wait_until

KEYS = {"openai": "sk-openai-9d1f0c2b7a6e", "anthropic": "sk-ant-5b3e8f4a1c0d"}
PROMPT = "Zebrafinch-quicksilver-4711"
TIER = "only"
WAYS = ("whole", "stream")
STATUSES = (301, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
FAULTS = (
    *(f"status-{status}" for status in STATUSES),
    "no-json",
    "error-in-200",
    "stream-error",
    "stream-garbage",
    "hang-up",
    "cut",
    "no-http",
    "long-header",
    "no-address",
    "hang",
)
TIMEOUT_S = 20.0
# Long enough for the attempt to begin, on a machine that does much else.
HANG_TIMEOUT_S = 1.5


def head(status: str, echo: str, length: int, kind: str = "application/json") -> bytes:
    """A response's head that repeats `echo` wherever a header may."""
    word = "".join(echo.split())[-200:]
    lines = [
        f"HTTP/1.1 {status} {word}",
        f"content-type: {kind}",
        f"content-length: {length}",
        "connection: close",
        f"location: http://127.0.0.1:1/{word}",
        f"retry-after: {word}",
        f"request-id: {word}",
        f"x-request-id: {word[-60:]}",
        f"set-cookie: {word}={word}",
        f"www-authenticate: {word}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def play(fault: str, echo: str) -> bytes:
    """The bytes of a response to a request whose head and body are `echo`."""
    complaint = json.dumps({"error": {"type": echo, "code": echo, "param": echo, "message": echo}}).encode()
    event = b"event: error\ndata: " + json.dumps({"type": "error", "error": {"type": echo, "message": echo}}).encode()
    event_stream = "text/event-stream"
    garbage = b"data: " + echo.replace("\r\n", " ").encode() + b"\n\n"
    if fault.startswith("status-"):
        return head(fault.removeprefix("status-"), echo, len(complaint)) + complaint
    return {
        "no-json": head("200", echo, len(echo.encode())) + echo.encode(),
        "error-in-200": head("200", echo, len(complaint)) + complaint,
        "stream-error": head("200", echo, len(event) + 2, event_stream) + event + b"\n\n",
        "stream-garbage": head("200", echo, len(garbage), event_stream) + garbage,
        "cut": head("200", echo, 1_000_000) + complaint,
        "no-http": echo.encode() + b"\r\n\r\n",
        "long-header": b"HTTP/1.1 200 OK\r\nx-echo: " + echo.replace("\r\n", "").encode() * 100 + b"\r\n\r\n",
        "hang-up": b"",
    }[fault]


@asynccontextmanager
async def parrot(seen: list[str]) -> AsyncIterator[str]:
    """A server that repeats what it is told; `seen` gets every request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            raw_head = await reader.readuntil(b"\r\n\r\n")
            length = int(raw_head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            echo = (raw_head + body).decode()
            seen.append(echo)
            fault = json.loads(body)["model"]
            if fault == "hang":
                await reader.read()
                return
            writer.write(play(fault, echo))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


class Raw(Receiver):
    """Keeps all that is exported as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[bytes] = []

    def Export(  # noqa: N802 - named by the OTLP service
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.raw.append(request.SerializeToString())
        return super().Export(request, context)

    def count(self, name: bytes) -> int:
        return sum(raw.count(name) for raw in list(self.raw))


def config(folder: Path, url: str, otlp_endpoint: str) -> Path:
    key_file = folder / "anthropic.key"
    key_file.write_text(KEYS["anthropic"] + "\n")
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}

    kinds: dict[str, dict[str, str]] = {
        "openai": {"kind": "openai", "api_key_env": "TEST_OPENAI_KEY"},
        "anthropic": {"kind": "anthropic", "api_key_file": str(key_file)},
    }
    providers: dict[str, dict[str, str]] = {}
    every: list[dict[str, Any]] = []
    for kind, fault, way in product(KEYS, FAULTS, WAYS):
        # A target, and for what concerns the whole account a provider, for each call: no breaker is in the way.
        provider = f"{kind}-{fault}-{way}" if fault in {"no-address", "status-402"} else kind
        address = "http://127.0.0.1:1/v1" if fault == "no-address" else url
        providers[provider] = {"base_url": address, **kinds[kind]}
        every.append({"name": f"{kind}/{fault}/{way}", "provider": provider, "model": fault, "price": price})
    path = folder / "spillway.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "providers": providers,
                "tiers": [
                    {"name": f"t{start}", "targets": every[start : start + 16]} for start in range(0, len(every), 16)
                ],
                "limits": {"drain_s": 0, "grace_s": 2},
                "telemetry": {"otlp_endpoint": otlp_endpoint, "export_interval_s": 0.1},
                "log": {"level": "debug"},
            }
        )
    )
    return path


async def ask(stub: Any, kind: str, fault: str) -> list[str]:
    """The texts of the errors with which both ways of asking end."""

    def request(way: str) -> executor_pb2.ExecuteRequest:
        plan = Plan((PlannedTier(TIER, (f"{kind}/{fault}/{way}",), (), 20.0),))
        chat = ChatRequest((Message.of(Role.USER, PROMPT),))
        return executor_pb2.ExecuteRequest(chat=chat_request_to_proto(chat), plan=plan_to_proto(plan))

    timeout_s = HANG_TIMEOUT_S if fault == "hang" else TIMEOUT_S
    said = []
    try:
        said.append(str(await stub.Execute(request("whole"), timeout=timeout_s)))
    except grpc.aio.AioRpcError as error:
        said.append(f"{error.details()} {error.trailing_metadata()}")
    try:
        streamed = stub.StreamExecute(executor_pb2.StreamExecuteRequest(request=request("stream")), timeout=timeout_s)
        said.extend([str(event) async for event in streamed])
    except grpc.aio.AioRpcError as error:
        said.append(f"{error.details()} {error.trailing_metadata()}")
    return said


async def test_no_key_and_no_prompt_is_in_any_log_span_or_error(tmp_path: Path) -> None:
    seen: list[str] = []
    errors: list[str] = []
    with Raw() as collector:
        async with parrot(seen) as url:
            path = config(tmp_path, url, collector.endpoint)
            env = {"TEST_OPENAI_KEY": KEYS["openai"], "OTEL_BSP_SCHEDULE_DELAY": "100"}
            process = Process(
                "services.executor", ["--config", str(path), "--listen", "127.0.0.1:0"], env, tmp_path / "log"
            )
            try:
                address = str((await asyncio.to_thread(process.ready))["listen"])
                async with grpc.aio.insecure_channel(address) as channel:
                    stub = executor_pb2_grpc.ExecutorServiceStub(channel)
                    for kind in KEYS:
                        for said in await asyncio.gather(*(ask(stub, kind, fault) for fault in FAULTS)):
                            errors += said
                await asyncio.to_thread(
                    wait_until,
                    lambda: collector.count(b"spillway.attempt.outcome") >= 2 * len(FAULTS) * len(KEYS),
                    what="the spans of every attempt",
                )
            finally:
                await asyncio.to_thread(process.stop)
        spans = b"".join(collector.raw)
        log = process.log()
    # That it was all provoked, and was there to be repeated:
    asked = len([fault for fault in FAULTS if fault != "no-address"])
    assert sum(KEYS["openai"] in request for request in seen) >= 2 * asked
    assert sum(KEYS["anthropic"] in request for request in seen) >= 2 * asked
    assert all(PROMPT in request for request in seen)
    assert all((KEYS["anthropic"] in request) == request.startswith("POST /v1/messages ") for request in seen)
    assert len(errors) == 2 * len(FAULTS) * len(KEYS)
    reasons = ["AUTH", "SPEND_CAP", "429", "TIMEOUT", "5XX", "OVERLOADED", "UNREADABLE", "REJECTED", "CONNECT"]
    assert [reason for reason in reasons if f"PROVIDER_{reason}".encode() not in spans] == []
    # And was not:
    for secret in (*KEYS.values(), PROMPT):
        assert secret not in log
        assert secret.encode() not in spans
        assert not any(secret in error for error in errors)


@pytest.mark.parametrize("kind", KEYS)
async def test_a_redirect_is_not_followed_so_the_key_goes_nowhere_else(tmp_path: Path, kind: str) -> None:
    elsewhere: list[str] = []
    requests = 0
    async with parrot(elsewhere) as url:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            raw_head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(raw_head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            requests += 1
            lines = ["HTTP/1.1 307 Temporary Redirect", f"location: {url}", "content-length: 0", "connection: close"]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        async with server:
            base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            provider = {"openai": OpenAIChat, "anthropic": AnthropicMessages}[kind](
                base_url, api_key=KEYS[kind], connections_max=1, connect_timeout_s=5.0, answer_bytes_max=1_000
            )
            call = ProviderCall("m", ChatRequest((Message.of(Role.USER, PROMPT),)), 20.0)
            outcomes = [await provider.complete(call), *[event async for event in provider.stream(call)]]
            await provider.close()
    assert [getattr(outcome, "error_reason", "") for outcome in outcomes] == ["PROVIDER_UNREADABLE"] * 2
    assert (requests, elsewhere) == (2, [])
    assert KEYS[kind] not in f"{provider!r} {outcomes!r}"
