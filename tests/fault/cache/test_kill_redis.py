"""kill -9 in the middle of stores, of Redis (append-only file, fsync every second) and of the cache service before it.

SPILLWAY_KILL_ROUNDS: how many deaths of each; `make fault-cache` has the long form.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from tests.integration.cache.served import config_file
from tests.support.acknowledged import Acknowledged
from tests.support.cache_parts import entry
from tests.support.cache_writers import SCOPE, kill_while_written
from tests.support.processes import Process
from tests.support.redis_server import RedisServer

ROUNDS = int(os.environ.get("SPILLWAY_KILL_ROUNDS", "3"))
SEED = 20_261_123
WRITERS = 8
PUTS_BEFORE_DEATH_MAX = 400
LOSS_S_MAX = 1.0
"""What `appendfsync everysec` may lose, by its documentation."""


@dataclass(slots=True)
class Puts:
    """What was put, each key once, and when it was acknowledged, in monotonic seconds."""

    sent: dict[str, Entry] = field(default_factory=dict)
    acknowledged_at_s: dict[str, float] = field(default_factory=dict)

    def settle(self, found: Mapping[str, Entry], *, died_at_s: float) -> list[str]:
        """Phantoms, and what was lost although it was acknowledged well before the death. What is lost stays so."""
        phantoms = [f"phantom {key}" for key, entry in found.items() if self.sent.get(key) != entry]
        lost = {key: died_at_s - at_s for key, at_s in self.acknowledged_at_s.items() if key not in found}
        for key in lost:
            del self.acknowledged_at_s[key], self.sent[key]
        return phantoms + [f"lost {key}, {age_s:.3f} s old" for key, age_s in lost.items() if age_s > LOSS_S_MAX]


def store_at(server: RedisServer) -> RedisStore:
    return RedisStore(server.url, timeout_s=10.0, clock=SystemClock())


async def write_until_dead(server: RedisServer, puts: Puts, name: str, enough: int) -> float:
    """Puts from several tasks, until Redis is killed after `enough` acknowledged ones; when that was."""
    died_at_s: list[float] = []
    store = store_at(server)

    async def write(writer: int) -> None:
        number = 0
        while not died_at_s:
            number += 1
            scope = Scope(f"tenant {writer}")
            put = entry(f"{name} {writer} {number}", scope=scope, now_unix_s=SystemClock().unix())
            puts.sent[put.key] = put
            try:
                await store.put(put)
            except StoreUnavailableError:
                return
            puts.acknowledged_at_s[put.key] = time.monotonic()
            if len(puts.acknowledged_at_s) >= enough and not died_at_s:
                died_at_s.append(time.monotonic())
                server.kill()

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    await store.close()
    (at_s,) = died_at_s
    return at_s


async def held(server: RedisServer, keys: list[str]) -> dict[str, Entry]:
    """What a lookup can be served; it must be all that the lists tell of, or half a transaction survived."""
    store = store_at(server)
    found = {each.key: each for each in await store.get_many(keys) if each is not None}
    listed = [key for writer in range(WRITERS) for key in await store.find(Selector(tenant=f"tenant {writer}"))]
    await store.close()
    assert sorted(listed) == sorted(found)
    return found


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_a_killed_redis_loses_a_second_at_most_and_invents_nothing(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec")
    puts, rng = Puts(), random.Random(SEED)
    server.start()
    try:
        for round_number in range(ROUNDS):
            enough = len(puts.acknowledged_at_s) + rng.randint(1, PUTS_BEFORE_DEATH_MAX)
            died_at_s = await write_until_dead(server, puts, f"round {round_number}", enough)
            server.start()
            wrong = puts.settle(await held(server, list(puts.sent)), died_at_s=died_at_s)
            assert not wrong, f"seed {SEED}, round {round_number}: {wrong[:5]}"
    finally:
        server.stop()


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_a_killed_service_loses_nothing_that_redis_has(tmp_path: Path, redis_server: RedisServer) -> None:
    checker, rng = Acknowledged(), random.Random(SEED)
    settings = {"store": "redis", "redis_url": redis_server.url, "redis_timeout_s": 10}
    for round_number in range(ROUNDS):
        arguments = ["--config", str(config_file(tmp_path, settings)), "--listen", "127.0.0.1:0"]
        process = Process("services.cache", arguments, {}, tmp_path / "log")
        kill_while_written(process, checker, rng, changes_min=rng.randint(1, PUTS_BEFORE_DEATH_MAX))
        store = store_at(redis_server)
        found = await store.get_many(await store.find(Selector(tenant=SCOPE.tenant)))
        await store.close()
        wrong = checker.settle({each.key: each.answer.message.text for each in found if each is not None})
        assert not wrong, f"seed {SEED}, round {round_number}: {wrong[:5]}"


def test_the_puts_tell_losses_and_phantoms() -> None:
    old, young, other = (entry(name, now_unix_s=0.0) for name in ("old", "young", "other"))

    def settled(*found: tuple[str, Entry]) -> int:
        puts = Puts({old.key: old, young.key: young}, {old.key: 10.0, young.key: 11.5})
        return len(puts.settle(dict(found), died_at_s=12.0))

    assert settled((old.key, old), (young.key, young)) == 0
    assert settled((old.key, old)) == 0
    assert settled((young.key, young)) == 1
    assert settled((old.key, old), (young.key, old), (other.key, other)) == 2
