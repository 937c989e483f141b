"""A cache's file is damaged, before a start or under a process that has it open: nothing that was taken back returns.

SPILLWAY_DAMAGED_FILES: how many files of each kind; SPILLWAY_SEED: which ones.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from services.cache.entry import Scope, Selector
from services.cache.store import entry_file
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_file import FileStore
from services.cache.store.entry_file import PAGE_BYTES as PAGE
from services.cache.store.entry_file import FileStoreError
from services.runtime.clock import FakeClock
from tests.support.cache_parts import entry, file_store

FILES = int(os.environ.get("SPILLWAY_DAMAGED_FILES", "25"))
SEED = int(os.environ.get("SPILLWAY_SEED", "20261122"))
ENTRIES = 80
KEY = re.compile(rb"[0-9a-f]{60}")
STRUCTURE_BYTES = 64
"""Of a page, where its kind, its cells' places and a file's own header lie."""

Living = dict[str, str]


def place(data: bytearray, rng: random.Random) -> int:
    """As often in what holds a page together, and in a key or before it, where its row's number is, as anywhere."""
    where = rng.randrange(3)
    if where == 0:
        return rng.randrange(len(data))
    if where == 1:
        return rng.choice([found.start() for found in KEY.finditer(data)]) - rng.randrange(-16, 16)
    return min(len(data) - 1, rng.randrange(len(data) // PAGE) * PAGE + rng.randrange(STRUCTURE_BYTES))


def flip(data: bytearray, rng: random.Random) -> None:
    data[place(data, rng)] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    data[place(data, rng)] = rng.randrange(256)


def zero(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) // PAGE) * PAGE
    data[at : at + PAGE] = bytes(PAGE)


def repeat(data: bytearray, rng: random.Random) -> None:
    """A page where another should be."""
    source, target = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[target : target + PAGE] = data[source : source + PAGE]


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


class EarlierClock(FakeClock):
    """One that says what the other said before anything had expired."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._unix_offset += clock.unix() - self.unix() - 50.0


KINDS: list[Callable[[bytearray, random.Random], None]] = [flip, overwrite, zero, repeat, cut]


def damage(path: Path, kind: Callable[[bytearray, random.Random], None], rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    before = bytes(data)
    while bytes(data) == before:
        kind(data, rng)
    with path.open("r+b") as file:  # the same file, for a process that has it open
        file.write(data)
        file.truncate(len(data))


async def take_back(
    store: FileStore, living: Living, clock: FakeClock, rng: random.Random, expired: Living | None = None
) -> None:
    """Deletes, invalidates, replaces and expires; what was acknowledged is no more in `living`, nor in `expired`: what
    lives again when the clock is put back."""
    expired = {} if expired is None else expired
    keys = sorted(living)
    for key in rng.sample(keys, min(4, len(keys))):
        with suppress(StoreUnavailableError):
            await store.delete([key])
            living.pop(key)
    for number in rng.sample(range(ENTRIES), 4):
        with suppress(StoreUnavailableError):
            anew = entry(f"q{number}", scope=Scope(f"t{number % 4}"), now_unix_s=clock.unix(), text="anew")
            await store.put(anew)
            living[anew.key] = "anew"
            expired.pop(anew.key, None)
    tenant = f"t{rng.randrange(4)}"
    theirs = [key for key in living if key in await store.find(Selector(tenant=tenant))]
    with suppress(StoreUnavailableError):
        await store.invalidate(Selector(tenant=tenant))
        for key in theirs:
            living.pop(key)
        for number in range(int(tenant[1:]), ENTRIES, 4):
            expired.pop(entry(f"q{number}", scope=Scope(tenant), now_unix_s=0.0).key, None)


async def held_against(store: FileStore, living: Living, known: list[str]) -> None:
    for key, found in zip(known, await store.get_many(known), strict=True):
        assert found is None or living.get(key) == found.answer.message.text, key


async def begin(path: Path, clock: FakeClock, rng: random.Random) -> tuple[Living, Living, list[str]]:
    living: Living = {}
    expired: Living = {}
    known = []
    async with file_store(path, clock) as store:
        for number in range(ENTRIES):
            text = "x" * rng.choice((10, 10, 900, 6_000))
            ttl_s = rng.choice((50.0, 5_000.0))
            put = entry(f"q{number}", scope=Scope(f"t{number % 4}"), now_unix_s=clock.unix(), text=text, ttl_s=ttl_s)
            await store.put(put)
            known.append(put.key)
            (living if ttl_s > 50.0 else expired)[put.key] = text
        await take_back(store, living, clock, rng, expired)
    clock.advance(50.0)
    return living, expired, known


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.timeout(60 + FILES)
async def test_nothing_that_was_taken_back_returns(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[bytearray, random.Random], None],
    is_open: bool,
) -> None:
    monkeypatch.setattr(entry_file, "EXPIRED_PER_COMMIT_MAX", 1)  # so that it lasts until the end of a process
    monkeypatch.setattr(entry_file, "ENDED_PER_IDLE_COMMIT_MAX", 1)
    opened = 0
    whole = tmp_path / "whole.sqlite"
    clock = FakeClock()
    truth, ended, known = await begin(whole, clock, random.Random(SEED))
    for number in range(FILES):
        rng, living, expired = random.Random(SEED + number), dict(truth), dict(ended)
        path = tmp_path / f"{number}.sqlite"
        shutil.copy(whole, path)
        try:
            if not is_open:
                damage(path, kind, rng)
            async with file_store(path, clock) as store:
                opened += 1
                if is_open:
                    assert store._file.connection is not None
                    store._file.connection.execute("PRAGMA cache_size=1")  # what is damaged is read again
                    damage(path, kind, rng)
                await held_against(store, living, known)
                await take_back(store, living, clock, rng, expired)
                await held_against(store, living, known)
            async with file_store(path, clock) as store:
                await held_against(store, living, known)
            async with file_store(path, EarlierClock(clock)) as store:
                await held_against(store, expired | living, known)
        except FileStoreError:
            continue
        finally:
            for suffix in ("", "-wal", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert opened or kind not in (flip, overwrite), f"seed {SEED}"
