"""Steps whose reply waits for a replica, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.orchestrator.guarded_redis import (
    COPY_PAUSE_S,
    FAILURES_MAX,
    PAUSE_S,
    GuardedRedis,
    RedisGoneError,
    connect,
)
from services.runtime.clock import Clock, FakeClock, SystemClock
from services.runtime.redis_client import find_places
from services.runtime.redis_places import LOOKUP_PAUSE_S, RedisPlaces
from tests.support.fake_sentinel import FakeSentinel, fake_sentinels
from tests.support.jobs_parts import WELL_S
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

WRITE = "return redis.call('INCR', KEYS[1])"
TRIES_MAX = 20

Guarded = Callable[..., GuardedRedis]


@pytest.fixture
def replica(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "replica").mkdir()
    server = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis_server.port))
    server.start()
    with redis_server.client() as asking:
        wait_until(lambda: asking.incr("warm") and asking.wait(1, 1_000), what="the replica follows")
    yield server
    server.stop()


@pytest.fixture
async def sentinel(redis_server: RedisServer) -> AsyncIterator[FakeSentinel]:
    async with fake_sentinels(1) as (made,):
        made.place = ("127.0.0.1", redis_server.port)
        yield made


@pytest.fixture
def looking() -> FakeClock:
    """The clock of the lookups: while it stands still the primary is not looked up again."""
    return FakeClock()


@pytest.fixture
async def places(sentinel: FakeSentinel, looking: FakeClock) -> AsyncIterator[RedisPlaces]:
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
    made = find_places(url, setting="some.url", password="", clock=looking)
    assert made is not None
    yield made
    await made.close()


@pytest.fixture
async def client(places: RedisPlaces) -> AsyncIterator[Redis]:
    made = connect(places.url.url, password="", timeout_s=WELL_S, places=places)
    yield made
    await made.aclose()


@pytest.fixture
def guarded(client: Redis, places: RedisPlaces) -> Guarded:
    def guarded(clock: Clock | None = None, *, timeout_s: float = WELL_S) -> GuardedRedis:
        return GuardedRedis(client, timeout_s=timeout_s, clock=clock or SystemClock(), places=places)

    return guarded


def value(server: RedisServer) -> bytes | None:
    with server.client() as client:
        found: bytes | None = client.get("n")
        return found


def waiting(server: RedisServer) -> bool:
    """Whether the server keeps somebody waiting."""
    with server.client() as client:
        return bool(client.info("clients")["blocked_clients"])


def calls(server: RedisServer, command: str) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_what_was_replied_to_is_in_the_replica(replica: RedisServer, guarded: Guarded) -> None:
    guard = guarded()
    script = guard.script(WRITE)
    for count in range(1, 51):
        assert await guard.run(script, ["n"], []) == count
        assert value(replica) == str(count).encode()


async def test_while_the_replica_is_silent_the_reply_is_held_back(
    redis_server: RedisServer, replica: RedisServer, guarded: Guarded
) -> None:
    clock = FakeClock()
    guard = guarded(clock)
    script = guard.script(WRITE)
    assert await guard.run(script, ["n"], []) == 1
    replica.freeze()
    held: asyncio.Task[int] | None = None
    tries = 0
    while held is None and tries < TRIES_MAX:  # it is held for half a second, which a busy machine may sleep through
        tries += 1
        clock.advance(COPY_PAUSE_S)
        step = asyncio.create_task(guard.run(script, ["n"], []))
        while held is None and not step.done():
            await asyncio.sleep(0.01)
            held = step if waiting(redis_server) and not step.done() else None
    replica.thaw()
    assert held is not None, "the primary kept nobody waiting"
    assert await held == 1 + tries
    await until(lambda: value(replica) == str(1 + tries).encode(), what="the replica has it once it goes on")


async def test_when_no_replica_has_it_the_primary_is_looked_up_though_no_call_failed(
    sentinel: FakeSentinel, places: RedisPlaces, looking: FakeClock, guarded: Guarded
) -> None:
    guard = guarded(timeout_s=1.0)
    script = guard.script(WRITE)
    assert await places.place() == sentinel.place
    looking.advance(LOOKUP_PAUSE_S)
    sentinel.place, sentinel.epoch = ("127.0.0.1", 1), 2
    assert await guard.run(script, ["n"], []) == 1
    await until(lambda: places.known() == {sentinel.place}, what="the successor is known")


async def test_without_a_replica_it_is_replied_all_the_same_and_none_is_waited_for_until_a_pause_is_over(
    redis_server: RedisServer, guarded: Guarded
) -> None:
    clock = FakeClock()
    guard = guarded(clock, timeout_s=1.0)
    script = guard.script(WRITE)
    assert [await guard.run(script, ["n"], []) for _ in range(3)] == [1, 2, 3]
    assert calls(redis_server, "wait") == 2, "of EVALSHA, and of the EVAL that it did not know"
    clock.advance(COPY_PAUSE_S)
    assert await guard.run(script, ["n"], []) == 4
    assert calls(redis_server, "wait") == 3


async def test_the_call_that_finds_out_whether_redis_is_back_waits_for_no_replica(
    redis_server: RedisServer, guarded: Guarded
) -> None:
    clock = FakeClock()
    guard = guarded(clock)
    script = guard.script(WRITE)
    redis_server.kill()
    for _ in range(FAILURES_MAX):
        with pytest.raises(RedisGoneError):
            await guard.run(script, ["n"], [])
    redis_server.start()
    clock.advance(PAUSE_S)
    assert await guard.run(script, ["n"], []) == 1
    assert calls(redis_server, "wait") == 0
    assert await guard.run(script, ["n"], []) == 2
    assert calls(redis_server, "wait") == 1


async def test_a_server_that_does_not_know_the_script_is_sent_it_and_runs_it_once(
    redis_server: RedisServer, guarded: Guarded
) -> None:
    guard = guarded()
    script = guard.script(WRITE)
    for count in (1, 2):
        with redis_server.client() as other:
            other.script_flush()
        assert await guard.run(script, ["n"], []) == count


async def test_an_error_of_a_script_repeats_none_of_its_arguments(guarded: Guarded) -> None:
    guard = guarded()
    script = guard.script("return redis.call('INCR', KEYS[1], ARGV[1])")
    with pytest.raises(RedisGoneError) as caught:
        await guard.run(script, ["n"], ["a secret"])
    assert "secret" not in str(caught.value)


async def test_calls_at_once_get_their_own_replies(replica: RedisServer, guarded: Guarded) -> None:
    guard = guarded()
    script = guard.script("return {redis.call('INCR', KEYS[1]), ARGV[1]}")
    replies = await asyncio.gather(*(guard.run(script, ["n"], [number]) for number in range(100)))
    assert [int(reply[1]) for reply in replies] == list(range(100))
    assert sorted(reply[0] for reply in replies) == list(range(1, 101))
    assert value(replica) == b"100"
