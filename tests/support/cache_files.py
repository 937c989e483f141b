"""What tests of the store in a file do to the file that it has open."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from services.cache.entry import Entry, Scope
from services.cache.store.answer_store_file import FileStore
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry

__all__ = ["deny", "held_up", "of_tenant", "on_the_disk", "put_all", "served"]


def of_tenant(clock: FakeClock, count: int, *, text: str = "yes", ttl_s: float = 3_600.0) -> list[Entry]:
    now, scope = clock.unix(), Scope("many")
    return [entry(f"q{number}", now_unix_s=now, scope=scope, text=text, ttl_s=ttl_s) for number in range(count)]


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


@contextmanager
def held_up(store: FileStore) -> Iterator[threading.Event]:
    """A disk that takes its time, until the end of the block or until what is given is set."""
    is_back = threading.Event()
    store._thread.submit(is_back.wait)
    try:
        yield is_back
    finally:
        is_back.set()


def deny(action: int, name: str | None = None) -> Callable[[sqlite3.Connection], None]:
    def refuses(asked: int, first: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if asked == action and name in (None, first) else sqlite3.SQLITE_OK

    return lambda connection: connection.set_authorizer(refuses)
