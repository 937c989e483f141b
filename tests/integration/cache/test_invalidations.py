"""Invalidation on a shared Redis: one write, at once and everywhere, whatever becomes of the bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.index.follower import Follower, Snapshots
from services.cache.index.vector_index import VectorIndex
from services.cache.partition import tenant_bucket
from services.cache.store import answer_store_redis, redis_sweep
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_names import Names
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

NAMES = Names(1)


@contextlib.asynccontextmanager
async def store_at(
    server: RedisServer, password: str = "", *, clock: SystemClock | None = None
) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, password=password, timeout_s=10.0, clock=clock or SystemClock())
    try:
        yield store
    finally:
        await store.close()


async def test_it_holds_although_no_body_was_deleted(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_sweep, "SWEEPS_MAX", 0)
    async with store_at(redis_server) as one, store_at(redis_server) as two:
        old = entry("old", scope=Scope("acme", "shop"), now_unix_s=SystemClock().unix())
        other = entry("old", scope=Scope("acme", "help"), now_unix_s=SystemClock().unix())
        await one.put(old)
        await one.put(other)
        assert await two.get_many([old.key]) == [old]
        assert await one.invalidate(Selector(tenant="acme", namespace="shop")) == 0
        with redis_server.client() as client:
            assert client.exists(NAMES.entry(old.key))
        for store in (one, two):
            assert await store.get_many([old.key, other.key]) == [None, other]
            assert await store.find(Selector(tenant="acme")) == [other.key]
        await two.put(old)
        assert await one.get_many([old.key]) == [old]


async def test_a_lost_history_makes_misses_and_nothing_stale(redis_server: RedisServer) -> None:
    """A Redis that evicts keys without expiry would otherwise bring back what was invalidated."""
    async with store_at(redis_server) as store:
        put = entry("q", now_unix_s=SystemClock().unix())
        await store.put(put)
        with redis_server.client() as client:
            client.delete(NAMES.history(tenant_bucket("acme")))
        assert await store.get_many([put.key]) == [None]
        later = entry("later", now_unix_s=SystemClock().unix())
        await store.put(later)
        assert await store.get_many([put.key, later.key]) == [None, later]


async def test_too_many_rules_forget_the_bucket_and_are_bounded(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store_redis, "BUCKET_RULES_MAX", 3)
    async with store_at(redis_server) as store:
        put = entry("q", now_unix_s=SystemClock().unix())
        await store.put(put)
        for number in range(3):
            await store.invalidate(Selector(tenant="acme", tag=f"tag {number}"))
        assert await store.get_many([put.key]) == [put]
        await store.invalidate(Selector(tenant="acme", tag="one too many"))
        assert await store.get_many([put.key]) == [None]
        with redis_server.client() as client:
            assert int(client.hlen(NAMES.history(tenant_bucket("acme")))) == 6
        await store.put(put)
        assert await store.get_many([put.key]) == [put]


async def test_no_prompt_is_part_of_a_key(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:
        await store.put(entry("the secret question", scope=Scope("acme-tenant"), now_unix_s=SystemClock().unix()))
        await store.invalidate(Selector(tenant="acme-tenant", tag="secret"))
        with redis_server.client() as client:
            keys = b" ".join(client.keys("*"))
            members = b" ".join(client.zrange(NAMES.entries(0), 0, -1))
        assert b"secret" not in keys + members
        assert b"acme" not in keys + members


async def test_a_replica_that_comes_back_goes_on_from_its_snapshot(redis_server: RedisServer, tmp_path: Path) -> None:
    now = SystemClock().unix()
    kept, removed, later = (entry(name, now_unix_s=now) for name in ("kept", "removed", "later"))
    with ThreadPoolExecutor(1) as threads:
        snapshots = Snapshots(tmp_path / "index", threads)
        async with store_at(redis_server) as store:
            await store.put(kept)
            await store.put(removed)
            follower = Follower(store, VectorIndex(entries_max=10), clock=SystemClock(), snapshots=snapshots)
            await follower.start()
            await until(lambda: _knows_position(follower), what="a position is known")
            await follower.close()
            await store.delete([removed.key])
            await store.put(later)
            with redis_server.client() as client:
                client.delete(NAMES.entries(0))  # what would be read if everything was loaded anew
            index = VectorIndex(entries_max=10)
            again = Follower(store, index, clock=SystemClock(), snapshots=snapshots)
            await again.start()
            assert len(index) == 2
            assert index.remove(kept.key)
            assert index.remove(later.key)
            await again.close()


async def _knows_position(follower: Follower) -> bool:
    return bool(follower._position)


async def test_a_wrong_password_is_a_store_that_is_away(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right")
    server.start()
    try:
        async with store_at(server, "wrong") as store:
            with pytest.raises(StoreUnavailableError):
                await store.get_many(["0" * 68])
        async with store_at(server, "right") as store:
            assert await store.get_many(["0" * 68]) == [None]
    finally:
        server.stop()


async def test_a_replica_of_redis_is_not_asked(redis_server: RedisServer, tmp_path: Path) -> None:
    follower = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port))
    follower.start()
    try:
        async with store_at(follower) as store:
            with pytest.raises(StoreUnavailableError):
                await store.get_many(["0" * 68])
    finally:
        follower.stop()


async def test_a_primary_that_is_made_a_replica_serves_nothing_over_the_connections_that_it_keeps(
    redis_server: RedisServer,
) -> None:
    put = entry("q", now_unix_s=SystemClock().unix())
    async with store_at(redis_server) as store:
        await store.put(put)
        assert await store.get_many([put.key]) == [put]
        with redis_server.client() as client:
            before = client.info("stats")["total_connections_received"]
            client.replicaof("127.0.0.1", "1")
            for ask in (store.get_many, store.get_questions):
                with pytest.raises(StoreUnavailableError):
                    await ask([put.key])
                assert client.info("stats")["total_connections_received"] == before, "it was asked over an old one"
            client.replicaof("NO", "ONE")


async def test_a_put_under_way_when_another_replica_invalidates_or_the_history_is_lost_is_not_kept(
    redis_server: RedisServer,
) -> None:
    async with store_at(redis_server) as one, store_at(redis_server) as two:
        put = entry("q", now_unix_s=SystemClock().unix())
        since = await one.moment(put.key)
        await two.invalidate(Selector(tenant="acme"))
        assert not await one.put(put, since=since)
        since = await one.moment(put.key)
        await two.invalidate(Selector(entry_key=put.key))
        assert not await one.put(put, since=since)
        since = await one.moment(put.key)
        with redis_server.client() as client:
            client.delete(NAMES.history(tenant_bucket("acme")))
        assert not await one.put(put, since=since)
        with redis_server.client() as client:
            assert not client.exists(NAMES.entry(put.key))
            assert not client.zcard(NAMES.entries(0))


async def test_a_put_under_way_when_a_bucket_forgets_its_rules_is_not_kept(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store_redis, "BUCKET_RULES_MAX", 1)
    async with store_at(redis_server) as store:
        put = entry("q", now_unix_s=SystemClock().unix())
        since = await store.moment(put.key)
        await store.invalidate(Selector(tenant="acme"))
        await store.invalidate(Selector(tenant="acme", tag="another"))
        assert not await store.put(put, since=since)
        assert await store.put(put, since=await store.moment(put.key))


async def test_a_bucket_with_all_the_rules_it_may_have_takes_one_of_them_again_and_forgets_nothing(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store_redis, "BUCKET_RULES_MAX", 3)
    async with store_at(redis_server) as store:
        put = entry("q", tags=("red",), now_unix_s=SystemClock().unix())
        await store.put(put)
        for tag in ("a", "b", "c", "a", "c"):
            await store.invalidate(Selector(tenant="acme", tag=tag))
        assert await store.get_many([put.key]) == [put]
        await store.invalidate(Selector(tenant="acme", tag="d"))
        assert await store.get_many([put.key]) == [None]


async def test_a_deletion_of_an_era_that_is_over_turns_nothing_away(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:
        put = entry("q", now_unix_s=SystemClock().unix())
        for _ in range(3):
            await store.invalidate(Selector(entry_key=put.key))
        with redis_server.client() as client:
            client.delete(NAMES.history(tenant_bucket("acme")))
        assert await store.put(put, since=await store.moment(put.key))


@pytest.mark.parametrize("again", [0, 1])
async def test_a_count_of_deletions_that_was_lost_turns_away_what_began_before_and_nothing_later(
    redis_server: RedisServer, again: int
) -> None:
    async with store_at(redis_server) as store:
        put = entry("q", now_unix_s=SystemClock().unix())
        first = await store.moment(put.key)
        for _ in range(3):
            await store.invalidate(Selector(entry_key=put.key))
        second = await store.moment(put.key)
        with redis_server.client() as client:
            client.hdel(NAMES.history(tenant_bucket("acme")), "deletions")
        for _ in range(again):
            await store.invalidate(Selector(entry_key=put.key))
        for since in (first, second):
            assert not await store.put(put, since=since)
        assert await store.put(put, since=await store.moment(put.key))


async def test_puts_are_kept_while_others_delete_and_invalidate_in_the_same_tenant(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:

        async def disturb(number: int) -> None:
            for turn in range(20):
                await store.invalidate(Selector(entry_key=f"{tenant_bucket('acme')}{number:04}{turn:04}"))

        async def keep(number: int) -> bool:
            put = entry(f"q{number}", now_unix_s=SystemClock().unix())
            return await store.put(put, since=await store.moment(put.key))

        disturbing = [asyncio.create_task(disturb(number)) for number in range(8)]
        kept = [await keep(number) for number in range(50)]
        await asyncio.gather(*disturbing)
        assert all(kept)


class LaterClock(SystemClock):
    """The real one, so many minutes later."""

    def __init__(self, minutes: float) -> None:
        self._passed_s = 60.0 * minutes

    def unix(self) -> float:
        return super().unix() + self._passed_s


@pytest.mark.parametrize("minutes", [-120, 0, 30])
@pytest.mark.parametrize("key", ["its own", "another"])
async def test_of_an_answer_that_was_on_its_way_only_the_deletion_of_its_own_key_counts_whatever_the_clocks_say(
    redis_server: RedisServer, minutes: int, key: str
) -> None:
    clock = LaterClock(minutes)
    put = entry("q", now_unix_s=SystemClock().unix())
    async with store_at(redis_server) as store, store_at(redis_server, clock=clock) as late:
        _, since = await store.read(put.key)
        await store.invalidate(Selector(entry_key=put.key if key == "its own" else f"{put.key[:-2]}00"))
        with redis_server.client() as client:
            assert {client.ttl(name) for name in client.scan_iter()} == {-1}, "what notes it does not expire"
        assert await late.put(put, since=since) is (key == "another")
        _, since = await store.read(put.key)
        assert await late.put(put, since=since)


async def test_nothing_is_on_its_way_for_longer_than_a_day(redis_server: RedisServer) -> None:
    clock = LaterClock(60 * 25)
    put = entry("q", now_unix_s=clock.unix())
    async with store_at(redis_server) as store, store_at(redis_server, clock=clock) as late:
        assert not await late.put(put, since=await store.moment(put.key))
        assert await late.put(put, since=await late.moment(put.key))


async def test_a_reading_costs_no_more_than_an_entry_once_the_history_is_known(
    redis_server: RedisServer,
) -> None:
    async with store_at(redis_server) as store:
        key = entry("q", now_unix_s=0.0).key
        first = [await store.read(key) for _ in range(2)]
        with redis_server.client() as client:
            before = client.info("commandstats")
            second = await store.read(key)
            after = client.info("commandstats")
        assert {found[1].split()[0] for found in (*first, second)} == {second[1].split()[0]}
        calls = {
            name: stats["calls"] - before.get(name, {"calls": 0})["calls"]
            for name, stats in after.items()
            if name != "cmdstat_info"
        }
        assert {name: count for name, count in calls.items() if count} == {"cmdstat_hmget": 2, "cmdstat_role": 1}
