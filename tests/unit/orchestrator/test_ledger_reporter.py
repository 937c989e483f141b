"""Records on their way to the ledger: none is lost without being counted, none delays anybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.ledger_hop import FakeLedger, Receipt
from services.orchestrator.ledger_reporter import BACKOFF_S_MAX, BATCH_MAX, FLUSH_S, LedgerReporter, Outbox
from services.runtime.clock import FakeClock
from tests.support.ledger_records import grade, record


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass
class Telling:
    queued_max: int = 10_000
    clock: FakeClock = field(default_factory=FakeClock)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        def lose(kind: str, count: int) -> None:
            self.lost[kind] += count

        self.reporter = LedgerReporter(self.ledger, self.clock, queued_max=self.queued_max, on_drop=lose)

    def offer(self, *names: str) -> None:
        for name in names:
            self.reporter.offer(record(name))

    async def passes(self, seconds: float) -> None:
        await settle()
        self.clock.advance(seconds)
        await settle()

    @property
    def kept(self) -> list[str]:
        return [each.request_id for each in self.ledger.records]


async def test_records_and_grades_are_sent_together_within_a_second() -> None:
    telling = Telling()
    telling.offer("a", "b")
    telling.reporter.offer_grade(grade("g"))
    await settle()
    assert telling.kept == []
    await telling.passes(FLUSH_S)
    assert telling.kept == ["a", "b"]
    assert [each.grade_id for each in telling.ledger.grades] == ["g"]
    telling.offer("c")
    await telling.passes(FLUSH_S)
    assert telling.ledger.batches == [2, 1]
    assert not telling.lost


async def test_a_full_batch_does_not_wait_and_none_is_larger() -> None:
    telling = Telling()
    telling.offer(*(str(number) for number in range(BATCH_MAX + 3)))
    await settle()
    assert telling.ledger.batches == [BATCH_MAX]
    await telling.passes(FLUSH_S)
    assert telling.ledger.batches == [BATCH_MAX, 3]


async def test_a_batch_that_was_not_acknowledged_is_sent_again_first() -> None:
    telling = Telling()
    telling.ledger.says = Receipt.AWAY
    telling.offer("a", "b")
    await telling.passes(FLUSH_S)
    telling.offer("c")
    telling.ledger.says = Receipt.KEPT
    for _ in range(3):
        await telling.passes(BACKOFF_S_MAX)
    assert telling.kept == ["a", "b", "c"]
    assert not telling.lost


async def test_a_ledger_that_stays_away_is_asked_less_and_less_often() -> None:
    telling = Telling()
    telling.ledger.says = Receipt.AWAY
    telling.offer("a")
    for _ in range(1_000):
        await telling.passes(1.0)
    assert 1_000 / (2 * BACKOFF_S_MAX) - 5 <= len(telling.ledger.batches) <= 1_000 / BACKOFF_S_MAX + 10


async def test_a_ledger_that_is_away_is_asked_with_one_record_and_gets_whole_batches_again_once_it_is_back() -> None:
    telling = Telling()
    telling.ledger.says = Receipt.AWAY
    telling.offer(*(str(number) for number in range(40)))
    for _ in range(3):
        await telling.passes(BACKOFF_S_MAX)
    assert telling.ledger.batches[0] == 40
    assert set(telling.ledger.batches[1:]) == {1}
    telling.ledger.says, telling.ledger.batches = Receipt.KEPT, []
    await telling.passes(BACKOFF_S_MAX)
    assert telling.ledger.batches == [1, 2, 4, 8, 16, 9]


async def test_a_full_queue_drops_what_is_new_and_counts_exactly() -> None:
    telling = Telling(queued_max=3)
    telling.ledger.says = Receipt.AWAY
    telling.offer("a", "b", "c", "d")
    assert telling.reporter.offer(record("e")) is False
    assert telling.lost == {"ledger_record": 2}
    telling.ledger.says = Receipt.KEPT
    await telling.passes(FLUSH_S)
    telling.offer("f")
    await telling.passes(FLUSH_S)
    assert telling.kept == ["a", "b", "c", "f"]
    assert telling.lost == {"ledger_record": 2}


async def test_what_is_not_acknowledged_in_time_at_the_end_is_lost_and_counted() -> None:
    telling = Telling()
    telling.ledger.says = Receipt.AWAY
    telling.offer("a", "b")
    telling.reporter.offer_grade(grade("g"))
    await telling.reporter.close(0.01)
    assert telling.lost == {"ledger_record": 2, "ledger_grade": 1}
    telling.offer("late")
    assert telling.lost["ledger_record"] == 3


async def test_closing_sends_what_waits_at_once() -> None:
    telling = Telling()
    telling.offer("a", "b")
    telling.reporter.offer_grade(grade("g"))
    await telling.reporter.close(20.0)
    assert telling.kept == ["a", "b"]
    assert len(telling.ledger.grades) == 1
    assert not telling.lost


class Picky:
    """Refuses batches with anything that is wrong in it."""

    def __init__(self, wrong: Callable[[int], bool]) -> None:
        self.wrong = wrong
        self.kept: list[int] = []
        self.calls = 0

    async def __call__(self, batch: object, /, *, timeout_s: float) -> Receipt:
        assert isinstance(batch, list)
        self.calls += 1
        await asyncio.sleep(0)
        if any(self.wrong(item) for item in batch):
            return Receipt.REFUSED
        self.kept.extend(batch)
        return Receipt.KEPT


@settings(max_examples=40)
@given(st.sets(st.integers(0, 300)), st.integers(1, 300))
def test_what_the_ledger_refuses_is_dropped_alone(wrong: set[int], count: int) -> None:
    async def run() -> None:
        picky, lost = Picky(wrong.__contains__), list[int]()
        outbox: Outbox[int] = Outbox("test", picky, FakeClock(), queued_max=1_000, on_drop=lost.append)
        for number in range(count):
            outbox.offer(number)
        await outbox.close(20.0)
        bad = {number for number in wrong if number < count}
        assert picky.kept == [number for number in range(count) if number not in bad]
        assert (outbox.acknowledged, outbox.dropped, sum(lost)) == (count - len(bad), len(bad), len(bad))
        assert picky.calls <= 4 + 22 * (len(bad) + 1)

    asyncio.run(run())


@settings(max_examples=40)
@given(st.lists(st.sampled_from([*Receipt, "offer", "offer", "second"]), max_size=60), st.integers(1, 5))
def test_every_record_is_acknowledged_or_dropped_and_never_both(steps: list[str], queued_max: int) -> None:
    async def run() -> None:
        telling = Telling(queued_max=queued_max)
        offered = 0
        for step in steps:
            if step == "offer":
                telling.offer(f"r{offered}")
                offered += 1
            elif step == "second":
                await telling.passes(BACKOFF_S_MAX)
            else:
                telling.ledger.says = Receipt(step)
        outbox = telling.reporter.records
        assert outbox.acknowledged + outbox.dropped + outbox.queued == offered
        assert outbox.queued <= queued_max
        await telling.reporter.close(0.001)
        assert outbox.acknowledged == len(telling.ledger.records)
        assert outbox.acknowledged + telling.lost["ledger_record"] == offered

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["offer", "offer_grade"])
def test_offering_needs_no_turn_of_the_loop(kind: str) -> None:
    async def run() -> None:
        telling = Telling()
        telling.ledger.says = Receipt.AWAY
        item = record("a") if kind == "offer" else grade("g")
        for _ in range(3):
            assert getattr(telling.reporter, kind)(item) is True
        await telling.reporter.close(0.001)

    asyncio.run(run())


async def test_who_waits_for_a_record_hurries_it() -> None:
    telling = Telling()
    await telling.passes(0.0)
    telling.offer("a", "b")
    assert await telling.reporter.records.sent(20.0)
    assert telling.kept == ["a", "b"]
    assert await telling.reporter.records.sent(20.0), "there is nothing to wait for"


async def test_nobody_waits_for_a_ledger_that_is_away() -> None:
    telling = Telling()
    telling.ledger.says = Receipt.AWAY
    telling.offer("a")
    assert not await telling.reporter.records.sent(20.0)
    telling.offer("b")
    assert not await telling.reporter.records.sent(20.0)
    assert telling.kept == []
    telling.ledger.says = Receipt.KEPT
    await telling.passes(BACKOFF_S_MAX)
    await telling.passes(FLUSH_S)
    assert telling.kept == ["a", "b"]
