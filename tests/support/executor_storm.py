"""An executor under fire: one provider behind a proxy that spoils its hop, one beside it, and many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import httpx
import yaml

from services.executor.__main__ import build
from services.runtime.config import load
from services.runtime.errors import SpillwayError
from services.runtime.server import start
from spillway.routing import Execution, Plan, PlannedTier
from spillway.v1 import executor_pb2, executor_pb2_grpc
from tests.support.executor_bench import Bench, say
from tests.support.fault_proxy import FaultProxy, fault_proxy

__all__ = ["ATTEMPT_S", "CALLERS", "PLAN", "Storm", "Tally", "executor_under_fire"]

ATTEMPT_S: Final = 0.6  # a call that takes longer is given up
CALLERS: Final = 8
MODELS: Final = {"a1": "shaky", "a2": "sound", "c1": "sound"}  # and their providers
PLAN: Final = Plan(
    (
        PlannedTier("simple", ("a1", "a2"), attempt_timeout_s=ATTEMPT_S),
        PlannedTier("complex", ("c1",), attempt_timeout_s=ATTEMPT_S),
    )
)


@dataclass(slots=True)
class Tally:
    """What became of the requests of a storm."""

    answered: list[Execution] = field(default_factory=list)
    lost: list[SpillwayError] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All of them."""
        return len(self.answered) + len(self.lost)

    def bad_calls(self, target: str) -> int:
        """Calls of `target` that failed, in requests that were answered all the same."""
        attempts = [attempt for execution in self.answered for attempt in execution.attempts]
        outcomes = [attempt.outcome.value for attempt in attempts if attempt.target == target]
        return sum(outcome not in {"accepted", "skipped"} for outcome in outcomes)


@dataclass(frozen=True, slots=True)
class Storm(Bench):
    """The executor's stub and the provider's controls, with the proxy before the provider `shaky`."""

    proxy: FaultProxy

    async def well(self) -> None:
        """All models answer, whatever they did before."""
        await self.script(**{"*": [say("fine")]})

    async def blow(self, requests: int, plan: Plan = PLAN, *, callers: int = CALLERS, streamed: bool = False) -> Tally:
        """So many requests by so many callers, each asking again as soon as it is answered."""
        tally, left = Tally(), iter(range(requests))

        async def caller() -> None:
            for _ in left:
                try:
                    tally.answered.append(await (self._streamed(plan) if streamed else self.run(plan)))
                except SpillwayError as error:
                    tally.lost.append(error)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return tally

    async def targets(self) -> dict[str, executor_pb2.TargetStatus]:
        """What the executor says of its targets."""
        listed = await self.stub.ListTargets(executor_pb2.ListTargetsRequest(), timeout=10)
        return {target.target: target for target in listed.targets}

    async def _streamed(self, plan: Plan) -> Execution:
        _, end = await self.stream(plan)
        if isinstance(end, SpillwayError):
            raise end
        return end


@asynccontextmanager
async def executor_under_fire(folder: Path, provider_url: str, **executor: Any) -> AsyncIterator[Storm]:
    """Runs it in this process. `executor` is that section of the configuration."""
    url = urlsplit(provider_url)
    assert url.port is not None
    async with fault_proxy(url.port) as proxy, httpx.AsyncClient(base_url=provider_url, trust_env=False) as http:
        loaded = load(await asyncio.to_thread(_written, folder, provider_url, f"http://{proxy.address}", executor))
        server = await start(await build(loaded), loaded, "127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(server.address) as channel:
                storm = Storm(executor_pb2_grpc.ExecutorServiceStub(channel), http, proxy)
                await storm.well()
                yield storm
        finally:
            await server.stop()


def _written(folder: Path, sound_url: str, shaky_url: str, executor: dict[str, Any]) -> Path:
    def target(name: str) -> dict[str, Any]:
        price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
        return {"name": name, "provider": MODELS[name], "model": name, "price": price, "concurrency_max": 256}

    path = folder / "spillway.yaml"
    values = {
        "version": 1,
        "providers": {"shaky": {"base_url": f"{shaky_url}/v1"}, "sound": {"base_url": f"{sound_url}/v1"}},
        "tiers": [
            {"name": "simple", "targets": [target("a1"), target("a2")], "attempt_timeout_s": ATTEMPT_S},
            {"name": "complex", "targets": [target("c1")], "attempt_timeout_s": ATTEMPT_S},
        ],
        "executor": executor,
        "limits": {"drain_s": 0, "grace_s": 2},
    }
    path.write_text(yaml.safe_dump(values))
    return path
