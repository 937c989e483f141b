"""Two orchestrators spend from one budget in a real Redis, at a sandbox that counts; one of them is killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from services.orchestrator.guarded_redis import connect
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.quotas.redis_books import RedisBooks
from services.orchestrator.quotas.windows import window_at
from services.runtime.clock import FakeClock, SystemClock
from spillway import wire
from spillway.chat import ChatRequest, GenerationParams, Message, Role
from spillway.failure import read_failure
from spillway.routing import CacheMode, CompletionRequest, RoutingOptions
from spillway.settings import Quotas as QuotaSettings
from spillway.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from tests.support.redis_server import RedisServer
from tests.support.suite import PRICES, Suite
from tests.support.waiting import until

pytestmark = pytest.mark.slow

REQUESTS = 200
TOKENS_IN, TOKENS_OUT = 40, 200
TRIES_MAX = 4
LEASE_S_MAX = 600  # more than any lease here


def cost_nanousd(model: str) -> int:
    price = PRICES[model]
    per_mtok = TOKENS_IN * price["input_usd_per_mtok"] + TOKENS_OUT * price["output_usd_per_mtok"]
    return round(1_000 * per_mtok)


BUDGET_NANOUSD = 50 * cost_nanousd("small-1")
QUOTAS = {
    "budgets": [{"name": "month", "period": "month", "cost_usd": BUDGET_NANOUSD / 1e9}],
    "when_unavailable": "closed",
}
ANSWER = {
    "text": "42",
    "confidence": 5,
    "latency_s": 0.5,
    "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT},
}


def request(number: int) -> orchestrator_pb2.CompleteRequest:
    return wire.completion_request_to_proto(
        CompletionRequest(
            chat=ChatRequest(
                (Message.of(Role.USER, f"What is 6 times 7? This is question {number}."),),
                GenerationParams(max_output_tokens=TOKENS_OUT),
            ),
            options=RoutingOptions(pinned_target="small-1", cache_mode=CacheMode.BYPASS),
            request_id=f"request-{number}",
            tenant="acme",
        )
    )


class Callers:
    """All of them at once, half of them at each front; who loses his front goes to the other, with the same id."""

    def __init__(self, addresses: list[str]) -> None:
        self._channels = [grpc.aio.insecure_channel(address) for address in addresses]
        self._stubs = [orchestrator_pb2_grpc.OrchestratorServiceStub(channel) for channel in self._channels]
        self.outcomes: Counter[str] = Counter()

    async def call(self, number: int) -> None:
        front, asked = number % 2, request(number)
        for _ in range(TRIES_MAX):
            try:
                await self._stubs[front].Complete(asked, timeout=60)
            except grpc.aio.AioRpcError as error:
                reason = read_failure(error).reason
                if reason == "BUDGET_EXHAUSTED":
                    self.outcomes["exhausted"] += 1
                    return
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                front = 1
            else:
                self.outcomes["answered"] += 1
                return
        self.outcomes["lost"] += 1

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def standing(url: str, at_unix_s: float) -> tuple[int, int]:
    clock = SystemClock()
    books = RedisBooks(connect(url, password="", timeout_s=20), clock, timeout_s=20, time=FakeClock(unix=at_unix_s))
    quotas = Quotas(QuotaSettings.model_validate(QUOTAS), books, clock, run_s_max=1)
    seen, limit = (await quotas.look(Holder("acme")))["month"]
    await quotas.close(10)
    assert limit == BUDGET_NANOUSD
    return seen.spent, seen.held


@pytest.mark.timeout(300)
async def test_a_budget_for_fifty_is_never_exceeded_though_an_orchestrator_is_killed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    now_s = time.time()
    if window_at("month", now_s) != window_at("month", now_s + LEASE_S_MAX):
        pytest.skip("the month is about to end")
    config = {
        "quotas": QUOTAS,
        "orchestrator": {"redis_url": redis_server.url, "redis_timeout_s": 10.0, "deadline_s": 60.0},
    }
    with Suite(tmp_path, config=config) as suite:
        suite.start("orchestrator-2")
        suite.script({"*": [ANSWER]})
        callers = Callers([suite.addresses["orchestrator"], suite.addresses["orchestrator-2"]])
        calling = [asyncio.create_task(callers.call(number)) for number in range(REQUESTS)]
        # A dead run's reservations may take all the rest.
        await until(lambda: callers.outcomes["answered"] >= 5, what="five answers", within_s=60)
        suite.processes["orchestrator"].kill()
        await asyncio.gather(*calling)
        await callers.close()
        calls = suite.calls()
        suite.processes["orchestrator-2"].stop()  # which tells what there is to tell
    earned = sum(cost_nanousd(call["model"]) for call in calls)
    assert callers.outcomes["answered"] >= 5, callers.outcomes
    assert callers.outcomes["exhausted"] >= REQUESTS - 50 - TRIES_MAX, callers.outcomes
    assert earned <= BUDGET_NANOUSD, "every call that came in counts in full, also those that were cut off"
    spent, held = await standing(redis_server.url, time.time())
    after_spent, after_held = await standing(redis_server.url, time.time() + LEASE_S_MAX)
    assert (after_spent, after_held) == (spent + held, 0), "nothing stays reserved"
    assert earned <= after_spent <= BUDGET_NANOUSD
