"""Steps whose reply waits for a replica, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.orchestrator.guarded_redis import COPY_PAUSE_S, FAILURES_MAX, PAUSE_S, GuardedRedis, RedisGoneError
from services.runtime.clock import Clock, FakeClock, SystemClock
from tests.support.jobs_parts import WELL_S, redis_client
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer

WRITE = "return redis.call('INCR', KEYS[1])"


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
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    made: Redis = redis_client(redis_server.url)
    yield made
    await made.aclose()


def guarded(client: Redis, clock: Clock | None = None, *, timeout_s: float = WELL_S) -> GuardedRedis:
    return GuardedRedis(client, timeout_s=timeout_s, clock=clock or SystemClock(), copied=True)


def value(server: RedisServer) -> bytes | None:
    with server.client() as client:
        found: bytes | None = client.get("n")
        return found


def calls(server: RedisServer, command: str) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_what_was_replied_to_is_in_the_replica(replica: RedisServer, client: Redis) -> None:
    guard = guarded(client)
    script = guard.script(WRITE)
    for count in range(1, 51):
        assert await guard.run(script, ["n"], []) == count
        assert value(replica) == str(count).encode()


async def test_without_a_replica_it_is_replied_all_the_same_and_none_is_waited_for_until_a_pause_is_over(
    redis_server: RedisServer, client: Redis
) -> None:
    clock = FakeClock()
    guard = guarded(client, clock, timeout_s=1.0)
    script = guard.script(WRITE)
    assert [await guard.run(script, ["n"], []) for _ in range(3)] == [1, 2, 3]
    assert calls(redis_server, "wait") == 2, "of EVALSHA, and of the EVAL that it did not know"
    clock.advance(COPY_PAUSE_S)
    assert await guard.run(script, ["n"], []) == 4
    assert calls(redis_server, "wait") == 3


async def test_the_call_that_finds_out_whether_redis_is_back_waits_for_no_replica(
    redis_server: RedisServer, client: Redis
) -> None:
    clock = FakeClock()
    guard = guarded(client, clock)
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
    redis_server: RedisServer, client: Redis
) -> None:
    guard = guarded(client)
    script = guard.script(WRITE)
    for count in (1, 2):
        with redis_server.client() as other:
            other.script_flush()
        assert await guard.run(script, ["n"], []) == count


async def test_an_error_of_a_script_repeats_none_of_its_arguments(client: Redis) -> None:
    guard = guarded(client)
    script = guard.script("return redis.call('INCR', KEYS[1], ARGV[1])")
    with pytest.raises(RedisGoneError) as caught:
        await guard.run(script, ["n"], ["a secret"])
    assert "secret" not in str(caught.value)


async def test_calls_at_once_get_their_own_replies(replica: RedisServer, client: Redis) -> None:
    guard = guarded(client)
    script = guard.script("return {redis.call('INCR', KEYS[1]), ARGV[1]}")
    replies = await asyncio.gather(*(guard.run(script, ["n"], [number]) for number in range(100)))
    assert [int(reply[1]) for reply in replies] == list(range(100))
    assert sorted(reply[0] for reply in replies) == list(range(1, 101))
    assert value(replica) == b"100"
