"""A process that spends from a budget in Redis: quotas and an executor as services have them, its provider a file.

    python -m tests.support.spender REDIS_URL EARNINGS_FILE REQUESTS PLACES BUDGET_NANOUSD UNIX_S

All requests come at once; `PLACES` of them may be under way. The provider writes what it earns into the file when a
call comes in, and answers only after a line on standard input. Says "full" on standard output once every request is
under way, waits for a place or was refused; "done ANSWERED REFUSED" at the end. Books live at a fixed time, so no
lease ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace

from services.executor.execution import Executor
from services.executor.gates.calibration import BASELINE
from services.executor.outcome import Answer, ProviderFailure
from services.executor.providers.provider import ProviderCall, StreamEvent
from services.executor.targets import TargetPool
from services.orchestrator.guarded_redis import connect
from services.orchestrator.quotas.bound import bound_of
from services.orchestrator.quotas.errors import BudgetExhausted
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.quotas.redis_books import RedisBooks
from services.runtime.clock import FakeClock, SystemClock
from spillway.chat import ChatRequest, GenerationParams, Message, Role, Usage
from spillway.routing import Plan, PlannedTier
from spillway.settings import Quotas as QuotaSettings
from spillway.settings import Settings
from tests.support.waiting import until

__all__ = ["COST_NANOUSD", "HOLDER", "RUN_S_MAX", "quota_settings"]

HOLDER = Holder("acme", "k1")
RUN_S_MAX = 60.0
FULL_WAIT_S = 100.0
USAGE = Usage(40, 60)
CHAT = ChatRequest((Message.of(Role.USER, "What is 6 times 7?"),), GenerationParams(max_output_tokens=200))
TARGET = {
    "name": "m",
    "provider": "p",
    "model": "m",
    "price": {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0},
    "concurrency_max": 1_000,
}
SETTINGS = Settings.model_validate(
    {"providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}}, "tiers": [{"name": "t", "targets": [TARGET]}]}
)
PRICES = {"m": SETTINGS.tiers[0].targets[0].price}
COST_NANOUSD = PRICES["m"].nanousd(USAGE)


def quota_settings(budget_nanousd: int) -> QuotaSettings:
    """One budget for the tenant, and one for the key that is never the tighter one."""
    usd = budget_nanousd / 1e9
    return QuotaSettings.model_validate(
        {
            "budgets": [
                {"name": "month", "period": "month", "cost_usd": usd},
                {"name": "key", "key": "*", "period": "day", "cost_usd": 2 * usd},
            ],
            "when_unavailable": "closed",
        }
    )


class Till:
    """A provider that is paid when a call comes in, and answers when it is told to."""

    def __init__(self, earnings: int) -> None:
        self._earnings = earnings
        self.opens = asyncio.Event()
        self.calls = 0

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        limit = call.chat.generation.max_output_tokens
        usage = replace(USAGE, output_tokens=min(USAGE.output_tokens, limit or 0))
        os.write(self._earnings, f"{PRICES['m'].nanousd(usage)}\n".encode())
        self.calls += 1
        await self.opens.wait()
        return Answer(Message.of(Role.ASSISTANT, "42"), usage=usage, model="m")

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        yield await self.complete(call)

    async def close(self) -> None:
        """Nothing is open."""


class Spender:
    def __init__(self, till: Till, quotas: Quotas, requests: int, places: int) -> None:
        self._till = till
        self._quotas = quotas
        self._requests = requests
        self._places = asyncio.Semaphore(places)
        self._places_max = places
        self._changed = asyncio.Condition()
        self._settled = 0
        self._refused = 0
        self._under_way = 0
        self._executor = Executor(
            {"p": till},
            TargetPool(SETTINGS, random=lambda: 0.5),
            SystemClock(),
            confidence_min=0.5,
            calibration=BASELINE,
            hedging=SETTINGS.executor.hedging,
        )
        self._plan = Plan((PlannedTier("t", ("m",)),))
        self.answered = 0

    async def request(self, number: int) -> None:
        """Asks again whenever another one has settled, until nothing is under way that could make room."""
        while True:
            settled = self._settled
            async with self._places:
                if await self._is_answered(number):
                    return
            self._refused += 1
            await self._till.opens.wait()
            async with self._changed:
                while self._settled == settled and self._under_way:
                    await self._changed.wait()
            self._refused -= 1
            if not self._under_way and self._settled == settled:
                return

    async def _is_answered(self, number: int) -> bool:
        try:
            bound = bound_of(CHAT, self._plan, PRICES)
            reservation = await self._quotas.admit(HOLDER, f"{os.getpid()}-{number}", bound)
        except BudgetExhausted:
            return False
        self._under_way += 1
        plan = replace(self._plan, cost_nanousd_max=reservation.cost_nanousd_max)
        execution = await self._executor.execute(CHAT, plan, None, RUN_S_MAX)
        tokens = execution.usage_total.input_tokens + execution.usage_total.output_tokens
        await reservation.settle(execution.cost_nanousd, tokens)
        self._under_way -= 1
        self._settled += 1
        self.answered += 1
        async with self._changed:
            self._changed.notify_all()
        return True

    def is_full(self) -> bool:
        """Whether nothing more happens before the provider answers."""
        return self._till.calls == self._places_max or self._refused + self._till.calls == self._requests


async def main(url: str, earnings: str, requests: int, places: int, budget_nanousd: int, unix_s: float) -> None:
    till = Till(os.open(earnings, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    clock = SystemClock()
    books = RedisBooks(connect(url, password="", timeout_s=20), clock, timeout_s=20, time=FakeClock(unix=unix_s))
    quotas = Quotas(quota_settings(budget_nanousd), books, clock, run_s_max=RUN_S_MAX)
    spender = Spender(till, quotas, requests, places)
    tasks = [asyncio.create_task(spender.request(number)) for number in range(requests)]
    await until(spender.is_full, within_s=FULL_WAIT_S)
    print("full", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    till.opens.set()
    await asyncio.gather(*tasks)
    await quotas.close(10)
    print(f"done {spender.answered} {requests - spender.answered}", flush=True)


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    )
