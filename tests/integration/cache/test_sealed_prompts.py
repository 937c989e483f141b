"""With a key, whoever has the store alone reads no question and no answer; a new one loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from services.cache.entry import Selector
from services.cache.store.answer_store import CaughtUp, Change, Indexed
from services.cache.store.answer_store_file import FileStore
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.prompt_cipher import PromptCipher
from services.cache.store.redis_names import Names
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry, indexed
from tests.support.redis_server import RedisServer

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
QUESTION, ANSWER = "where is the treasure", "under the old oak"


class _Stores:
    """Opens the same store again and again, with these keys or none."""

    def __init__(self, kind: str, server: RedisServer, directory: Path) -> None:
        self.kind, self._server, self._file = kind, server, directory / "cache.sqlite"

    async def open(self, keys: Sequence[bytes]) -> tuple[RedisStore | FileStore, PromptCipher | None]:
        cipher = PromptCipher(keys) if keys else None
        clock = SystemClock()
        if self.kind == "redis":
            return RedisStore(self._server.url, timeout_s=10.0, clock=clock, cipher=cipher), cipher
        store = await FileStore.open(self._file, entries_max=100, bytes_max=1_000_000, clock=clock, cipher=cipher)
        return store, cipher

    def raw(self) -> bytes:
        """All that lies there."""
        if self.kind == "file":
            return b"".join(path.read_bytes() for path in self._file.parent.glob(self._file.name + "*"))
        with self._server.client() as client:
            hashes = [client.hgetall(key) for key in client.keys("*entry*")]
            rest = [
                *client.keys("*"),
                *(value for _, each in client.xrange(Names(1).changes(0)) for value in each.values()),
            ]
        return b"".join([*rest, *(value for each in hashes for value in each.values())])


@pytest.fixture(params=["redis", "file"])
def stores(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> _Stores:
    return _Stores(request.param, redis_server, tmp_path)


async def told(store: RedisStore | FileStore) -> list[Indexed]:
    seen: list[Change] = []
    async with aclosing(store.changes()) as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            seen.append(change)
    return indexed(seen)


async def test_the_store_alone_tells_neither_question_nor_answer_nor_vector(stores: _Stores) -> None:
    put = entry(QUESTION, now_unix_s=SystemClock().unix(), text=ANSWER)
    for keys, is_told in (([OLD], False), ([], True)):
        store, _ = await stores.open(keys)
        await store.put(put)
        assert await store.get_many([put.key]) == [put]
        assert [change.vector for change in await told(store)] == [put.vector]
        await store.close()
        raw = stores.raw()
        assert [secret in raw for secret in (QUESTION.encode(), ANSWER.encode(), put.vector)] == [is_told] * 3
        if stores.kind == "file":
            break  # what SQLite deleted may lie there until it is written over


async def test_entries_outlive_a_change_of_keys_and_not_the_loss_of_theirs(stores: _Stores) -> None:
    put = entry(QUESTION, now_unix_s=SystemClock().unix(), text=ANSWER)
    store, _ = await stores.open([OLD])
    await store.put(put)
    await store.close()
    store, cipher = await stores.open([NEW, OLD])
    assert await store.get_many([put.key]) == [put]
    assert len(await told(store)) == 1
    assert cipher is not None
    assert cipher.unreadable == 0
    await store.close()
    for keys in ([NEW], []):
        store, cipher = await stores.open(keys)
        assert await store.get_many([put.key]) == [None]
        assert await told(store) == []
        assert cipher is None or cipher.unreadable > 0
        await store.close()


async def test_what_was_stored_in_the_clear_is_a_miss_once_there_is_a_key(stores: _Stores) -> None:
    """Else whoever may write to the store could put answers there without the key."""
    put = entry(QUESTION, now_unix_s=SystemClock().unix(), text=ANSWER)
    store, _ = await stores.open([])
    await store.put(put)
    await store.close()
    store, cipher = await stores.open([OLD])
    assert await store.get_many([put.key]) == [None]
    assert cipher is not None
    assert cipher.unreadable > 0
    await store.put(put)
    assert await store.get_many([put.key]) == [put]
    await store.close()


async def test_an_answer_moved_to_another_entry_is_a_miss(redis_server: RedisServer) -> None:
    cipher = PromptCipher([OLD])
    store = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock(), cipher=cipher)
    now, names = SystemClock().unix(), Names(1)
    one, two = entry("one", now_unix_s=now, text="the wrong answer"), entry("two", now_unix_s=now)
    await store.put(one)
    await store.put(two)
    with redis_server.client() as client:
        stolen = client.hget(names.entry(one.key), "answer")
        assert stolen is not None
        client.hset(names.entry(two.key), "answer", stolen)
    assert await store.get_many([one.key, two.key]) == [one, None]
    assert cipher.unreadable == 1
    await store.close()


async def test_sealed_entries_are_found_and_invalidated_without_opening_them(redis_server: RedisServer) -> None:
    cipher = PromptCipher([OLD])
    store = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock(), cipher=cipher)
    put = entry(QUESTION, now_unix_s=SystemClock().unix(), tags=("red",))
    await store.put(put)
    blind = RedisStore(redis_server.url, timeout_s=10.0, clock=SystemClock(), cipher=PromptCipher([NEW]))
    assert await blind.find(Selector(tenant="acme", tag="red")) == [put.key]
    assert await blind.invalidate(Selector(tenant="acme", tag="red")) == 1
    assert await store.get_many([put.key]) == [None]
    await blind.close()
    await store.close()
