"""A toy service behind the real door: what a servicer may do, on command; as a process, `python -m tests.support.toy`.

It speaks the contract of ExecutorService. The name of a plan's first tier is the command when it starts with "!";
otherwise the request is translated and checked, as real servicers do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import yaml

from services.runtime.channel import open_channel
from services.runtime.config import Loaded, load
from services.runtime.errors import Unavailable
from services.runtime.interceptors import remaining_s
from services.runtime.main import run
from services.runtime.server import Service
from spillway.v1 import executor_pb2 as pb
from spillway.v1 import executor_pb2_grpc
from spillway.validation import InvalidValue, Violation, check_chat_request, check_plan
from spillway.wire import WireError, chat_request_from_proto, plan_from_proto, task_type_from_proto
from tests.support.smallest import SMALLEST

__all__ = ["NAME", "SECRET_TEXT", "Toy", "command", "settings", "toy_service"]

NAME = "spillway.v1.ExecutorService"
# Stands in errors that must never reach a caller or a log.
SECRET_TEXT = "the prompt of a customer"


def command(name: str, *targets: str) -> pb.ExecuteRequest:
    """A request that makes the toy do `name`, e.g. "!defect"."""
    return pb.ExecuteRequest(plan=pb.Plan(tiers=[pb.PlannedTier(name=name, targets=targets)]))


class Toy(executor_pb2_grpc.ExecutorServiceServicer):
    """Counts its calls; "!wait" sets `started` and waits for `release`."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.calls = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        name = request.plan.tiers[0].name if request.plan.tiers else ""
        if not name.startswith("!"):
            task_type_from_proto(request.task_type)
            check_chat_request(chat_request_from_proto(request.chat))
            check_plan(plan_from_proto(request.plan))
            return self._response()
        return await self._obey(name, request, context)

    async def StreamExecute(  # noqa: N802
        self, request: pb.StreamExecuteRequest, context: Any
    ) -> AsyncIterator[pb.StreamExecuteResponse]:
        yield pb.StreamExecuteResponse(delta=pb.AnswerDelta(text="one"))
        response = await self.Execute(request.request, context)
        yield pb.StreamExecuteResponse(execution=response.execution)

    async def ListTargets(self, request: pb.ListTargetsRequest, context: Any) -> pb.ListTargetsResponse:  # noqa: N802
        raise NotImplementedError  # as the generated base class does

    def _response(self, **fields: Any) -> pb.ExecuteResponse:
        return pb.ExecuteResponse(execution=pb.Execution(target=self.name, model=str(os.getpid()), **fields))

    async def _obey(self, name: str, request: pb.ExecuteRequest, context: Any) -> Any:
        errors: dict[str, Exception] = {
            "!defect": RuntimeError(SECRET_TEXT),
            "!key-error": KeyError(SECRET_TEXT),
            "!recursion": RecursionError(SECRET_TEXT),
            "!timeout": TimeoutError(SECRET_TEXT),
            "!wire": WireError("chat.messages[2].role", "must be set"),
            "!schema": InvalidValue([Violation("chat.response_format.schema_json", "is bad", "INVALID_SCHEMA")]),
            "!unavailable": Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 3.5, detail="small-1: 503"),
        }
        if name in errors:
            raise errors[name]
        match name:
            case "!wait":
                self.started.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
                return self._response()
            case "!remaining":
                return self._response(cost_nanousd=int(remaining_s(context, 77.0) * 1e9))
            case "!wrong-type":
                return object()
            case "!nested":
                return await self._nested(request, context)
            case _:
                return self._response()

    async def _nested(self, request: pb.ExecuteRequest, context: Any) -> pb.ExecuteResponse:
        """Asks the service at the tier's first target to do what the second says."""
        target, name = request.plan.tiers[0].targets
        async with open_channel(target, service_name=NAME, message_bytes_max=1_000_000) as channel:
            stub = executor_pb2_grpc.ExecutorServiceStub(channel)
            async for event in stub.StreamExecute(
                pb.StreamExecuteRequest(request=command(name)), timeout=remaining_s(context, 10.0)
            ):
                last = event
        return pb.ExecuteResponse(execution=last.execution)


def toy_service(toy: Toy, **hooks: Any) -> Service:
    def register(server: grpc.aio.Server) -> None:
        executor_pb2_grpc.add_ExecutorServiceServicer_to_server(toy, server)

    return Service(name="toy", register=register, service_names=(NAME,), **hooks)


def settings(folder: Path, text: str = "") -> Loaded:
    """A configuration with the given extra sections."""
    path = folder / "spillway.yaml"
    path.write_text(yaml.safe_dump(SMALLEST) + text)
    return load(path, {})


async def _build(_loaded: Loaded) -> Service:
    return toy_service(Toy(os.environ.get("TOY_NAME", "toy")))


if __name__ == "__main__":
    run("toy", _build)
