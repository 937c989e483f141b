"""An executor behind gRPC in this process, over a provider's process: its stub, and its provider's controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import yaml

from services.executor.__main__ import build
from services.runtime.config import load
from services.runtime.errors import SpillwayError, from_rpc_error
from services.runtime.server import start
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Execution, Plan
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.wire import chat_request_to_proto, execution_from_proto, plan_to_proto
from tests.support.processes import Process
from tests.support.waiting import until

__all__ = ["OPEN_S", "PRICES", "PROMPT", "Bench", "config", "executor_over", "outcomes", "sandbox", "say", "until"]

PRICES: Final = {"a1": 1.0, "a2": 1.0, "c1": 10.0, "c2": 10.0}
OPEN_S: Final = 300.0  # a breaker that opens in a test stays open
_USAGE: Final = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
PROMPT: Final = "A prompt that no recording knows."


def say(text: str, **fields: Any) -> dict[str, Any]:
    """A step of a script: this answer."""
    return {"text": text, **_USAGE, **fields}


def outcomes(execution: Execution) -> list[tuple[str, str]]:
    """Target and outcome of every attempt."""
    return [(attempt.target, attempt.outcome.value) for attempt in execution.attempts]


@dataclass(frozen=True, slots=True)
class Bench:
    """The executor's stub, and its provider's controls."""

    stub: Any
    http: httpx.AsyncClient

    async def script(self, **models: list[dict[str, Any]]) -> None:
        """What the provider's models do from now on; its journal is empty then."""
        (await self.http.put("/sandbox/script", json={"models": models})).raise_for_status()
        await self.http.delete("/sandbox/calls")

    async def calls(self) -> list[dict[str, Any]]:
        """The provider's journal."""
        calls: list[dict[str, Any]] = (await self.http.get("/sandbox/calls")).json()["calls"]
        return calls

    async def in_flight(self) -> int:
        """Calls under way, as the executor counts them."""
        listed = await self.stub.ListTargets(executor_pb2.ListTargetsRequest())
        return sum(target.in_flight for target in listed.targets)

    def request(self, given: Plan, **fields: Any) -> executor_pb2.ExecuteRequest:
        """The request that all tests make."""
        chat = ChatRequest((Message.of(Role.USER, PROMPT),), **fields)
        return executor_pb2.ExecuteRequest(chat=chat_request_to_proto(chat), plan=plan_to_proto(given))

    async def run(self, given: Plan, timeout_s: float = 30.0, **fields: Any) -> Execution:
        """Execute. Raises SpillwayError."""
        try:
            response = await self.stub.Execute(self.request(given, **fields), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return execution_from_proto(response.execution)

    def streaming(self, given: Plan, timeout_s: float = 30.0) -> Any:
        """StreamExecute, as the call itself."""
        request = executor_pb2.StreamExecuteRequest(request=self.request(given))
        return self.stub.StreamExecute(request, timeout=timeout_s)

    async def stream(self, given: Plan, timeout_s: float = 30.0) -> tuple[list[str], Execution | SpillwayError]:
        """The pieces of text, and the end."""
        pieces: list[str] = []
        try:
            async for event in self.streaming(given, timeout_s):
                if event.WhichOneof("event") == "execution":
                    return pieces, execution_from_proto(event.execution)
                pieces.append(event.delta.text)
        except grpc.aio.AioRpcError as error:
            return pieces, from_rpc_error(error)
        raise AssertionError("a stream without an end")


@contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    """A provider's process; its URL."""
    process = Process("services.sandbox", ["--port", "0"], {}, folder / "sandbox.log")
    try:
        yield str(process.ready()["url"])
    finally:
        process.stop()


def config(folder: Path, url: str, **executor: Any) -> Path:
    """A configuration with two tiers of two targets each; `executor` is beside the breaker's settings."""

    def target(name: str) -> dict[str, Any]:
        price = {"input_usd_per_mtok": PRICES[name], "output_usd_per_mtok": 4 * PRICES[name]}
        return {"name": name, "provider": "sandbox", "model": name, "price": price}

    path = folder / "spillway.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "providers": {"sandbox": {"base_url": f"{url}/v1", "api_key_env": "SPILLWAY_TEST_NO_SUCH_KEY"}},
                "tiers": [
                    {"name": "simple", "targets": [target("a1"), target("a2")]},
                    {"name": "complex", "targets": [target("c1"), target("c2")]},
                ],
                "executor": {"breaker": {"open_s": OPEN_S, "open_s_max": OPEN_S, "calls_min": 3}, **executor},
                "limits": {"drain_s": 0, "grace_s": 2},
            }
        )
    )
    return path


@asynccontextmanager
async def executor_over(url: str, folder: Path, **executor: Any) -> AsyncIterator[Bench]:
    """An executor whose provider is the sandbox at `url`, with an empty script."""
    loaded = load(config(folder, url, **executor))
    server = await start(await build(loaded), loaded, "127.0.0.1:0")
    try:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
        ):
            bench = Bench(executor_pb2_grpc.ExecutorServiceStub(channel), http)
            await bench.script()
            yield bench
    finally:
        await server.stop()
