"""A clock that moves only when told to, and the system's, behind one protocol."""

from __future__ import annotations

import asyncio

import pytest

from services.runtime.clock import Clock, FakeClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
async def test_a_sleep_of_nothing_lets_others_run(clock: Clock) -> None:
    ran = []
    task = asyncio.create_task(asyncio.sleep(0, result=None))
    task.add_done_callback(lambda _: ran.append(True))
    for _ in range(3):
        await clock.sleep(-1)
    assert ran
    assert clock.monotonic() <= clock.monotonic()
    assert clock.unix() > 1_600_000_000


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock, woken = FakeClock(), list[str]()

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(f"{name}@{clock.monotonic():g}")

    tasks = [asyncio.create_task(sleep(*one)) for one in (("late", 3.0), ("early", 1.0), ("same", 1.0))]
    await asyncio.sleep(0)
    assert clock.sleepers == 3
    clock.advance(0.5)
    await asyncio.sleep(0)
    assert woken == []
    clock.advance(0.5)
    await asyncio.sleep(0)
    assert woken == ["early@1", "same@1"]
    clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken[-1] == "late@11"
    assert clock.sleepers == 0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleepers == 0
    clock.advance(2)


def test_both_times_move_together_and_never_back() -> None:
    clock = FakeClock(monotonic=5, unix=1_000)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.unix()) == (7.5, 1_002.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
