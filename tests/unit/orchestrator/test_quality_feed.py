"""What is known of the targets' quality is kept up to date in the background."""

from __future__ import annotations

import asyncio

from services.orchestrator.ledger_hop import QualityQuestion
from services.orchestrator.policy.quality import QualityTable
from services.orchestrator.quality_feed import POLL_S, RETRY_S, QualityFeed
from services.runtime.clock import FakeClock
from spillway.routing import MeasuredQuality, TaskType
from tests.support.waiting import until

GOOD = MeasuredQuality("simple-1", TaskType.MATH, 80, 0.9, 0.95, 0.92)
ASKED = QualityQuestion(30 * 86_400.0, "large-1", "judge-1")


class Ledger:
    """A QualitySource that says what it is told to; `gate` holds its answers."""

    def __init__(self, found: tuple[MeasuredQuality, ...] | None = None) -> None:
        self.found = found
        self.gate: asyncio.Event | None = None
        self.asked: list[QualityQuestion] = []

    async def measure_quality(self, asked: QualityQuestion, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        self.asked.append(asked)
        if self.gate is not None:
            await self.gate.wait()
        return self.found


def known(feed: QualityFeed) -> int | None:
    """How much, None while nothing was heard."""
    return None if feed.table is None else len(feed.table)


async def next_turn(ledger: Ledger, clock: FakeClock, pause_s: float) -> None:
    """The pause, and the question after it."""
    before = len(ledger.asked)
    await until(lambda: clock.sleepers)
    clock.advance(pause_s)
    await until(lambda: len(ledger.asked) > before)
    await until(lambda: clock.sleepers)


async def test_it_asks_at_once_and_then_every_minute_and_keeps_what_it_heard_last() -> None:
    ledger, clock = Ledger(()), FakeClock()
    feed = QualityFeed(ledger, clock, ASKED)
    assert feed.table is None
    feed.start()
    await until(lambda: clock.sleepers)
    assert known(feed) == 0
    ledger.found = (GOOD,)
    await next_turn(ledger, clock, POLL_S)
    assert known(feed) == 1
    ledger.found = None
    await next_turn(ledger, clock, POLL_S)
    assert known(feed) == 1
    assert ledger.asked == [ASKED] * 3
    await feed.close()


async def test_a_ledger_that_does_not_answer_is_asked_again_soon_and_then_less_often() -> None:
    ledger, clock = Ledger(), FakeClock()
    feed = QualityFeed(ledger, clock, ASKED)
    feed.start()
    began_s = clock.monotonic()
    for pause_s in (1, 2, 4, 8, 16, 32, 60, 60):
        await until(lambda: clock.sleepers)
        before = len(ledger.asked)
        clock.advance(pause_s - 0.01)
        await asyncio.sleep(0)
        assert len(ledger.asked) == before
        await next_turn(ledger, clock, 0.01)
    assert clock.monotonic() - began_s >= 183
    assert feed.table is None
    ledger.found = (GOOD,)
    await next_turn(ledger, clock, POLL_S)
    assert await feed.heard(10)
    ledger.found = None
    await next_turn(ledger, clock, POLL_S)
    await next_turn(ledger, clock, RETRY_S)  # it begins anew
    await feed.close()


async def test_who_waits_for_a_first_answer_waits_no_longer_than_they_say() -> None:
    ledger, clock = Ledger(), FakeClock()
    feed = QualityFeed(ledger, clock, ASKED)
    feed.start()
    assert not await feed.heard(0.001)
    ledger.found = ()
    await next_turn(ledger, clock, RETRY_S)
    assert await feed.heard(10)
    await feed.close()


async def test_what_was_measured_beside_another_flagship_is_dropped_at_once_and_asked_for_anew() -> None:
    ledger, clock = Ledger((GOOD,)), FakeClock()
    feed = QualityFeed(ledger, clock, ASKED)
    feed.start()
    await until(lambda: feed.table)
    ledger.gate = asyncio.Event()
    other = QualityQuestion(ASKED.window_s, "larger-2", ASKED.judge_target)
    await feed.reconfigure(other)
    assert feed.table is None
    assert not await feed.heard(0.001)
    await until(lambda: len(ledger.asked) == 2)
    ledger.gate.set()
    assert await feed.heard(10)
    assert ledger.asked == [ASKED, other]
    await feed.close()


async def test_an_answer_to_a_former_question_is_not_taken_for_one_to_the_new() -> None:
    ledger, clock = Ledger((GOOD,)), FakeClock()
    ledger.gate = asyncio.Event()
    feed = QualityFeed(ledger, clock, ASKED)
    feed.start()
    await until(lambda: ledger.asked)
    await feed.reconfigure(QualityQuestion(ASKED.window_s, "larger-2"))
    former, ledger.gate = ledger.gate, asyncio.Event()
    former.set()
    await until(lambda: len(ledger.asked) == 2)
    assert feed.table is None
    await feed.close()


async def test_another_window_is_asked_for_at_once_while_the_former_answer_stays() -> None:
    ledger, clock = Ledger((GOOD,)), FakeClock()
    feed = QualityFeed(ledger, clock, ASKED)
    await feed.reconfigure(ASKED)
    assert ledger.asked == []
    feed.start()
    await until(lambda: feed.table)
    week = QualityQuestion(7 * 86_400.0, ASKED.flagship_target, ASKED.judge_target)
    await feed.reconfigure(week)
    assert feed.table is not None
    await until(lambda: len(ledger.asked) == 2)
    assert ledger.asked == [ASKED, week]
    await feed.close()


async def test_closing_ends_it_while_the_ledger_hangs() -> None:
    ledger = Ledger(())
    ledger.gate = asyncio.Event()
    feed = QualityFeed(ledger, FakeClock(), ASKED)
    await feed.close()
    feed.start()
    await until(lambda: ledger.asked)
    await feed.close()
    assert feed.table is None


def test_of_two_measurements_of_the_same_the_last_counts() -> None:
    later = MeasuredQuality("simple-1", TaskType.MATH, 90, 0.8, 0.95, 0.80)
    table = QualityTable.of([GOOD, later])
    assert (len(table), table.find("simple-1", TaskType.MATH)) == (1, later)
    assert table.find("simple-1", TaskType.CODE) is None
