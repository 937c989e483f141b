"""Two processes spend from one budget in a real Redis, and one of them is killed in the middle."""

from __future__ import annotations

import calendar
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.orchestrator.guarded_redis import connect
from services.orchestrator.quotas.quotas import Quotas
from services.orchestrator.quotas.redis_books import RedisBooks
from services.runtime.clock import FakeClock, SystemClock
from tests.support.redis_server import RedisServer
from tests.support.spender import COST_NANOUSD, HOLDER, RUN_S_MAX, quota_settings

NOON = calendar.timegm((2026, 1, 15, 12, 0, 0))
BUDGET_NANOUSD = 50 * COST_NANOUSD
WAIT_S = 100


class Spending:
    """One process that spends."""

    def __init__(self, url: str, earnings: Path, requests: int, places: int) -> None:
        words = [url, str(earnings), requests, places, BUDGET_NANOUSD, NOON]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.spender", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )

    def says(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def processes() -> Iterator[list[Spending]]:
    started: list[Spending] = []
    yield started
    for each in started:
        each.kill()


async def standing(url: str, at_unix_s: float) -> tuple[int, int]:
    """What is spent and held of the month's budget at that time."""
    clock = SystemClock()
    books = RedisBooks(connect(url, password="", timeout_s=20), clock, timeout_s=20, time=FakeClock(unix=at_unix_s))
    quotas = Quotas(quota_settings(BUDGET_NANOUSD), books, clock, run_s_max=RUN_S_MAX)
    seen, limit = (await quotas.look(HOLDER))["month"]
    await quotas.close(10)
    assert limit == BUDGET_NANOUSD
    return seen.spent, seen.held


async def test_two_hundred_requests_spend_at_most_the_budget_for_fifty_though_one_process_is_killed(
    redis_server: RedisServer, tmp_path: Path, processes: list[Spending]
) -> None:
    earnings = tmp_path / "earnings"
    doomed = Spending(redis_server.url, earnings, requests=100, places=5)
    processes.append(doomed)
    assert doomed.says() == ["full"]
    other = Spending(redis_server.url, earnings, requests=100, places=100)
    processes.append(other)
    assert other.says() == ["full"]
    under_way = len(earnings.read_text().splitlines())
    assert under_way > 5, "both are in the middle of it"
    doomed.kill()
    other.let_go()
    done, answered, refused = other.says()
    assert (done, int(answered) + int(refused)) == ("done", 100)
    assert int(answered) >= 10
    earned = sum(map(int, earnings.read_text().split()))
    assert earned == (5 + int(answered)) * COST_NANOUSD, "a call that a full budget pays for is cut by nothing"
    assert earned <= BUDGET_NANOUSD, "not a nano dollar more than the budget"
    spent, held = await standing(redis_server.url, NOON)
    assert spent == int(answered) * COST_NANOUSD
    assert held >= 5 * COST_NANOUSD, "what the killed process held is not given to others"
    lost_spent, lost_held = await standing(redis_server.url, NOON + RUN_S_MAX + 31)
    assert (lost_spent, lost_held) == (spent + held, 0), "nothing stays reserved, and what nobody knows is charged"
    assert earned <= lost_spent <= BUDGET_NANOUSD
