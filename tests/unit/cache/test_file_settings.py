"""How the file is opened and kept: what SQLite is told, what a full disk ends, and what a key opens in older files."""

from __future__ import annotations

import sqlite3
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.cache.entry import Entry, Selector
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_codec import pack_entry
from services.cache.store.entry_file import FREE_BYTES_MAX, LOG_BYTES, VACUUM_BYTES, FileStoreError
from services.cache.store.prompt_cipher import PromptCipher
from services.runtime.clock import FakeClock
from tests.support.cache_files import of_tenant, on_the_disk, put_all
from tests.support.cache_parts import entry, file_store

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def small_pages(path: Path) -> None:
    """As files of version 1 have them."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.executescript("PRAGMA journal_mode=DELETE; PRAGMA page_size=4096; VACUUM; PRAGMA journal_mode=WAL;")
    connection.close()


async def setting(store: FileStore, name: str) -> Any:
    (value,) = await on_the_disk(store, lambda file: file.execute(f"PRAGMA {name}").fetchone())
    return value


@pytest.mark.parametrize("page_bytes", [4_096, 16_384])
async def test_each_commit_is_synced_what_is_deleted_is_overwritten_and_the_log_is_bounded_in_bytes(
    path: Path, page_bytes: int
) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 3))
    if page_bytes == 4_096:
        small_pages(path)
    async with file_store(path, clock) as store:
        assert await setting(store, "page_size") == page_bytes
        assert await setting(store, "journal_mode") == "wal"
        assert await setting(store, "synchronous") == 2
        assert await setting(store, "secure_delete") == 1
        assert await setting(store, "wal_autocheckpoint") * page_bytes == LOG_BYTES


@pytest.mark.parametrize("page_bytes", [4_096, 16_384])
async def test_space_is_given_back_by_bytes_whatever_the_size_of_a_page(path: Path, page_bytes: int) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 80, text="x" * 100_000))
    if page_bytes == 4_096:
        small_pages(path)
    async with file_store(path, clock) as store:
        await store.delete(keys)
        free = [await setting(store, "freelist_count") * page_bytes]
        while free[-1] > FREE_BYTES_MAX:
            await store.delete([])
            free.append(await setting(store, "freelist_count") * page_bytes)
        given_back = [before - after for before, after in pairwise(free)]
        assert given_back
        assert all(abs(each - VACUUM_BYTES) <= 2 * page_bytes for each in given_back)
        await store.delete([])
        assert await setting(store, "freelist_count") * page_bytes == free[-1]


async def test_nothing_that_was_deleted_stays_in_the_file(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        secret = entry("q", now_unix_s=clock.unix(), text="under the old oak")
        await put_all(store, [*of_tenant(clock, 20), secret])
    assert b"under the old oak" in path.read_bytes()  # noqa: ASYNC240
    async with file_store(path, clock) as store:
        await store.delete([secret.key])
    assert b"under the old oak" not in path.read_bytes()  # noqa: ASYNC240


class _WithoutLog(sqlite3.Connection):
    """Of a file system that takes no write-ahead log."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("journal_mode=WAL", "journal_mode=DELETE"), *parameters)


async def test_a_file_that_takes_no_write_ahead_log_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_WithoutLog))
    with pytest.raises(FileStoreError, match=path.name):
        async with file_store(path, FakeClock()):
            pass


async def test_an_index_that_does_not_fit_the_rows_ends_the_start(path: Path) -> None:
    """Each page of it alone is whole."""
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 9))
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE entries RENAME TO newer;"
            "CREATE TABLE entries (key TEXT PRIMARY KEY, expires_at REAL NOT NULL, packed BLOB NOT NULL);"
            "INSERT INTO entries SELECT key, expires_at, packed FROM newer; DROP TABLE newer; PRAGMA user_version=1;"
        )
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    async with file_store(path, clock) as store:
        assert len(store) == 9
    data = bytearray(path.read_bytes())  # noqa: ASYNC240
    place = data.index(keys[4].encode(), (page - 1) * size, page * size) + len(keys[4]) - 1
    data[place] ^= 1
    path.write_bytes(data)  # noqa: ASYNC240
    with pytest.raises(FileStoreError, match=path.name):
        async with file_store(path, clock):
            pass


async def keyed(path: Path, clock: FakeClock) -> FileStore:
    return await FileStore.open(path, entries_max=100, bytes_max=10_000_000, clock=clock, cipher=PromptCipher((KEY,)))


def sealed_by_version_1(path: Path, entries: list[Entry]) -> None:
    cipher = PromptCipher((KEY,))
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE entries; PRAGMA user_version=1;"
            "CREATE TABLE entries (key TEXT PRIMARY KEY, expires_at REAL NOT NULL, packed BLOB NOT NULL);"
            "CREATE INDEX entries_expiry ON entries (expires_at);"
        )
        connection.executemany(
            "INSERT INTO entries VALUES (?, ?, ?)",
            (
                (each.key, each.expires_at_unix_s, cipher.seal(pack_entry(each), f"file/1/{each.key}"))
                for each in entries
            ),
        )
    connection.close()


async def test_a_key_opens_what_it_sealed_in_a_file_of_version_1(path: Path) -> None:
    clock = FakeClock()
    entries = of_tenant(clock, 5)
    await (await keyed(path, clock)).close()
    sealed_by_version_1(path, entries)
    for _ in range(2):
        store = await keyed(path, clock)
        assert await store.get_many([each.key for each in entries]) == entries
        await store.close()


def full_for(what: str) -> type[sqlite3.Connection]:
    """Of a disk that has no room for what gives room back."""

    class Full(sqlite3.Connection):
        def executescript(self, sql: str) -> sqlite3.Cursor:
            if what in sql.lower():
                raise sqlite3.OperationalError(f"no room for {what}")
            return super().executescript(sql)

    return Full


@pytest.mark.parametrize("what", ["vacuum", "checkpoint"])
async def test_with_a_key_a_full_disk_ends_no_start_that_has_nothing_to_delete(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    store = await keyed(path, clock)
    await store.put(put)
    await store.close()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=full_for(what)))
    with capture_logs() as logs:
        store = await keyed(path, clock)
    assert await store.get_many([put.key]) == [put]
    await store.close()
    assert [each["error"] for each in logs if each["event"] == "cache_file_not_tidied"] == [f"no room for {what}"]


@pytest.mark.parametrize("what", ["vacuum", "checkpoint"])
@pytest.mark.parametrize("is_expired", [False, True])
async def test_with_a_key_a_full_disk_ends_a_start_that_finds_something_in_the_clear(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_expired: bool, what: str
) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        await put_all(store, of_tenant(clock, 3))
    clock.advance(4_000.0 if is_expired else 0.0)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=full_for(what)))
    with pytest.raises(FileStoreError, match=path.name):
        await keyed(path, clock)


async def test_what_a_key_removed_at_the_start_is_looked_for_by_no_later_deletion(path: Path) -> None:
    clock = FakeClock()
    async with file_store(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 3))
    clock.advance(4_000.0)
    store = await keyed(path, clock)
    assert await store.delete(keys) == 0
    assert await store.invalidate(Selector(tenant="many")) == 0
    await store.close()


async def test_a_damaged_file_that_takes_no_change_is_called_that_in_the_log(path: Path) -> None:
    clock = FakeClock()
    short = entry("short", now_unix_s=clock.unix(), ttl_s=5.0)
    async with file_store(path, clock) as store:
        await store.put(short)
        await on_the_disk(store, lambda file: file.execute("UPDATE entries SET row = row + 1000").fetchall())
        clock.advance(6.0)
        with capture_logs() as logs, pytest.raises(StoreUnavailableError):
            await store.put(entry("other", now_unix_s=clock.unix()))
        (told,) = (each for each in logs if each["event"] == "cache_file_not_written")
        assert "damaged" in told["reason"]
        assert told["file"] == str(path)
