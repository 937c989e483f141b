"""The books that replicas share, in Redis.

Promises: as `books` says; every step is one round trip of one script, bounded by `timeout_s`. A Redis that does not
answer in time is left alone for a moment, and everything raises BooksUnavailableError at once until then. In Redis are
hashes of tenants and keys, names of quotas, and numbers.

A Redis that comes back empty has forgotten what was spent: persistence (`appendonly yes`) is what makes a budget last.
"""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.orchestrator.guarded_redis import GuardedRedis, RedisGoneError
from services.orchestrator.quotas.books import (
    BooksUnavailableError,
    BudgetLine,
    Granted,
    Order,
    RateLine,
    Refused,
    Spent,
    Standing,
)
from services.orchestrator.quotas.memory_books import KEEP_S
from services.orchestrator.quotas.redis_script import PREFIX, SCRIPT
from services.runtime.clock import Clock
from services.runtime.redis_places import RedisPlaces

__all__ = ["PAUSE_S", "RedisBooks"]

PAUSE_S: Final = 1.0
"""How long a Redis that did not answer is left alone."""
_FAILURES_MAX: Final = 3

Json = dict[str, Any]


class RedisBooks:
    """`redis` is its own from now on. `clock` is for the cooldown; with `time` that one's time is used, not Redis's.
    `places`: see GuardedRedis.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        *,
        timeout_s: float,
        time: Clock | None = None,
        places: RedisPlaces | None = None,
    ) -> None:
        self._redis = redis
        self._time = time
        self._guarded = GuardedRedis(
            redis, timeout_s=timeout_s, clock=clock, pause_s=PAUSE_S, failures_max=_FAILURES_MAX, places=places
        )
        self._script = self._guarded.script(SCRIPT)

    async def reserve(self, order: Order) -> Granted | Refused:
        step = {
            "what": "reserve",
            "run": order.run,
            "lease_us": round(order.lease_s * 1e6),
            "cost": order.cost_nanousd,
            "least": order.least_cost_nanousd,
            "tokens": order.tokens,
            "budgets": [_budget(line) for line in order.budgets],
            "rates": [_rate(line) | {"units": _units(order, line)} for line in order.rates],
        }
        answer = await self._run(order.tenant, step)
        if answer[1] == b"late":
            raise BooksUnavailableError("the run was settled before its order came")
        if int(answer[0]) == 0:
            lines = order.budgets if answer[1] == b"budget" else order.rates
            wait_us = int(answer[3])
            name = lines[int(answer[2]) - 1].name
            kind = "budget" if answer[1] == b"budget" else "rate"
            return Refused(kind, name, wait_us / 1e6 if wait_us >= 0 else None)  # type: ignore[arg-type]
        numbers = [int(number) for number in answer[2:]]
        counts = zip(order.budgets, numbers[1::3], numbers[2::3], strict=True)
        used = tuple((spent + held) / line.limit for line, spent, held in counts)
        return Granted(int(answer[1]), tuple(numbers[0::3]), used)

    async def settle(self, order: Order, granted: Granted | None, spent: Spent) -> bool:
        budgets = [_budget(line) for line in order.budgets]
        for index, line in enumerate(order.budgets):
            budgets[index]["spent"] = spent.cost_nanousd if line.measure == "cost" else spent.tokens
            if granted is not None:
                budgets[index]["start"] = granted.starts_s[index]
        rates = [
            _rate(line) | {"unused": _units(order, line) - spent.tokens}
            for line in order.rates
            if line.measure == "tokens"
        ]
        step = {"what": "settle", "run": order.run, "budgets": budgets, "rates": rates}
        return bool(await self._run(order.tenant, step))

    async def look(self, tenant: str, budgets: tuple[BudgetLine, ...]) -> tuple[Standing, ...]:
        answer = await self._run(tenant, {"what": "look", "budgets": [_budget(line) for line in budgets]})
        return tuple(Standing(int(spent), int(held)) for spent, held in answer)

    async def close(self) -> None:
        """Closes the connections."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()

    async def _run(self, tenant: str, step: Json) -> Any:
        now_us = 0 if self._time is None else round(self._time.unix() * 1e6)
        argument = json.dumps(step | {"now_us": now_us, "keep_ms": math.ceil(KEEP_S * 1_000)})
        try:
            return await self._guarded.run(self._script, [f"{PREFIX}:{{{tenant}}}:leases"], [argument])
        except RedisGoneError as error:
            raise BooksUnavailableError(str(error)) from error


def _budget(line: BudgetLine) -> Json:
    key = f"{line.name}:{line.holder}:{line.period}:{line.measure}"
    return {"key": key, "period": line.period, "measure": line.measure, "limit": line.limit}


def _rate(line: RateLine) -> Json:
    return {"key": f"{line.name}:{line.holder}:{line.measure}", "per_minute": line.per_minute}


def _units(order: Order, line: RateLine) -> int:
    return 1 if line.measure == "requests" else min(order.rate_tokens, line.per_minute)
