"""Tasks that are ended have ended, also those that do not listen at once."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from services.runtime import tasks
from services.runtime.tasks import end_tasks, finish_tasks


async def test_a_task_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    waits = 0

    async def deaf_at_first() -> None:
        nonlocal waits
        while waits < 3:
            waits += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf_at_first())
    await asyncio.sleep(0)
    await end_tasks([task])
    assert task.cancelled()
    assert waits == 3


async def test_what_an_ended_task_raises_is_nobodys() -> None:
    async def fails() -> None:
        raise ValueError

    await end_tasks([asyncio.create_task(fails())])
    await end_tasks([])


async def test_who_has_not_ended_in_time_is_ended_and_counted() -> None:
    async def fail() -> None:
        raise ValueError

    async def hang() -> None:
        await asyncio.Event().wait()

    under_way = [asyncio.create_task(each) for each in (asyncio.sleep(0), fail(), hang(), hang())]
    assert await finish_tasks(under_way, 0.01) == 2
    assert [each.cancelled() for each in under_way] == [False, False, True, True]
    assert await finish_tasks([], 0.01) == 0
