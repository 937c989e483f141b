"""A canary through a real executor and a provider's process: what it is asked, what it costs, what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.executor.__main__ import build
from services.orchestrator.canary.canary import Canary, CanaryOutcome
from services.orchestrator.canary.drift_store import MemoryDrift
from services.orchestrator.canary.monitor import DriftMonitor
from services.orchestrator.canary.sample import Sample
from services.orchestrator.grpc_executor import GrpcExecutor
from services.runtime.clock import SystemClock
from services.runtime.config import load
from services.runtime.server import start
from spillway.chat import ChatRequest, Message, Role, Usage
from spillway.routing import Grade, TaskType
from spillway.settings import Settings
from tests.support.executor_bench import config, sandbox, say

WORD = "5e1f"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def provider_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sandbox(tmp_path_factory.mktemp("sandbox")) as url:
        yield url


class World:
    """A canary over an executor, and the provider's controls."""

    def __init__(self, settings: Settings, channel: grpc.aio.Channel, http: httpx.AsyncClient) -> None:
        self.http = http
        self.grades: list[Grade] = []
        self.outcomes: list[tuple[CanaryOutcome, int]] = []
        canary = settings.canary.model_copy(update={"share": 1.0, "judge": "a1"})
        settings = settings.model_copy(update={"canary": canary, "flagship": "c1"})
        self.canary = Canary(
            settings,
            executor=GrpcExecutor(channel),
            monitor=DriftMonitor(settings, store=MemoryDrift(), clock=SystemClock()),
            clock=SystemClock(),
            draw=lambda: 0.0,
            on_grade=self.grades.append,
            on_outcome=lambda outcome, cost_nanousd, _: self.outcomes.append((outcome, cost_nanousd)),
            word=lambda: WORD,
        )

    async def compare(self, **models: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One comparison with scripted models; the provider's journal of it."""
        (await self.http.put("/sandbox/script", json={"models": models})).raise_for_status()
        await self.http.delete("/sandbox/calls")
        chat = ChatRequest((Message.of(Role.USER, QUESTION),))
        answer = Message.of(Role.ASSISTANT, "Paris.")
        self.canary.offer(Sample("r1", "acme", chat, TaskType.FACTUAL_QA, "simple", "a2", answer, Usage(10, 2)))
        assert await self.canary.close(20) == 0
        calls: list[dict[str, Any]] = (await self.http.get("/sandbox/calls")).json()["calls"]
        return calls


@pytest.fixture
async def world(provider_url: str, tmp_path: Path) -> AsyncIterator[World]:
    loaded = load(config(tmp_path, provider_url))
    server = await start(await build(loaded), loaded, "127.0.0.1:0")
    try:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            httpx.AsyncClient(base_url=provider_url, timeout=20, trust_env=False) as http,
        ):
            yield World(loaded.settings, channel, http)
    finally:
        await server.stop()


def graded(first: int, second: int) -> dict[str, Any]:
    return say(f'Both name a city. {{"mark": "{WORD}", "first": {first}, "second": {second}}}')


async def test_flagship_and_judge_answer_and_the_grade_has_their_cost(world: World) -> None:
    calls = await world.compare(c1=[say("It is Paris.")], a1=[graded(8, 10), graded(10, 9)])
    assert [call["model"] for call in calls] == ["c1", "a1", "a1"]
    (grade,) = world.grades
    assert (grade.score, grade.flagship_score, grade.orders_agree) == (0.85, 1.0, True)
    # 100 tokens in and 10 out each: the flagship at 10 and 40, the judge at 1 and 4 dollars per million.
    assert grade.cost_nanousd == 1_000 * (100 * 10 + 10 * 40 + 2 * (100 * 1 + 10 * 4))
    assert world.outcomes == [(CanaryOutcome.GRADED, grade.cost_nanousd)]


async def test_no_other_target_stands_in_for_a_flagship_that_fails(world: World) -> None:
    calls = await world.compare(c1=[{"status": 500}] * 3, a1=[graded(8, 10)] * 2)
    assert {call["model"] for call in calls} == {"c1"}
    assert [outcome for outcome, _ in world.outcomes] == [CanaryOutcome.FLAGSHIP_FAILED]


async def test_a_judge_that_gives_no_grades_is_no_grade_and_is_paid_for(world: World) -> None:
    await world.compare(c1=[say("It is Paris.")], a1=[say("The first, clearly.")] * 2)
    cost_nanousd = 1_000 * (1_400 + 140)
    assert [(each.outcome, each.cost_nanousd) for each in world.grades] == [("judge_unreadable", cost_nanousd)]
    assert world.outcomes == [(CanaryOutcome.JUDGE_UNREADABLE, cost_nanousd)]
