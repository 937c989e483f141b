"""The rights that docs/cache-operations.md names for the account in Redis are enough for all that the store does."""

from __future__ import annotations

import re
from contextlib import aclosing
from pathlib import Path

from services.cache.entry import Scope, Selector
from services.cache.store.answer_store import CaughtUp
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.redis_limits import Limits
from services.cache.store.redis_names import Names
from services.cache.store.redis_room import HELD
from services.runtime.clock import SystemClock
from tests.support.cache_parts import entry
from tests.support.redis_server import RedisServer

PAGE = Path(__file__).parents[3] / "docs" / "cache-operations.md"


def documented_rights() -> list[str]:
    (rights,) = re.findall(r"`(~spillway:\* -@all [^`]*)`", PAGE.read_text("utf-8"))
    return str(rights).split()


async def test_an_account_with_the_rights_that_the_page_names_can_do_all(redis_server: RedisServer) -> None:
    now = SystemClock().unix()
    entries = [entry(f"question {number}", now_unix_s=now, scope=Scope("acme")) for number in range(4)]
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", "nopass", *documented_rights())
        client.execute_command("ACL", "LOG", "RESET")
        url = redis_server.url.replace("redis://", "redis://narrow@")
        store = RedisStore(url, timeout_s=10.0, clock=SystemClock(), limits=Limits(100, 3, 10_000_000))
        for each in entries:
            _, since = await store.read(each.key)
            assert await store.put(each, since=since)
        async with aclosing(store.changes()) as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    break
        assert len(await store.find(Selector(tenant="acme"))) == 3
        assert await store.delete([entries[-1].key]) == 1
        assert await store.invalidate(Selector(tenant="acme")) == 2
        client.set(Names(1).history(entries[0].key[:4]), "no history")
        assert (await store.read(entries[0].key))[0] is None
        await store.invalidate(Selector(entry_key=entries[0].key))
        await store.close()
        narrow = client.execute_command("ACL", "LOG")
        client.execute_command("ACL", "DELUSER", "narrow")
        assert client.eval(HELD, 1, Names(1).entries(0)) == [0, b"0"]
    assert narrow == []
