"""What every store of drops promises: one suite, for the one in memory and for a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from redis.crc import key_slot

from services.orchestrator.canary.drift import BLOCK_GRADES, BLOCKS_KEPT, OVERALL, STREAMS, UNITS, Tally
from services.orchestrator.canary.drift_store import Drift, DriftStore, MemoryDrift
from services.orchestrator.canary.drift_store_redis import LEVELS_KEY, RedisDrift
from services.orchestrator.guarded_redis import FAILURES_MAX, PAUSE_S, connect
from services.runtime.clock import Clock, FakeClock, SystemClock
from spillway.routing import TaskType
from tests.support.redis_server import RedisServer

WELL_S = 10.0


def drift_at(url: str, *, timeout_s: float = WELL_S, clock: Clock | None = None) -> RedisDrift:
    client = connect(url, password="", timeout_s=timeout_s)
    return RedisDrift(client, timeout_s=timeout_s, clock=clock or SystemClock())


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[DriftStore]:
    made: DriftStore = MemoryDrift()
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        made = drift_at(server.url)
    made.compare("flagship", "judge")
    yield made
    await made.close()


async def known(store: DriftStore) -> Drift:
    drift = await store.read()
    assert drift is not None
    return drift


async def added(store: DriftStore, kind: TaskType, drop_units: int) -> Drift:
    drift = await store.add(kind, drop_units)
    assert drift is not None
    return drift


async def test_nothing_is_known_at_first(store: DriftStore) -> None:
    drift = await known(store)
    assert drift.tallies == dict.fromkeys(STREAMS, Tally())
    assert drift.levels == {}


async def test_a_drop_counts_for_its_kind_of_work_and_for_all(store: DriftStore) -> None:
    await added(store, TaskType.CODE, 3)
    drift = await added(store, TaskType.MATH, -UNITS)
    assert drift.tallies == {"math": Tally().add(-UNITS), OVERALL: Tally().add(3).add(-UNITS)}
    assert (await known(store)).tallies["code"] == Tally().add(3)


async def test_tallies_are_those_of_the_drops_in_their_order_also_when_old_ones_are_put_together(
    store: DriftStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("drift", "drift_store_redis"):
        monkeypatch.setattr(f"services.orchestrator.canary.{module}.BLOCK_GRADES", 4)
        monkeypatch.setattr(f"services.orchestrator.canary.{module}.BLOCKS_KEPT", 3)
    random, expected = Random(1), Tally()
    for _ in range(40):
        drop = random.randint(-UNITS, UNITS)
        expected = expected.add(drop)
        assert (await added(store, TaskType.CODE, drop)).tallies["code"] == expected
    assert len(expected.blocks) == 3
    assert sum(expected.older) == 28


async def test_a_drop_that_cannot_be_is_refused_and_counts_nowhere(store: DriftStore) -> None:
    with pytest.raises(ValueError, match="between"):
        await store.add(TaskType.CODE, UNITS + 1)
    assert (await known(store)).tallies[OVERALL].grades == 0


async def test_drops_that_come_at_once_all_count(store: DriftStore) -> None:
    await asyncio.gather(*(store.add(TaskType.CODE, index % 3) for index in range(60)))
    drift = await known(store)
    assert drift.tallies["code"].counts == drift.tallies[OVERALL].counts
    assert drift.tallies["code"].counts[UNITS : UNITS + 3] == (20, 20, 20)


async def test_beginning_anew_empties_the_streams_and_raises_the_levels_at_once(store: DriftStore) -> None:
    await added(store, TaskType.CODE, 1)
    await added(store, TaskType.MATH, 1)
    drift = await store.begin_anew("code", 0, also={OVERALL}, tightened=[TaskType.CODE])
    assert drift is not None
    assert (drift.tallies["code"], drift.tallies[OVERALL]) == (Tally(era=1), Tally(era=1))
    assert drift.tallies["math"].grades == 1
    assert drift.levels == {TaskType.CODE: 1}
    assert drift == await known(store)
    assert (await added(store, TaskType.CODE, 2)).tallies["code"] == Tally(era=1).add(2)


async def test_who_is_second_to_begin_anew_changes_nothing(store: DriftStore) -> None:
    await added(store, TaskType.CODE, 1)
    found = await asyncio.gather(*(store.begin_anew("code", 0, tightened=[TaskType.CODE]) for _ in range(5)))
    assert [bool(drift and drift.tallies) for drift in found].count(True) == 1
    assert all(drift is not None and drift.levels == {TaskType.CODE: 1} for drift in found)
    assert (await known(store)).tallies["code"] == Tally(era=1)


async def test_another_comparison_is_counted_apart_and_levels_stay(store: DriftStore) -> None:
    await added(store, TaskType.CODE, 1)
    await store.begin_anew("math", 0, tightened=[TaskType.MATH])
    store.compare("flagship", "another judge")
    drift = await known(store)
    assert (drift.tallies["code"], drift.levels) == (Tally(), {TaskType.MATH: 1})
    store.compare("flagship", "another judge")
    await added(store, TaskType.CODE, 1)
    store.compare("flagship", "another judge")
    assert (await known(store)).tallies["code"].grades == 1


async def test_replicas_share_one_count(redis_server: RedisServer) -> None:
    one, other = (drift_at(redis_server.url) for _ in range(2))
    await added(one, TaskType.CODE, 1)
    assert (await added(other, TaskType.CODE, 2)).tallies["code"] == Tally().add(1).add(2)
    await one.close()
    await other.close()


async def test_a_level_is_lowered_by_deleting_its_field(redis_server: RedisServer) -> None:
    store = drift_at(redis_server.url)
    await store.begin_anew("code", 0, tightened=[TaskType.CODE, TaskType.MATH])
    with redis_server.client() as client:
        assert client.hdel(LEVELS_KEY, "code") == 1
    assert (await known(store)).levels == {TaskType.MATH: 1}
    await store.close()


async def test_all_keys_lie_in_one_slot_and_foreign_fields_are_left_out(redis_server: RedisServer) -> None:
    store = drift_at(redis_server.url)
    await store.begin_anew("code", 0, tightened=[TaskType.CODE])
    await added(store, TaskType.CODE, 1)
    with redis_server.client() as client:
        keys = [key.decode() for key in client.scan_iter()]
        assert all("{drift}" in key for key in keys)
        assert {key_slot(key.encode()) for key in keys} == {key_slot(b"drift")}
        client.hset(LEVELS_KEY, mapping={"astrology": "3", "math": "many"})
        client.hset(
            next(key for key in keys if key.endswith(":code")), mapping={"0:99": "1", "x:1": "1", "o:\xff": "a"}
        )
    drift = await known(store)
    assert (drift.levels, drift.tallies["code"]) == ({TaskType.CODE: 1}, Tally(era=1).add(1))
    await store.close()


async def test_a_redis_that_hangs_or_is_gone_is_done_without_and_left_alone_for_a_moment(
    redis_server: RedisServer,
) -> None:
    clock = FakeClock()
    store = drift_at(redis_server.url, timeout_s=0.3, clock=clock)
    await added(store, TaskType.CODE, 1)
    redis_server.freeze()
    for _ in range(FAILURES_MAX):
        assert await store.add(TaskType.CODE, 1) is None
    redis_server.thaw()
    assert await store.read() is None  # left alone
    redis_server.kill()
    clock.advance(PAUSE_S)
    assert await store.begin_anew("code", 0) is None
    redis_server.start()
    clock.advance(PAUSE_S)
    assert (await added(store, TaskType.CODE, 1)).tallies["code"].grades == 1
    await store.close()


def test_what_is_kept_is_bounded() -> None:
    assert len(STREAMS) * (BLOCKS_KEPT + 1) * (2 * UNITS + 1) < 25_000
    assert BLOCK_GRADES * BLOCKS_KEPT == 10_000
