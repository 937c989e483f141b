"""The store in a file with a key: what no key opens, and what was written in the clear before there was one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from services.cache.entry import Selector
from services.cache.store.answer_store_file import FileStore
from services.cache.store.prompt_cipher import PromptCipher
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


SECRETS = [b"where is the treasure", b"under the old oak"]


def lies_there(path: Path) -> bool:
    raw = b"".join(each.read_bytes() for each in path.parent.glob(path.name + "*"))
    return any(secret in raw for secret in SECRETS)


async def keyed(path: Path, clock: FakeClock, *keys: bytes) -> FileStore:
    return await FileStore.open(
        path, entries_max=100, bytes_max=10_000_000, clock=clock, cipher=PromptCipher(keys) if keys else None
    )


async def test_what_no_key_opens_never_comes_back(path: Path) -> None:
    clock = FakeClock()
    put = entry("q", now_unix_s=clock.unix())
    for keys in ((KEY,), (OTHER_KEY,), (OTHER_KEY, KEY)):
        store = await keyed(path, clock, *keys)
        if keys == (KEY,):
            await store.put(put)
        if keys == (OTHER_KEY,):
            await store.invalidate(Selector(tenant=put.scope.tenant))
        assert await store.get_many([put.key]) == [put if keys == (KEY,) else None]
        await store.close()


async def test_with_a_key_nothing_stays_in_an_empty_file_from_which_the_clear_was_deleted_without_being_overwritten(
    path: Path,
) -> None:
    clock = FakeClock()
    store = await keyed(path, clock)
    await store.put(entry(SECRETS[0].decode(), now_unix_s=clock.unix(), text=SECRETS[1].decode()))
    await store.close()
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA secure_delete=OFF; DELETE FROM entries;")
    connection.close()
    assert lies_there(path)
    await (await keyed(path, clock, KEY)).close()
    assert not lies_there(path)


@pytest.mark.parametrize("fate", ["kept", "deleted", "expired"])
async def test_with_a_key_nothing_written_in_the_clear_stays_in_the_file(path: Path, fate: str) -> None:
    clock = FakeClock()
    store = await keyed(path, clock)
    clear = entry(SECRETS[0].decode(), now_unix_s=clock.unix(), text=SECRETS[1].decode(), ttl_s=50.0)
    await store.put(clear)
    if fate == "deleted":
        await store.delete([clear.key])
    await store.close()
    clock.advance(50.0 if fate == "expired" else 0.0)
    assert lies_there(path) or fate == "deleted"
    store = await keyed(path, clock, KEY)
    assert not lies_there(path)
    put = entry("q", now_unix_s=clock.unix())
    await store.put(put)
    await store.close()
    store = await keyed(path, clock, KEY)
    assert await store.get_many([clear.key, put.key]) == [None, put]
    await store.close()
