"""What is too old is deleted, round after round."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import OperationalError

from services.ledger.retention import ROUND_S, STEP_MAX, Retention
from services.ledger.rows import to_us
from services.ledger.store import LedgerStore
from services.ledger.workers import Workers
from services.runtime.clock import FakeClock
from tests.support.waiting import until


class Store:
    """Deletes what it is scripted to; an error is raised."""

    def __init__(self, *script: int | Exception) -> None:
        self.script = list(script)
        self.asked: list[tuple[int, int]] = []

    def delete_before(self, before_us: int, count_max: int) -> int:
        self.asked.append((before_us, count_max))
        step = self.script.pop(0) if self.script else 0
        if isinstance(step, Exception):
            raise step
        return step


async def turn(clock: FakeClock, store: Store, asked: int) -> None:
    """Lets time pass until the store was asked so often."""
    await until(lambda: len(store.asked) >= asked and clock.sleepers)


async def test_steps_follow_each_other_until_nothing_is_left_and_the_next_round_looks_again() -> None:
    clock, deleted = FakeClock(), list[int]()
    store = Store(STEP_MAX, 7)
    workers = Workers("test", threads=1, waiting_max=4)
    retention = Retention(_as_store(store), workers, clock, days=90, on_delete=deleted.append)
    task = asyncio.create_task(retention.run())
    for asked in (1, 2):
        await turn(clock, store, asked)
        clock.advance(1.0)
    await turn(clock, store, 3)
    assert deleted == [STEP_MAX, 7]
    assert store.asked[0] == (to_us(clock.unix() - 2.0 - 90 * 86_400), STEP_MAX)
    clock.advance(ROUND_S)
    await turn(clock, store, 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    workers.close()


async def test_a_database_that_is_away_is_tried_again_at_the_next_round() -> None:
    clock = FakeClock()
    store = Store(OperationalError("delete", None, Exception("away")), 3)
    workers = Workers("test", threads=1, waiting_max=4)
    task = asyncio.create_task(Retention(_as_store(store), workers, clock, days=1).run())
    await turn(clock, store, 1)
    clock.advance(ROUND_S)
    await turn(clock, store, 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    workers.close()


def _as_store(store: Store) -> LedgerStore:
    return store  # type: ignore[return-value]
