"""Work after the answer: bounded, dropped beyond the bound, finished at the end."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context

from services.orchestrator.background import Background

who: ContextVar[str] = ContextVar("who", default="")


async def test_work_beyond_the_bound_is_dropped_and_counted_by_kind() -> None:
    told: list[str] = []
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(1)

    background = Background(2, told.append)
    assert [background.spawn("store", work) for _ in range(4)] == [True, True, False, False]
    assert told == ["store", "store"]
    assert background.dropped["store"] == 2
    gate.set()
    assert await background.close(5) == 0
    assert len(done) == 2
    assert background.under_way == 0


async def test_room_is_free_again_when_work_has_ended() -> None:
    background, ended = Background(1), asyncio.Event()

    async def work() -> None:
        ended.set()

    assert background.spawn("store", work)
    await ended.wait()
    await asyncio.sleep(0)
    assert background.spawn("store", work)
    await background.close(5)


async def test_after_closing_nothing_is_taken() -> None:
    background = Background(2)
    await background.close(5)
    assert not background.spawn("store", lambda: asyncio.sleep(0))
    assert background.dropped["store"] == 1


async def test_work_of_calls_that_end_while_closing_begins_is_still_taken() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    background = Background(2)
    asyncio.get_running_loop().call_soon(background.spawn, "store", work)
    await background.close(5)
    assert done == [1]


async def test_work_that_does_not_end_in_time_is_cancelled() -> None:
    background = Background(2)
    background.spawn("store", asyncio.Event().wait)  # type: ignore[arg-type]
    assert await background.close(0.01) == 1
    assert background.under_way == 0


async def test_work_that_fails_hurts_nobody() -> None:
    async def fail() -> None:
        raise ValueError("not shown")

    background = Background(2)
    background.spawn("store", fail)
    assert await background.close(5) == 0


async def test_work_runs_in_the_context_it_was_given() -> None:
    seen: list[str] = []

    async def look() -> None:
        seen.append(who.get())

    who.set("the request")
    context = copy_context()
    who.set("someone else")
    background = Background(2)
    background.spawn("store", look, context=context)
    await background.close(5)
    assert seen == ["the request"]
