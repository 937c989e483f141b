"""Several configurations at work at once: who is served by which, and when connections are closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from services.executor.execution import Executor
from services.executor.generations import KEEP_S, KEPT_MAX, Client, Generation, Generations
from services.executor.providers.provider import FakeProvider
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from tests.unit.executor.builders import settings


class Connections(FakeProvider):
    """Connections that know whether they were closed."""

    def __init__(self) -> None:
        super().__init__({})
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


def client() -> Client:
    return Client(("place",), Connections())


def closed(one: Client) -> int:
    return cast("Connections", one.provider).closed


def generation(version: str, **clients: Client) -> Generation:
    return Generation(version, cast("Executor", None), TargetPool(settings(), random=lambda: 0.5), clients)


async def settled(clock: FakeClock, seconds: float = 0.0) -> None:
    """Lets tasks begin, time pass, and tasks end."""
    for step_s in (0.0, seconds, 0.0):
        clock.advance(step_s)
        for _ in range(5):
            await asyncio.sleep(0)


async def serves(subject: Generations, version: str) -> str:
    async with subject.of(version) as found:
        return found.version


async def test_what_began_with_one_configuration_ends_with_it() -> None:
    clock, connections = FakeClock(), client()
    subject = Generations(generation("a", p=connections), clock)
    async with subject.of("") as begun:
        subject.exchange(generation("b", p=client()))
        assert await serves(subject, "") == "b"
        await settled(clock, 2 * KEEP_S)
        assert begun.version == "a"
        assert closed(connections) == 0
    await settled(clock)
    assert closed(connections) == 1


async def test_a_plan_is_run_by_the_version_that_made_it_while_that_is_kept() -> None:
    clock = FakeClock()
    subject = Generations(generation("a"), clock)
    subject.exchange(generation("b"))
    assert [await serves(subject, version) for version in ("a", "b", "unknown", "")] == ["a", "b", "b", "b"]
    await settled(clock, KEEP_S)
    assert await serves(subject, "a") == "b"


async def test_connections_that_the_next_configuration_shares_stay_open() -> None:
    clock, shared, dropped = FakeClock(), client(), client()
    subject = Generations(generation("a", p=shared, q=dropped), clock)
    subject.exchange(generation("b", p=shared))
    await settled(clock, KEEP_S)
    assert (closed(shared), closed(dropped)) == (0, 1)
    await subject.close()
    assert (closed(shared), closed(dropped)) == (1, 1)


async def test_only_so_many_are_kept_however_fast_they_change() -> None:
    clock, clients = FakeClock(), [client() for _ in range(20)]
    subject = Generations(generation("0", p=clients[0]), clock)
    for number in range(1, 20):
        subject.exchange(generation(str(number), p=clients[number]))
    await settled(clock)
    assert [closed(one) for one in clients] == [1] * (20 - KEPT_MAX) + [0] * KEPT_MAX
    await subject.close()
    assert [closed(one) for one in clients] == [1] * 20


async def test_the_same_version_again_takes_the_place_of_the_one_before() -> None:
    clock, old, new = FakeClock(), client(), client()
    subject = Generations(generation("a", p=old), clock)
    subject.exchange(generation("a", p=new))
    await settled(clock)
    assert (closed(old), closed(new)) == (1, 0)
    async with subject.of("a") as found:
        assert found.clients == {"p": new}
    await settled(clock, 2 * KEEP_S)
    assert await serves(subject, "a") == "a"
    assert closed(new) == 0


async def test_going_back_and_forth_closes_nothing_that_is_in_use() -> None:
    clock, first, second = FakeClock(), client(), client()
    subject = Generations(generation("a", p=first), clock)
    for _ in range(10):
        subject.exchange(generation("b", p=second))
        await settled(clock, KEEP_S / 7)
        subject.exchange(generation("a", p=first))
        await settled(clock, KEEP_S / 7)
        assert closed(first) == 0
    await subject.close()
    assert closed(first) == 1


async def test_the_file_is_looked_at_for_a_version_that_is_not_here() -> None:
    subject = Generations(generation("a"), FakeClock())
    asked: list[str] = []

    async def look_for(version: str) -> None:
        asked.append(version)
        if version == "b":
            subject.exchange(generation("b"))

    subject.look_for = look_for
    assert [await serves(subject, version) for version in ("a", "", "b", "c")] == ["a", "a", "b", "b"]
    assert asked == ["b", "c"]
    await subject.close()


async def test_an_execution_that_fails_is_counted_off() -> None:
    clock, connections = FakeClock(), client()
    subject = Generations(generation("a", p=connections), clock)

    async def failing() -> Any:
        async with subject.of("a"):
            subject.exchange(generation("b"))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await failing()
    await settled(clock, KEEP_S)
    assert closed(connections) == 1


def test_connections_do_not_show_their_key() -> None:
    assert "secret" not in repr(Client(("openai", "secret"), Connections()))
