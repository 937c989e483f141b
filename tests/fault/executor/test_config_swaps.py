"""The configuration exchanged again and again while callers are being answered: nobody gets a mixture, nobody an error.

Each change is in two places: the model behind a target, and its price. Every other one is found by the plans that name
its version, before the executor was told; the others come with SIGHUP, with a bad file before each.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import yaml

from services.runtime.config import parse
from spillway.chat import ChatRequest, Message, Role
from spillway.cli.health import ServiceHealth, service_health
from spillway.routing import Plan, PlannedTier
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.wire import chat_request_to_proto, execution_from_proto, plan_to_proto
from tests.support.executor_bench import config, sandbox, say
from tests.support.following import put
from tests.support.processes import Process
from tests.support.waiting import until

SWAPS = int(os.environ.get("SPILLWAY_CONFIG_SWAPS", "30"))
CALLERS = 24
MODELS = ("a1", "another")
TOKENS = 100 + 4 * 10  # of the script's usage, in input tokens


def contents(path: Path, number: int) -> str:
    """The configuration of that number: its model, and a price that no other has."""
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    target = raw["tiers"][0]["targets"][0]
    target["model"] = MODELS[number % 2]
    target["price"] = {"input_usd_per_mtok": number + 1, "output_usd_per_mtok": 4 * (number + 1)}
    return str(yaml.safe_dump(raw))


class Callers:
    """Ask without a pause. `planned` is the version that plans are made by."""

    def __init__(self, address: str, planned: str) -> None:
        self._address = address
        self.planned = planned
        self.answers: list[tuple[str, str, int]] = []
        self.begun = 0
        self.ends = asyncio.Event()

    async def run(self, number: int) -> None:
        tier = PlannedTier("simple", ("a1",))
        chat = chat_request_to_proto(ChatRequest((Message.of(Role.USER, f"caller {number}"),)))
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub: Any = executor_pb2_grpc.ExecutorServiceStub(channel)
            while not self.ends.is_set():
                version = self.planned if number % 2 else ""
                plan = plan_to_proto(Plan((tier,), config_version=version))
                self.begun += 1
                response = await stub.Execute(executor_pb2.ExecuteRequest(chat=chat, plan=plan), timeout=30)
                execution = execution_from_proto(response.execution)
                self.answers.append((version, execution.model, execution.cost_nanousd))

    async def go_on(self) -> None:
        """Until as many answers have come as there are callers."""
        wanted = len(self.answers) + CALLERS
        await until(lambda: len(self.answers) >= wanted)


async def test_under_load_every_answer_is_of_one_configuration_and_none_is_lost(tmp_path: Path) -> None:
    with sandbox(tmp_path) as url:
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
            script = {"models": {model: [say("an answer")] for model in MODELS}}
            (await http.put("/sandbox/script", json=script)).raise_for_status()
        path = config(tmp_path, url)
        texts = [contents(path, number) for number in range(SWAPS + 1)]
        versions = [parse(text.encode(), path).version for text in texts]
        put(path, texts[0])
        process = Process("services.executor", ["--config", str(path), "--listen", "127.0.0.1:0"], {}, tmp_path / "log")
        try:
            address = str(process.ready()["listen"])
            callers = Callers(address, versions[0])
            asking = [asyncio.create_task(callers.run(number)) for number in range(CALLERS)]
            try:
                for number in range(1, SWAPS + 1):
                    exchange = refuse_then_tell if number % 2 else let_it_be_found
                    await exchange(Change(process, address, path, texts[number], versions[number]), callers)
                    await callers.go_on()
            finally:
                callers.ends.set()
                await asyncio.gather(*asking)
        finally:
            process.stop()
    costs = [round(1_000 * TOKENS * (number + 1)) for number in range(SWAPS + 1)]
    whole = {(MODELS[number % 2], costs[number]): versions[number] for number in range(SWAPS + 1)}
    assert len(callers.answers) == callers.begun
    for planned, model, cost in callers.answers:
        assert (model, cost) in whole
        assert planned in {"", whole[model, cost]}
    assert {whole[model, cost] for _, model, cost in callers.answers} == set(versions)
    lines = [json.loads(line) for line in process.log().splitlines()]
    # One that was found before the signal came is applied once more.
    reloaded = [line for line in lines if line["event"] == "config_reloaded" and line["version"] != line["before"]]
    assert [line["version"] for line in reloaded] == versions[1:]
    events = [line["event"] for line in lines]
    assert events.count("config_refused") == (SWAPS + 1) // 2
    assert "loop_exception" not in events


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration on its way to an executor."""

    process: Process
    address: str
    path: Path
    text: str
    version: str

    async def seen(self) -> ServiceHealth:
        return await service_health("executor", self.address)

    async def is_in_force(self) -> bool:
        seen = await self.seen()
        return seen.config_version == self.version and not seen.config_refused

    async def is_refused(self) -> bool:
        return bool((await self.seen()).config_refused)

    def put(self, text: str) -> None:
        put(self.path, text)
        self.process.signal(signal.SIGHUP)


async def let_it_be_found(change: Change, callers: Callers) -> None:
    """The plans are ahead of the executor."""
    put(change.path, change.text)
    callers.planned = change.version
    await until(change.is_in_force)


async def refuse_then_tell(change: Change, callers: Callers) -> None:
    """A bad file first. The plans are behind the executor."""
    before = (await change.seen()).config_version
    change.put(change.text + "\nflagship: nobody\n")
    await until(change.is_refused)
    assert (await change.seen()).config_version == before
    change.put(change.text)
    await until(change.is_in_force)
    await callers.go_on()
    callers.planned = change.version
