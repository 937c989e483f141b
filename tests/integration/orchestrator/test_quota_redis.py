"""The books of quotas in a Redis that freezes, dies and forgets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.orchestrator.guarded_redis import connect
from services.orchestrator.quotas.bound import Bound
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.quotas.redis_books import PAUSE_S, RedisBooks
from services.runtime.clock import FakeClock
from services.runtime.errors import Unavailable
from spillway.settings import Quotas as QuotaSettings
from tests.support.redis_server import RedisServer

ACME = Holder("acme corp", "key-7")
BOUND = Bound(1_000, 10, 1_000)
TIMEOUT_S = 0.3


class Site:
    """Quotas over a Redis, with a clock for what concerns this process; leases and windows are by Redis's own time."""

    def __init__(self, server: RedisServer, when_unavailable: str = "closed") -> None:
        self.server = server
        self.clock = FakeClock()
        self.books = RedisBooks(connect(server.url, password="", timeout_s=TIMEOUT_S), self.clock, timeout_s=TIMEOUT_S)
        settings = {
            "budgets": [
                {"name": "b", "period": "month", "cost_usd": 1},
                {"name": "k", "key": "*", "period": "month", "tokens": 10**6},
            ],
            "when_unavailable": when_unavailable,
        }
        self.quotas = Quotas(QuotaSettings.model_validate(settings), self.books, self.clock, run_s_max=60)

    async def standing(self) -> tuple[int, int]:
        seen, _ = (await self.quotas.look(ACME))["b"]
        return seen.spent, seen.held

    async def go_away(self) -> None:
        """Until the process leaves Redis alone."""
        for _ in range(4):
            with pytest.raises(Unavailable):
                await self.quotas.look(ACME)

    def come_back(self) -> None:
        self.clock.advance(PAUSE_S)


@pytest.fixture
async def site(redis_server: RedisServer) -> AsyncIterator[Site]:
    site = Site(redis_server)
    yield site
    await site.quotas.close(5)


async def test_by_the_time_of_redis_a_reservation_is_held_and_settled(site: Site) -> None:
    reservation = await site.quotas.admit(ACME, "r", BOUND)
    assert reservation.cost_nanousd_max == 1_000
    assert await site.standing() == (0, 1_000)
    await reservation.settle(400, 5)
    assert await site.standing() == (400, 0)


async def test_a_frozen_redis_is_unavailable_and_what_was_spent_is_told_when_it_is_back(site: Site) -> None:
    reservation = await site.quotas.admit(ACME, "r", BOUND)
    site.server.freeze()
    await reservation.settle(400, 5)
    assert site.quotas.untold == 1
    with pytest.raises(Unavailable) as caught:
        await site.quotas.admit(ACME, "r2", BOUND)
    assert caught.value.reason == "QUOTA_UNAVAILABLE"
    await site.go_away()
    site.server.thaw()
    site.come_back()
    await site.quotas.tell_all_once()
    assert site.quotas.untold == 0
    assert await site.standing() == (400, 0), "and the order that was not answered holds nothing, whenever it came"


async def test_a_redis_that_forgot_its_script_is_told_it_again(site: Site) -> None:
    await site.quotas.admit(ACME, "r", BOUND)
    with site.server.client() as client:
        client.script_flush()
    await site.quotas.admit(ACME, "r", BOUND)
    assert await site.standing() == (0, 2_000)


async def test_a_redis_that_comes_back_empty_takes_what_is_settled(site: Site) -> None:
    reservation = await site.quotas.admit(ACME, "r", BOUND)
    site.server.kill()
    await site.go_away()
    site.server.start()
    site.come_back()
    await reservation.settle(400, 5)
    assert await site.standing() == (400, 0)


async def test_while_redis_is_gone_an_open_quota_lets_requests_pass(redis_server: RedisServer) -> None:
    site = Site(redis_server, "open")
    redis_server.kill()
    reservation = await site.quotas.admit(ACME, "r", BOUND)
    assert reservation.cost_nanousd_max is None
    await reservation.settle(400, 5)
    await site.go_away()
    redis_server.start()
    site.come_back()
    await site.quotas.close(5)
    site = Site(redis_server)
    assert await site.standing() == (400, 0)
    await site.quotas.close(5)


async def test_names_of_tenants_and_keys_stand_nowhere_in_redis_and_everything_expires(site: Site) -> None:
    await site.quotas.admit(ACME, "request-9", BOUND)
    with site.server.client() as client:
        names = [name.decode() for name in client.keys("*")]
        assert len(names) == 4
        assert all(client.ttl(name) > 0 for name in names)
        everything = " ".join(names) + repr([client.dump(name) for name in names])
    assert not any(private in everything for private in ("acme", "key-7", "request-9"))
    assert len({name[name.index("{") : name.index("}")] for name in names}) == 1, "one slot of a cluster"


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(ValueError, match="password"):
        connect("redis://:secret@127.0.0.1:1/0", password="", timeout_s=1)


async def test_what_is_held_is_known_for_as_long_as_the_windows_that_it_is_held_of(site: Site) -> None:
    """A tenant may be idle for days: the lease is charged by whoever asks next, and must still be there then."""
    await site.quotas.admit(ACME, "r", BOUND)
    with site.server.client() as client:
        names = [name.decode() for name in client.keys("spillway:quotas:*")]
        lasts_ms = {name: client.pttl(name) for name in names}
    windows = [ms for name, ms in lasts_ms.items() if ":budget:" in name]
    held = [ms for name, ms in lasts_ms.items() if ":run:" in name or name.endswith(":leases")]
    assert (len(windows), len(held)) == (2, 2)
    assert min(held) > max(windows) - 1_000
