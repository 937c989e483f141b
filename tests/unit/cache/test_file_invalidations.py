"""Which entries of a file an invalidation takes: those on their way when it began, none that were put after it, and
those that had expired by a clock that is put back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cache.entry import Entry, Scope, Selector
from services.cache.store import answer_store_file, entry_file
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.entry_file import EntryFile, FileStoreError
from services.runtime.clock import FakeClock
from tests.support.cache_files import deny, of_tenant, on_the_disk, put_all
from tests.support.cache_parts import entry, file_store
from tests.support.waiting import until

TENANT = Selector(tenant="many")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def put_back(clock: FakeClock, seconds: float) -> None:
    clock._unix_offset -= seconds


@pytest.mark.parametrize("turn", [0, 1, 2, 5, 20, 39])
async def test_it_takes_every_put_that_began_before_it_and_none_that_began_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    monkeypatch.setattr(MemoryStore, "ENTRIES_PER_TURN_MAX", 2)  # the search gives many turns to others
    monkeypatch.setattr(answer_store_file, "DELETED_PER_COMMIT_MAX", 10)
    clock = FakeClock()
    old, anew = of_tenant(clock, 60), of_tenant(clock, 120, text="anew")
    puts = [each for pair in zip(anew[:20], anew[60:80], strict=True) for each in pair]  # of old keys and of new ones
    async with file_store(path, clock) as store:
        await put_all(store, old)
        tasks: list[asyncio.Future[int] | asyncio.Future[bool]] = []
        for number, put in enumerate(puts):
            if number == turn:
                tasks.append(asyncio.ensure_future(store.invalidate(TENANT)))
            tasks.append(asyncio.ensure_future(store.put(put)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        expected: list[Entry | None] = [*[None] * turn, *puts[turn:]]
        assert await store.get_many([each.key for each in puts]) == expected
        assert len(store) == len(puts) - turn
    async with file_store(path, clock) as store:
        assert await store.get_many([each.key for each in puts]) == expected
        assert len(store) == len(puts) - turn


async def test_it_takes_a_put_that_the_disk_takes_while_its_search_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    late = entry("late", now_unix_s=clock.unix(), scope=Scope("many"))
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 20))
        since, search = await store.moment(late.key), store._memory._matching
        written = asyncio.Event()

        async def slow(selector: Selector, is_meant: Callable[[str], bool]) -> list[str]:
            found = await search(selector, is_meant)
            await written.wait()
            return found

        monkeypatch.setattr(store._memory, "_matching", slow)
        putting = asyncio.create_task(store.put(late, since=since))
        putting.add_done_callback(lambda _: written.set())
        await asyncio.sleep(0)
        await store.invalidate(TENANT)
        assert await putting
        assert len(store) == 0
    async with file_store(path, clock) as store:
        assert len(store) == 0


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had expired before a start stays, as when the process dies before it has left."""
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 0)
    monkeypatch.setattr(entry_file, "ENDED_PER_IDLE_COMMIT_MAX", 0)
    monkeypatch.setattr(EntryFile, "is_tidy", True)


def rows_at(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
    connection.close()
    return int(count)


async def test_it_takes_what_had_expired_before_the_start_when_the_clock_is_put_back(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 30))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        await store.invalidate(TENANT)
    async with file_store(path, clock) as store:
        assert await store.get_many(keys) == [None] * 30


@pytest.mark.usefixtures("lingering")
async def test_it_does_not_wait_for_that_and_none_of_it_comes_back_though_the_process_dies(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 30))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        await store.invalidate(TENANT)
        again = of_tenant(clock, 10, text="anew")
        await put_all(store, again)  # in their places, and they end before what has ended
    for _ in range(2):
        async with file_store(path, clock) as store:
            assert await store.get_many(keys) == [*again, *[None] * 20]
            await store.invalidate(Selector(tenant="another"))


async def test_what_is_put_after_some_of_it_has_left_is_none_of_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 30))
    clock.advance(40_000.0)
    with monkeypatch.context() as patch:  # the process dies before all has left
        patch.setattr(EntryFile, "is_tidy", True)
        patch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 2)
        async with file_store(path, clock) as store:
            await store.invalidate(Selector(tenant="another"))
            assert store._file.expired == 28
        put_back(clock, 40_000.0)
        async with file_store(path, clock) as store:
            fresh = of_tenant(clock, 5, text="anew")
            await put_all(store, fresh)
            assert store._file.expired > 0
    async with file_store(path, clock) as store:
        assert await store.get_many([each.key for each in fresh]) == fresh
        await until(lambda: store._file.expired == 0, what="what was left then has left")
        assert await store.get_many([each.key for each in fresh]) == fresh


async def test_what_it_ended_leaves_the_file_when_nothing_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 2)
    monkeypatch.setattr(entry_file, "ENDED_PER_IDLE_COMMIT_MAX", 7)
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 30))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        assert store._file.expired == 30  # which had to end first
        await store.invalidate(Selector(tenant="another"))

        await until(lambda: store._file.expired == 0, what="all of it has left")
        assert await on_the_disk(store, lambda file: file.execute("SELECT count(*) FROM ended").fetchone()) == (0,)
        assert await on_the_disk(store, lambda file: file.execute("SELECT count(*) FROM entries").fetchone()) == (0,)


@pytest.mark.usefixtures("lingering")
async def test_a_deletion_by_key_ends_nothing_else_that_had_expired(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 3))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        await store.invalidate(Selector(entry_key=keys[1]))
    async with file_store(path, clock) as store:
        assert [found is None for found in await store.get_many(keys)] == [False, True, False]
        assert await store.invalidate(Selector(tenant="another", entry_key=keys[0])) == 0
        assert await store.get_many(keys[:1]) != [None]


@pytest.mark.usefixtures("lingering")
async def test_what_was_ended_at_two_starts_is_over_by_every_clock(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        early = await put_all(store, of_tenant(clock, 3))
        late = of_tenant(clock, 6, ttl_s=9_000.0)[3:]
        await put_all(store, late)
    clock.advance(4_000.0)
    for put_back_s in (0.0, 1_000.0, 3_000.0):  # by the clocks that lag, the early ones live
        put_back(clock, put_back_s)
        async with file_store(path, clock) as store:
            assert await store.get_many([*early, *(each.key for each in late)]) == [None, None, None, *late]
            await store.invalidate(Selector(tenant="another"))
    clock.advance(10_000.0)
    async with file_store(path, clock) as store:
        await store.invalidate(Selector(tenant="another"))
    put_back(clock, 10_000.0)
    async with file_store(path, clock) as store:
        assert await store.get_many([*early, *(each.key for each in late)]) == [None] * 6


@pytest.mark.usefixtures("lingering")
async def test_a_file_whose_note_of_what_is_over_is_damaged_is_refused(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 3))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        await store.invalidate(TENANT)
    with sqlite3.connect(path) as connection:
        (note,) = connection.execute("SELECT note FROM ended").fetchone()
        connection.execute("UPDATE ended SET note = ?", (bytes([*note[:9], note[9] ^ 1, *note[10:]]),))
    connection.close()
    with pytest.raises(FileStoreError, match="note"):
        async with file_store(path, clock):
            pass


async def test_it_is_refused_while_the_disk_keeps_what_had_expired(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 3))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        await on_the_disk(store, deny(sqlite3.SQLITE_DELETE))
        with pytest.raises(StoreUnavailableError):
            await store.invalidate(TENANT)
        await on_the_disk(store, lambda connection: connection.set_authorizer(None))
        assert await store.invalidate(TENANT) == 0
    async with file_store(path, clock) as store:
        assert await store.get_many(keys) == [None] * 3


async def test_what_had_expired_before_the_start_is_deleted_by_its_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 1)
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 30))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        again = store.delete([keys[7]])
        await asyncio.gather(store.delete([keys[7], keys[29]]), again)  # one that they remove for its age, too
    async with file_store(path, clock) as store:
        assert await store.get_many([keys[7], keys[29], keys[3]]) == [None, None, of_tenant(clock, 4)[3]]


async def test_a_put_of_what_had_expired_before_the_start_takes_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 1)
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 30))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        put_back(clock, 4_000.0)
        again = of_tenant(clock, 30, text="anew")
        for number in (4, 28, 4):
            await store.put(again[number])
    async with file_store(path, clock) as store:
        assert await store.get_many([keys[4], keys[28]]) == [again[4], again[28]]


@pytest.mark.parametrize("is_living", [False, True])
async def test_a_row_that_had_expired_beside_another_of_its_key_leaves_with_it(path: Path, is_living: bool) -> None:
    """As an earlier version left them."""
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix(), scope=Scope("many"))
    async with file_store(path, clock) as store:
        await store.put(put)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO entries SELECT row + 1, key, ?, packed FROM entries", (clock.unix() - 1.0 - is_living,)
        )
        connection.execute("UPDATE entries SET expires_at = ? WHERE row = 1", (clock.unix() + is_living,))
    connection.close()
    async with file_store(path, clock) as store:
        assert len(store) == is_living
        put_back(clock, 4.0)
        assert await store.delete([put.key]) == is_living
    async with file_store(path, clock) as store:
        assert len(store) == 0


async def test_all_that_had_expired_before_the_start_leaves_with_several_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 2)
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 7))
    clock.advance(4_000.0)
    async with file_store(path, clock) as store:
        for left in (5, 3, 1, 0, 0):
            await store.delete([])
            assert store._file.expired == left
            assert await on_the_disk(store, lambda file: file.execute("SELECT count(*) FROM entries").fetchone()) == (
                left,
            )


async def test_in_memory_too_it_takes_what_has_expired_when_the_clock_is_put_back() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=10, clock=clock)
    put = entry("q", now_unix_s=clock.unix(), scope=Scope("many"), ttl_s=10.0)
    await store.put(put)
    clock.advance(11.0)
    assert await store.invalidate(TENANT) == 0
    put_back(clock, 11.0)
    assert await store.get_many([put.key]) == [None]
