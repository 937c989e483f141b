"""Threads that take no more than they can do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from services.ledger.workers import Workers
from services.runtime.errors import Overloaded
from tests.support.waiting import until


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What threads wait for; set at the end, so that none outlives a test that fails."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_is_more_than_may_wait_is_refused_at_once(hold: threading.Event) -> None:
    workers = Workers("test", threads=1, waiting_max=2)
    held = [asyncio.create_task(workers.run(hold.wait)) for _ in range(2)]
    await until(lambda: workers.waiting == 2)
    with pytest.raises(Overloaded):
        await workers.run(lambda: None)
    assert workers.refused == 1
    hold.set()
    assert await asyncio.gather(*held) == [True, True]
    await until(lambda: workers.waiting == 0)
    assert await workers.run(lambda: "free again") == "free again"
    workers.close()


async def test_a_caller_who_leaves_takes_back_only_what_has_not_begun(hold: threading.Event) -> None:
    workers = Workers("test", threads=1, waiting_max=3)
    begun, done = threading.Event(), list[str]()

    def first() -> None:
        begun.set()
        hold.wait()
        done.append("first")

    running = asyncio.create_task(workers.run(first))
    queued = asyncio.create_task(workers.run(lambda: done.append("queued")))
    await until(lambda: workers.waiting == 2)
    await asyncio.to_thread(begun.wait)
    running.cancel()
    queued.cancel()
    await asyncio.gather(running, queued, return_exceptions=True)
    await until(lambda: workers.waiting == 1)  # the thread is not free because nobody waits for it
    hold.set()
    await until(lambda: workers.waiting == 0)
    assert done == ["first"]
    workers.close()


async def test_what_the_work_raises_reaches_who_waits_for_it() -> None:
    workers = Workers("test", threads=1, waiting_max=1)
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    await until(lambda: workers.waiting == 0)
    workers.close()
