"""What is deleted from a file stays deleted: with a full disk, a damaged index, many entries, and callers that left."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.store import answer_store_file
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_file import FREE_BYTES_MAX, PAGE_BYTES
from services.runtime.clock import FakeClock
from tests.support.cache_files import deny, held_up, of_tenant, on_the_disk, put_all, served
from tests.support.cache_parts import entry, file_store

PART = 10
TENANT = Selector(tenant="many")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_store_file, "DELETED_PER_COMMIT_MAX", PART)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_change_that_was_committed_counts_though_no_space_can_be_given_back(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 80, text="x" * 100_000))
        await on_the_disk(store, deny(sqlite3.SQLITE_PRAGMA, "incremental_vacuum"))
        assert await store.delete(keys[1:]) == 79
        assert await on_the_disk(store, lambda file: file.execute("PRAGMA freelist_count").fetchone()[0]) > (
            FREE_BYTES_MAX // PAGE_BYTES
        )
        late = entry("late", now_unix_s=clock.unix(), scope=Scope("many"))
        assert await store.put(late)
        assert len(store) == 2
        assert await store.invalidate(TENANT) == 2
    async with file_store(path, clock) as store:
        assert len(store) == 0


async def test_no_flipped_bit_of_a_key_brings_an_invalidated_answer_back(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 16))
    whole = path.read_bytes()  # noqa: ASYNC240
    places = [at for key in keys for at in range(len(whole)) if whole.startswith(key.encode(), at)]
    assert len(places) == len(keys)
    for place in places:
        damaged = bytearray(whole)
        damaged[place + 63] ^= 1
        path.write_bytes(damaged)  # noqa: ASYNC240
        async with file_store(path, clock) as store:
            assert await served(store, keys) == len(keys) - 1
            await store.invalidate(TENANT)
        async with file_store(path, clock) as store:
            assert len(store) == 0, f"bit at {place}"


@pytest.mark.parametrize("change", ["row = row + 1000", "key = 'another'"])
async def test_a_deletion_of_a_row_that_is_not_where_it_was_is_no_success(path: Path, change: str) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 3))
        await on_the_disk(
            store, lambda file: file.execute(f"UPDATE entries SET {change} WHERE key = ?", (keys[1],)).fetchall()
        )
        for delete in (store.delete(keys), store.invalidate(TENANT)):
            with pytest.raises(StoreUnavailableError):
                await delete
        assert await served(store, keys) == 3
        with pytest.raises(StoreUnavailableError):
            await store.put(of_tenant(clock, 2, text="anew")[1])
        assert await store.delete([keys[0], keys[2]]) == 2


async def test_what_expired_can_be_put_and_deleted_when_the_clock_was_put_back(path: Path) -> None:
    clock = FakeClock()
    short = entry("short", now_unix_s=clock.unix(), ttl_s=5.0)
    async with file_store(path, clock) as store:
        await store.put(short)
        clock.advance(6.0)
        await store.delete([])
        clock._unix_offset -= 6.0
        assert await store.get_many([short.key]) == [None]
        assert await store.delete([short.key]) == 0
        assert await store.put(short)
        assert await store.delete([short.key]) == 1
    async with file_store(path, clock) as store:
        assert len(store) == 0


@pytest.mark.parametrize("is_there_before", [False, True])
async def test_a_refused_put_whose_frames_reached_the_disk_does_not_outlive_what_invalidates_it(
    path: Path, is_there_before: bool
) -> None:
    """A sync that fails after everything was written: the log has the whole transaction, and SQLite goes on as if it
    had not. The frames are those that another process wrote into a copy."""
    clock = FakeClock()
    old, refused = (entry("refused", now_unix_s=clock.unix(), scope=Scope("many"), text=text) for text in "12")
    other = entry("other", now_unix_s=clock.unix(), scope=Scope("other"))
    log, crashed, copy = path.with_name(path.name + "-wal"), path.with_name("crashed"), path.with_name("copy")
    async with file_store(path, clock) as store:
        for each in (other, *([old] if is_there_before else [])):
            await store.put(each)
        known = len(log.read_bytes())
        as_if_dead(path, copy)
        async with file_store(copy, clock) as another:
            await another.put(refused)
            as_if_dead(copy, crashed)
        frames = crashed.with_name("crashed-wal").read_bytes()
        async with file_store(crashed, clock) as again:
            assert await again.get_many([refused.key]) == [refused]

        await on_the_disk(store, deny(sqlite3.SQLITE_INSERT))
        with pytest.raises(StoreUnavailableError):
            await store.put(refused)
        await on_the_disk(store, lambda connection: connection.set_authorizer(None))
        assert len(log.read_bytes()) == known < len(frames)
        log.write_bytes(log.read_bytes() + frames[known:])
        assert await store.get_many([refused.key]) == [old if is_there_before else None]
        await store.invalidate(TENANT)
        as_if_dead(path, crashed)
    async with file_store(crashed, clock) as store:
        assert await store.get_many([refused.key, other.key]) == [None, other]


def as_if_dead(path: Path, copy: Path) -> None:
    """What a death would leave, under another name."""
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))


@pytest.mark.usefixtures("small_parts")
async def test_a_large_invalidation_takes_everything(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 3 * PART + 1))
        other = entry("other", now_unix_s=clock.unix(), scope=Scope("other"))
        await store.put(other)
        assert await store.invalidate(TENANT) == 3 * PART + 1
        assert len(store) == 1
    async with file_store(path, clock) as store:
        assert len(store) == 1


@pytest.mark.usefixtures("small_parts")
async def test_an_invalidation_holds_until_the_disk_has_all_of_it_though_its_caller_left(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 5 * PART))
        with held_up(store):
            caller = asyncio.create_task(store.invalidate(TENANT))
            await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait({caller})
            assert caller.cancelled()
            assert await served(store, keys) == 0
        most = 0
        while len(store):
            most = max(most, await served(store, keys))
            await asyncio.sleep(0)
        assert most == 0
    async with file_store(path, clock) as store:
        assert len(store) == 0


@pytest.mark.usefixtures("small_parts")
async def test_an_invalidation_that_takes_too_long_is_unavailable_and_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 2 * PART))
        monkeypatch.setattr(answer_store_file, "WRITE_S_MAX", 0.001)
        with held_up(store):
            with pytest.raises(StoreUnavailableError):
                await store.invalidate(TENANT)
            assert await served(store, keys) == 0
        await until(lambda: not len(store))
        assert await served(store, keys) == 0


@pytest.mark.usefixtures("small_parts")
async def test_the_changes_of_others_go_between_the_parts_of_an_invalidation(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 5 * PART))
        with held_up(store):
            invalidating = await begun(store, store.invalidate(TENANT))
            again = of_tenant(clock, 5 * PART, text="anew")[-1]
            putting = asyncio.create_task(store.put(again))
            await asyncio.sleep(0)
        assert await putting
        assert not invalidating.done()
        assert await invalidating == 5 * PART - 1
        assert await store.get_many(keys) == [*[None] * (5 * PART - 1), again]
    async with file_store(path, clock) as store:
        assert await store.get_many(keys) == [*[None] * (5 * PART - 1), again]


async def begun(store: FileStore, invalidating: Awaitable[int]) -> asyncio.Future[int]:
    """The first part is on its way to the disk."""
    task = asyncio.ensure_future(invalidating)
    await until(lambda: bool(store._writer._writing))
    return task


@pytest.mark.usefixtures("small_parts")
async def test_what_a_disk_refuses_to_delete_is_served_again_and_its_caller_knows(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 2 * PART))
        await on_the_disk(store, deny(sqlite3.SQLITE_DELETE))
        with pytest.raises(StoreUnavailableError):
            await store.invalidate(TENANT)
        assert await served(store, keys) == 2 * PART
        await on_the_disk(store, lambda connection: connection.set_authorizer(None))
        assert await store.invalidate(TENANT) == 2 * PART


@pytest.mark.usefixtures("small_parts")
async def test_the_end_of_the_store_waits_for_no_more_than_the_part_that_is_written(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 5 * PART))
        with held_up(store):
            invalidating = await begun(store, store.invalidate(TENANT))
            closing = asyncio.create_task(store._writer.close())
            await asyncio.sleep(0)
        await closing
        with pytest.raises(StoreUnavailableError):
            await invalidating
    async with file_store(path, clock) as store:
        assert len(store) == 4 * PART


async def test_too_many_invalidations_are_refused_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_store_file, "INVALIDATIONS_MAX", 2)
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 3))
        with held_up(store):
            both = [asyncio.create_task(store.invalidate(Selector(entry_key=key))) for key in keys[:2]]
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailableError):
                await store.invalidate(Selector(entry_key=keys[2]))
            assert await served(store, keys) == 1
        assert await asyncio.gather(*both) == [1, 1]
        assert await store.invalidate(Selector(entry_key=keys[2])) == 1
