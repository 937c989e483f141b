"""What every replay store promises: one suite, for the one in memory and the one in a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.orchestrator.replays.presence import Presence
from services.orchestrator.replays.replay_store import Answered, Busy, Conflict, MemoryReplayStore, Owned, ReplayStore
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.runtime.clock import SystemClock
from tests.support.jobs_parts import WELL_S, redis_client
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

LONG_S = 600.0
KEY = "a" * 40 + ":" + "b" * 40


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ReplayStore]:
    if request.param == "memory":
        yield MemoryReplayStore(SystemClock())
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = redis_client(server.url)
    yield RedisReplayStore(client, timeout_s=WELL_S, clock=SystemClock())
    await client.aclose()


async def claim(store: ReplayStore, digest: bytes = b"d", owner: str = "one", lease_s: float = LONG_S) -> object:
    return await store.claim(KEY, digest, owner, lease_s=lease_s, window_s=LONG_S)


async def test_of_two_claims_one_owns_and_the_other_waits(store: ReplayStore) -> None:
    assert await claim(store) == Owned()
    busy = await claim(store, owner="two")
    assert isinstance(busy, Busy)
    assert 0 < busy.remaining_s <= LONG_S


async def test_a_kept_answer_is_what_every_later_claim_gets(store: ReplayStore) -> None:
    await claim(store)
    assert await store.keep(KEY, b"d", b"\0answer", window_s=LONG_S) == b"\0answer"
    assert await claim(store, owner="two") == Answered(b"\0answer")


async def test_the_answer_that_was_kept_first_stays(store: ReplayStore) -> None:
    await claim(store)
    await store.keep(KEY, b"d", b"first", window_s=LONG_S)
    assert await store.keep(KEY, b"d", b"second", window_s=LONG_S) == b"first"
    assert await claim(store) == Answered(b"first")


async def test_another_digest_is_a_conflict_while_owned_answered_and_abandoned(store: ReplayStore) -> None:
    await claim(store)
    assert await claim(store, b"other", "two") == Conflict()
    await store.release(KEY, "one")
    assert await claim(store, b"other", "two") == Conflict()
    await store.keep(KEY, b"d", b"answer", window_s=LONG_S)
    assert await claim(store, b"other", "two") == Conflict()


async def test_what_was_released_is_the_next_ones_and_only_its_owner_releases_it(store: ReplayStore) -> None:
    await claim(store)
    await store.release(KEY, "somebody else")
    assert isinstance(await claim(store, owner="two"), Busy)
    await store.release(KEY, "one")
    assert await claim(store, owner="two") == Owned()


async def test_a_silent_owner_loses_it_when_its_lease_ends(store: ReplayStore) -> None:
    await claim(store, lease_s=0.05)

    async def taken() -> bool:
        return await claim(store, owner="two") == Owned(taken_over=True)

    await until(taken, what="the lease ends")
    assert not await store.renew(KEY, "one", lease_s=LONG_S)


async def test_a_renewed_lease_holds(store: ReplayStore) -> None:
    await claim(store, lease_s=WELL_S)
    assert await store.renew(KEY, "one", lease_s=LONG_S)
    busy = await claim(store, owner="two")
    assert isinstance(busy, Busy)
    assert busy.remaining_s > WELL_S


async def test_nothing_is_left_after_the_window(store: ReplayStore) -> None:
    await claim(store)
    await store.keep(KEY, b"d", b"answer", window_s=0.05)

    async def forgotten() -> bool:
        return await claim(store, b"other", "two") == Owned()

    await until(forgotten, what="the window ends")


async def test_who_waits_for_a_process_that_is_gone_does_not_wait_for_the_end_of_its_lease(
    redis_server: RedisServer,
) -> None:
    first, second = redis_client(redis_server.url), redis_client(redis_server.url)
    presence = Presence(first)
    mine = RedisReplayStore(first, timeout_s=WELL_S, clock=SystemClock(), presence=presence)
    other = RedisReplayStore(second, timeout_s=WELL_S, clock=SystemClock(), presence=Presence(second))

    async def is_there() -> bool:
        with redis_server.client() as looking:
            ((_, count),) = looking.pubsub_numsub(presence.name)
            return int(count) == 1

    presence.begin()
    await until(is_there, what="it is there")
    assert await claim(mine) == Owned()
    for _ in range(3):  # whoever asks, and however often
        assert isinstance(await claim(other, owner="two"), Busy)
    with redis_server.client() as breaking:
        breaking.client_kill_filter(_type="pubsub")
    await until(is_there, what="a broken connection is made anew")
    assert isinstance(await claim(other, owner="two"), Busy)
    await presence.close()
    assert isinstance(await claim(other, owner="two"), Busy), "it may be back at once"

    async def taken() -> bool:
        return await claim(other, owner="two") == Owned(taken_over=True)

    await until(taken, what="the next one takes over")
    assert not await mine.renew(KEY, "one", lease_s=LONG_S)
    for client in (first, second):
        await client.aclose()


async def test_an_owner_whose_process_nobody_knows_keeps_its_lease(redis_server: RedisServer) -> None:
    client = redis_client(redis_server.url)
    unseen = RedisReplayStore(client, timeout_s=WELL_S, clock=SystemClock())
    assert await claim(unseen) == Owned()
    assert isinstance(await claim(unseen, owner="two"), Busy)
    with redis_server.client() as looking:
        (kept,) = looking.keys("spillway:replay:*")
        assert looking.hget(kept, "gone") is None
    await client.aclose()


async def test_the_store_in_memory_is_bounded_in_entries_and_bytes() -> None:
    store = MemoryReplayStore(SystemClock(), entries_max=3, bytes_max=10)
    for i in range(5):
        await store.keep(f"t:{i}", b"d", b"x", window_s=LONG_S)
    assert len(store) == 3
    await store.keep("t:big", b"d", b"x" * 10, window_s=LONG_S)
    assert len(store) == 1
    assert await store.claim("t:big", b"d", "one", lease_s=1, window_s=1) == Answered(b"x" * 10)
