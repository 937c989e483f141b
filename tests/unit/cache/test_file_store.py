"""The store in a file: what is there after a restart, bounds, and files that cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.store import file_writer
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_file import FREE_BYTES_MAX, PAGE_BYTES, FileStoreError
from services.cache.store.prompt_cipher import PromptCipher
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry, file_store
from tests.support.packed_entries import packed_by_version_2

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


async def test_a_restart_finds_what_was_put_and_not_what_was_deleted_or_has_expired(path: Path) -> None:
    clock = FakeClock()
    kept, deleted = entry("kept", now_unix_s=clock.unix(), tags=("x",)), entry("deleted", now_unix_s=clock.unix())
    short = entry("short", now_unix_s=clock.unix(), ttl_s=5.0)
    async with file_store(path, clock) as store:
        for each in (kept, deleted, short, entry("kept", now_unix_s=clock.unix(), text="older"), kept):
            await store.put(each)
        assert await store.delete([deleted.key]) == 1
    clock.advance(5.0)
    async with file_store(path, clock) as store:
        assert await store.get_many([kept.key, deleted.key, short.key]) == [kept, None, None]
        assert len(store) == 1


async def test_a_moment_of_an_earlier_process_is_not_known_any_more(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        since = await store.moment(put.key)
        await store.invalidate(Selector(tenant="acme"))
    async with file_store(path, clock) as store:
        assert not await store.put(put, since=since)
        assert await store.put(put, since=await store.moment(put.key))


async def test_changes_that_arrive_together_happen_in_their_order(path: Path) -> None:
    clock = FakeClock()
    entries = [entry(f"q{number % 7}", now_unix_s=clock.unix(), text=f"v{number}") for number in range(700)]
    async with file_store(path, clock) as store:
        await asyncio.gather(*(store.put(each) for each in entries), store.delete([entries[0].key]))
        held = await store.get_many([each.key for each in entries[-7:]])
        assert [None if each is None else each.answer.message.text for each in held] == [
            None if number % 7 == 0 else f"v{number}" for number in range(693, 700)
        ]
    async with file_store(path, clock) as store:
        assert await store.get_many([each.key for each in entries[-7:]]) == held


async def test_what_was_evicted_does_not_come_back_unless_it_was_put_again(path: Path) -> None:
    clock = FakeClock()
    entries = [entry(f"q{number}", now_unix_s=clock.unix()) for number in range(12)]
    async with file_store(path, clock, entries_max=4) as store:
        await asyncio.gather(*(store.put(each) for each in entries))
        await asyncio.gather(*(store.put(each) for each in entries[:3]))
        held = [each is not None for each in await store.get_many([each.key for each in entries])]
        assert sum(held) == len(store) == 4
        assert store.evicted == 11
    async with file_store(path, clock, entries_max=100) as store:
        again = [each is not None for each in await store.get_many([each.key for each in entries])]
    assert again == held


async def test_a_smaller_limit_at_the_next_start_is_kept(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        for number in range(10):
            await store.put(entry(f"q{number}", now_unix_s=clock.unix(), scope=Scope("t")))
    async with file_store(path, clock, entries_max=3) as store:
        assert len(store) == 3
    async with file_store(path, clock) as store:
        assert len(store) == 3


async def test_an_entry_that_was_served_touches_no_file(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        put = entry("q", now_unix_s=clock.unix())
        await store.put(put)
        before = [(each.name, each.stat().st_size) for each in sorted(path.parent.iterdir())]
        for _ in range(100):
            assert await store.get_many([put.key]) == [put]
            store.served(put.key)
        assert [(each.name, each.stat().st_size) for each in sorted(path.parent.iterdir())] == before


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_file_is_for_its_owner_and_for_one_process(path: Path, is_there: bool) -> None:
    clock = FakeClock()
    if is_there:
        for each in (path, path.with_name(f"{path.name}-wal")):
            each.touch()
            each.chmod(0o644)
    async with file_store(path, clock) as store:
        await store.put(entry("q", now_unix_s=clock.unix()))
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600
        with pytest.raises(FileStoreError, match="another process"):
            await FileStore.open(path, entries_max=10, bytes_max=10_000, clock=clock)
        await store.put(entry("q2", now_unix_s=clock.unix()))


def as_version_1(path: Path) -> None:
    """The file as it was before rows had numbers of their own."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE entries RENAME TO newer;"
            "CREATE TABLE entries (key TEXT PRIMARY KEY, expires_at REAL NOT NULL, packed BLOB NOT NULL);"
            "CREATE INDEX entries_expiry ON entries (expires_at);"
            "INSERT INTO entries SELECT key, expires_at, packed FROM newer; DROP TABLE newer; PRAGMA user_version=1;"
        )
    connection.close()


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE entries (key TEXT)")
    connection.close()


def later_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[PAGE_BYTES : PAGE_BYTES * 3] = b"\x5a" * (PAGE_BYTES * 2)
    path.write_bytes(bytes(data))


def scribble_on_an_index(path: Path) -> None:
    """What reading all rows does not come across."""
    as_version_1(path)
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries_expiry'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\x5a" * size
    path.write_bytes(bytes(data))


def scribble_on_the_schema(path: Path) -> None:
    """SQLite then quotes a name that is no text."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"tableentriesentries", b"tableentries\x87ntries"))


def other_encoding(path: Path) -> None:
    """No key could be read then, and all rows would be deleted."""
    data = bytearray(path.read_bytes())
    data[59] ^= 2
    path.write_bytes(bytes(data))


def key_twice(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO entries SELECT max(row) + 1, key, expires_at, packed FROM entries")
    connection.close()


def noise(path: Path) -> None:
    path.write_bytes(b"\x00\x01noise" * 1_000)


@pytest.mark.parametrize(
    "damage",
    [
        other_database,
        later_version,
        cut,
        scribble,
        scribble_on_an_index,
        scribble_on_the_schema,
        key_twice,
        other_encoding,
        noise,
    ],
)
async def test_a_file_that_cannot_be_used_is_named_and_left_alone(path: Path, damage: object) -> None:
    clock = FakeClock()
    if damage is not other_database:
        async with file_store(path, clock) as store:
            for number in range(60):
                await store.put(entry(f"q{number}", now_unix_s=clock.unix(), text="x" * 500))
    assert callable(damage)
    damage(path)
    data = path.read_bytes()  # noqa: ASYNC240
    with pytest.raises(FileStoreError, match=r"(?s)cache\.sqlite .*cache\.sqlite-wal"):
        await FileStore.open(path, entries_max=10, bytes_max=10_000, clock=clock)
    assert path.read_bytes() == data  # noqa: ASYNC240


async def test_no_flipped_bit_of_how_it_is_to_be_written_is_found_out_by_the_first_change(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(put)
    whole = path.read_bytes()  # noqa: ASYNC240
    for bit in range(16):
        damaged = bytearray(whole)
        damaged[18 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)  # noqa: ASYNC240
        with pytest.raises(FileStoreError, match=path.name):
            async with file_store(path, clock):
                pass
    path.write_bytes(whole[:18] + b"\x01\x01" + whole[20:])  # noqa: ASYNC240 - as in a copy that SQLite made
    async with file_store(path, clock) as store:
        assert await store.get_many([put.key]) == [put]
        assert await store.delete([put.key]) == 1


def rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
    connection.close()
    return int(count)


async def test_what_expires_leaves_the_file_with_the_changes_of_others(path: Path) -> None:
    clock = FakeClock()
    short = [entry(f"q{number}", now_unix_s=clock.unix(), ttl_s=5.0) for number in range(7)]
    long = entry("long", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        for each in (*short[:4], long):
            await store.put(each)
    clock.advance(4.0)
    async with file_store(path, clock) as store:
        for each in short[4:]:
            await store.put(each)
        clock.advance(1.0)
        await store.delete([])
        assert len(store) == 1
    assert rows(path) == 1
    async with file_store(path, clock) as store:
        assert await store.get_many([long.key]) == [long]


async def test_what_had_expired_before_a_start_leaves_the_file_with_the_changes_of_others(path: Path) -> None:
    clock = FakeClock()
    short, long = entry("short", now_unix_s=clock.unix(), ttl_s=5.0), entry("long", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(short)
        await store.put(long)
    clock.advance(5.0)
    async with file_store(path, clock) as store:
        assert len(store) == 1
        await store.put(entry("other", now_unix_s=clock.unix()))
    assert rows(path) == 2
    async with file_store(path, clock) as store:
        assert await store.get_many([short.key, long.key]) == [None, long]


@pytest.mark.parametrize("key", [b"", KEY])
async def test_a_file_of_version_1_is_read_and_written(path: Path, key: bytes) -> None:
    clock = FakeClock()
    entries = [entry(f"q{number}", now_unix_s=clock.unix()) for number in range(4)]
    short = entry("short", now_unix_s=clock.unix(), ttl_s=5.0)
    cipher = PromptCipher((key,)) if key else None

    async def opened() -> FileStore:
        return await FileStore.open(path, entries_max=100, bytes_max=10_000_000, clock=clock, cipher=cipher)

    store = await opened()
    for each in (short, *entries):
        await store.put(each)
    await store.close()
    as_version_1(path)
    if key:
        with sqlite3.connect(path) as connection:  # something in the clear, so that the file is written anew
            connection.execute("UPDATE entries SET packed = x'0300' WHERE key = ?", (entries[0].key,))
        connection.close()
    clock.advance(5.0)
    first = None if key else entries[0]
    store = await opened()
    assert await store.get_many([each.key for each in entries]) == [first, *entries[1:]]
    anew = entry("q1", now_unix_s=clock.unix(), text="anew")
    assert await store.put(anew)
    assert await store.delete([entries[2].key]) == 1
    assert await store.put(entries[0])
    await store.close()
    assert rows(path) == 3
    store = await opened()
    assert await store.get_many([each.key for each in entries]) == [entries[0], anew, None, entries[3]]
    await store.close()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileStoreError, match="nowhere"):
        await FileStore.open(tmp_path / "nowhere" / "c", entries_max=10, bytes_max=10_000, clock=FakeClock())


async def test_a_row_that_cannot_be_read_is_left_out(path: Path) -> None:
    clock = FakeClock()
    good, bad = entry("good", now_unix_s=clock.unix()), entry("bad", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(good)
        await store.put(bad)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET packed = zeroblob(200) WHERE key = ?", (bad.key,))
    connection.close()
    async with file_store(path, clock) as store:
        assert await store.get_many([good.key, bad.key]) == [good, None]


async def test_an_entry_whose_key_was_damaged_is_none_under_another(path: Path) -> None:
    clock = FakeClock()
    stored = entry("stored", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(stored)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET key = 'another'")
    connection.close()
    async with file_store(path, clock) as store:
        assert await store.get_many([stored.key, "another"]) == [None, None]
        assert len(store) == 0


@pytest.mark.parametrize("damage", ["packed = 7", "packed = 'text'", "key = x'00ff'"])
async def test_a_row_of_other_kinds_ends_the_start_and_names_the_file(path: Path, damage: str) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await store.put(entry("stored", now_unix_s=clock.unix()))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE entries SET {damage}")
    connection.close()
    with pytest.raises(FileStoreError, match=path.name):
        async with file_store(path, clock):
            pass


async def test_entries_that_an_earlier_version_packed_are_there(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(put)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET packed = ? WHERE key = ?", (packed_by_version_2(put), put.key))
    connection.close()
    async with file_store(path, clock) as store:
        assert await store.get_many([put.key]) == [put]


async def test_no_change_is_acknowledged_or_seen_before_it_is_on_the_disk(path: Path) -> None:
    clock = FakeClock()
    first, second = entry("first", now_unix_s=clock.unix()), entry("second", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(first)
        await asyncio.get_running_loop().run_in_executor(store._thread, time.monotonic)  # until the writer is idle
        disk_is_back = threading.Event()
        store._thread.submit(disk_is_back.wait)
        changes = [asyncio.create_task(store.put(second)), asyncio.create_task(store.delete([first.key]))]
        for _ in range(50):
            await asyncio.sleep(0)
        done, held = [change.done() for change in changes], await store.get_many([first.key, second.key])
        disk_is_back.set()
        assert (done, held) == ([False, False], [first, None])
        assert await asyncio.gather(*changes) == [True, 1]
        assert await store.get_many([first.key, second.key]) == [None, second]


async def test_a_disk_that_refuses_is_unavailable_and_changes_nothing(path: Path) -> None:
    clock = FakeClock()
    first, second = entry("first", now_unix_s=clock.unix()), entry("second", now_unix_s=clock.unix(), text="x" * 99_999)
    async with file_store(path, clock) as store:
        await store.put(first)
        connection = store._file.connection
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")  # as a full disk
        with pytest.raises(StoreUnavailableError):
            await store.put(second)
        assert await store.get_many([first.key, second.key]) == [first, None]
        connection.execute("PRAGMA max_page_count=1000000")
        await store.put(second)
        assert await store.get_many([second.key]) == [second]


async def test_too_many_waiting_changes_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_writer, "PENDING_MAX", 100)  # so that a slow disk takes them in time
    clock = FakeClock()
    async with file_store(path, clock) as store:
        put = entry("q", now_unix_s=clock.unix())
        results = await asyncio.gather(*(store.put(put) for _ in range(105)), return_exceptions=True)
        assert sum(isinstance(result, StoreUnavailableError) for result in results) == 5
    with pytest.raises(StoreUnavailableError):
        await store.put(put)


async def test_deleted_entries_give_their_space_back(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        entries = [entry(f"q{number}", now_unix_s=clock.unix(), text="x" * 100_000) for number in range(80)]
        await asyncio.gather(*(store.put(each) for each in entries))
        await store.delete([each.key for each in entries[1:]])
        for _ in range(20):
            await store.put(entries[0])
    assert path.stat().st_size < FREE_BYTES_MAX + 75 * PAGE_BYTES  # noqa: ASYNC240


async def test_an_invalidation_takes_what_is_still_on_its_way_to_the_disk(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        storing = asyncio.create_task(store.put(put))
        await asyncio.sleep(0)
        await store.invalidate(Selector(tenant=put.scope.tenant))
        await storing
        assert await store.get_many([put.key]) == [None]
    async with file_store(path, clock) as store:
        assert await store.get_many([put.key]) == [None]


async def test_an_invalidation_holds_while_the_disk_has_not_taken_it(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    async with file_store(path, clock) as store:
        await store.put(put)
        invalidating = asyncio.create_task(store.invalidate(Selector(tenant=put.scope.tenant)))
        await asyncio.sleep(0)
        assert not invalidating.done()
        assert await store.get_many([put.key]) == [None]
        assert await invalidating == 1
