"""What is deleted from a file stays deleted: with a full disk, a damaged index, many entries, and callers that left."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_file import FREE_PAGES_MAX, FileStoreError
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry

TENANT = Selector(tenant="many")


@asynccontextmanager
async def opened(path: Path, clock: FakeClock) -> AsyncIterator[FileStore]:
    store = await FileStore.open(path, entries_max=1_000, bytes_max=100_000_000, clock=clock)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def of_tenant(clock: FakeClock, count: int, *, text: str = "yes") -> list[Entry]:
    scope = Scope("many")
    return [entry(f"q{number}", now_unix_s=clock.unix(), scope=scope, text=text) for number in range(count)]


async def put_all(store: FileStore, entries: list[Entry]) -> list[str]:
    await asyncio.gather(*(store.put(each) for each in entries))
    return [each.key for each in entries]


async def served(store: FileStore, keys: list[str]) -> int:
    return sum(each is not None for each in await store.get_many(keys))


async def on_the_disk(store: FileStore, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """Runs where the file is written."""
    connection = store._file.connection
    assert connection is not None
    return await asyncio.get_running_loop().run_in_executor(store._thread, work, connection)


def deny(action: int, name: str | None = None) -> Callable[[sqlite3.Connection], None]:
    def refuses(asked: int, first: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if asked == action and name in (None, first) else sqlite3.SQLITE_OK

    return lambda connection: connection.set_authorizer(refuses)


async def test_a_change_that_was_committed_counts_though_no_space_can_be_given_back(path: Path) -> None:
    clock = FakeClock()
    async with opened(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 80, text="x" * 100_000))
        await on_the_disk(store, deny(sqlite3.SQLITE_PRAGMA, "incremental_vacuum"))
        assert await store.delete(keys[1:]) == 79
        assert await on_the_disk(store, lambda file: file.execute("PRAGMA freelist_count").fetchone()[0]) > (
            FREE_PAGES_MAX
        )
        late = entry("late", now_unix_s=clock.unix(), scope=Scope("many"))
        assert await store.put(late)
        assert len(store) == 2
        assert await store.invalidate(TENANT) == 2
    async with opened(path, clock) as store:
        assert len(store) == 0


async def test_no_flipped_bit_of_a_key_brings_an_invalidated_answer_back(path: Path) -> None:
    clock = FakeClock()
    async with opened(path, clock) as store:
        keys = await put_all(store, of_tenant(clock, 16))
    whole = path.read_bytes()  # noqa: ASYNC240
    places = [at for key in keys for at in range(len(whole)) if whole.startswith(key.encode(), at)]
    assert len(places) == 2 * len(keys)  # in its row, and in the index
    opens = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place + 63] ^= 1
        path.write_bytes(damaged)  # noqa: ASYNC240
        try:
            async with opened(path, clock) as store:
                opens += 1
                await store.invalidate(TENANT)
        except FileStoreError:
            continue
        async with opened(path, clock) as store:
            assert await served(store, keys) == 0, f"bit at {place}"
    assert opens < len(places)
