"""What is known of the targets' quality is kept up to date in the background."""

from __future__ import annotations

import asyncio

from services.orchestrator.policy.quality import QualityTable
from services.orchestrator.quality_feed import POLL_S, QualityFeed
from services.runtime.clock import FakeClock
from spillway.routing import MeasuredQuality, TaskType

GOOD = MeasuredQuality("simple-1", TaskType.MATH, 80, 0.9, 0.95, 0.92)


class Ledger:
    """A QualitySource that says what it is told to."""

    def __init__(self) -> None:
        self.found: tuple[MeasuredQuality, ...] | None = None
        self.windows_s: list[float] = []

    async def measure_quality(self, window_s: float, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        self.windows_s.append(window_s)
        return self.found


async def asleep(clock: FakeClock) -> None:
    while not clock.sleepers:  # noqa: ASYNC110 - until the feed waits for its next turn
        await asyncio.sleep(0)


async def test_it_asks_at_once_and_then_every_minute_and_keeps_what_it_heard_last() -> None:
    ledger, clock = Ledger(), FakeClock()
    feed = QualityFeed(ledger, clock, window_days=30)
    assert feed.table.find("simple-1", TaskType.MATH) is None
    feed.start()
    await asleep(clock)
    assert len(feed.table) == 0
    ledger.found = (GOOD,)
    feed.reconfigure(window_days=7)
    clock.advance(POLL_S)
    await asyncio.sleep(0)
    await asleep(clock)
    assert feed.table.find("simple-1", TaskType.MATH) == GOOD
    ledger.found = None
    clock.advance(POLL_S)
    await asyncio.sleep(0)
    await asleep(clock)
    assert feed.table.find("simple-1", TaskType.MATH) == GOOD
    assert ledger.windows_s == [30 * 86_400, 7 * 86_400, 7 * 86_400]
    await feed.close()


async def test_closing_ends_it_while_the_ledger_hangs() -> None:
    class Hangs:
        async def measure_quality(self, window_s: float, *, timeout_s: float) -> None:
            await asyncio.Event().wait()

    feed = QualityFeed(Hangs(), FakeClock(), window_days=30)
    await feed.close()
    feed.start()
    await asyncio.sleep(0)
    await feed.close()
    assert len(feed.table) == 0


def test_of_two_measurements_of_the_same_the_last_counts() -> None:
    later = MeasuredQuality("simple-1", TaskType.MATH, 90, 0.8, 0.95, 0.80)
    table = QualityTable.of([GOOD, later])
    assert (len(table), table.find("simple-1", TaskType.MATH)) == (1, later)
    assert table.find("simple-1", TaskType.CODE) is None
