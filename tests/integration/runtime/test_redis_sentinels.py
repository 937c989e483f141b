"""Which of several sentinels is believed, and when they are asked again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.runtime import redis_places
from services.runtime.clock import FakeClock
from services.runtime.redis_client import find_places
from services.runtime.redis_places import LOOKUP_AGE_S_MAX, LOOKUP_EVERY_S, LOOKUP_TIMEOUT_S, RedisPlaces
from tests.support.fake_sentinel import FakeSentinel, fake_sentinels
from tests.support.waiting import until

OLD, NEW = ("127.0.0.1", 1), ("127.0.0.1", 2)
THREE = 3


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sentinels() -> AsyncIterator[list[FakeSentinel]]:
    async with fake_sentinels(THREE) as made:
        yield made


@asynccontextmanager
async def places_of(sentinels: list[FakeSentinel], clock: FakeClock) -> AsyncIterator[RedisPlaces]:
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    places = find_places(f"redis+sentinel://{hosts}/main", setting="some.url", password="", clock=clock)
    assert places is not None
    try:
        yield places
    finally:
        await places.close()


def promoted(*sentinels: FakeSentinel, epoch: int = 2) -> None:
    for sentinel in sentinels:
        sentinel.place, sentinel.epoch = NEW, epoch


@pytest.mark.parametrize("order", list(itertools.permutations(range(THREE))))
async def test_a_sentinel_that_is_cut_off_from_the_others_decides_for_nobody(
    sentinels: list[FakeSentinel], clock: FakeClock, order: tuple[int, ...]
) -> None:
    cut_off, *others = sentinels
    promoted(*others)
    async with places_of([sentinels[at] for at in order], clock) as places:
        assert await places.place() == NEW
        for _ in range(3):
            clock.advance(LOOKUP_AGE_S_MAX)
            assert await places.place() == NEW
    assert cut_off.asked


async def test_what_a_few_sentinels_say_undoes_no_promotion(sentinels: list[FakeSentinel], clock: FakeClock) -> None:
    cut_off, *others = sentinels
    promoted(*others)
    async with places_of(sentinels, clock) as places:
        assert await places.place() == NEW
        for other in others:
            other.silent = True
        clock.advance(LOOKUP_AGE_S_MAX)
        asked = cut_off.asked
        assert await places.place() == NEW
        assert cut_off.asked > asked


async def test_sentinels_that_were_set_up_anew_are_believed(sentinels: list[FakeSentinel], clock: FakeClock) -> None:
    promoted(*sentinels, epoch=9)
    async with places_of(sentinels, clock) as places:
        assert await places.place() == NEW
        for sentinel in sentinels:
            sentinel.place, sentinel.epoch = OLD, 0
        clock.advance(LOOKUP_AGE_S_MAX)
        assert await places.place() == OLD


async def test_of_two_sentinels_of_one_promotion_the_one_that_sees_the_primary_is_believed(
    sentinels: list[FakeSentinel], clock: FakeClock
) -> None:
    for sentinel in sentinels[:2]:
        sentinel.flags = "s_down,o_down,master,disconnected"
    sentinels[2].place = NEW
    async with places_of(sentinels, clock) as places:
        assert await places.place() == NEW


async def test_in_the_middle_of_a_promotion_its_leader_names_the_successor(
    sentinels: list[FakeSentinel], clock: FakeClock
) -> None:
    promoted(sentinels[0])
    sentinels[0].while_promoting = OLD
    async with places_of(sentinels, clock) as places:
        assert await places.place() == NEW


async def test_a_sentinel_that_says_nothing_holds_nobody_up(sentinels: list[FakeSentinel], clock: FakeClock) -> None:
    sentinels[0].silent = True
    async with places_of(sentinels, clock) as places:
        loop = asyncio.get_running_loop()
        for _ in range(20):  # of which a busy machine may spoil some
            began_s = loop.time()
            assert await places.place() == OLD
            if loop.time() - began_s < LOOKUP_TIMEOUT_S:
                return
            clock.advance(LOOKUP_AGE_S_MAX)
    pytest.fail("the silent one was waited for")


@pytest.mark.parametrize(
    "garbled",
    [
        b"+OK\r\n",
        b":7\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"*2\r\n$1\r\na\r\n$-1\r\n",
        b"*2\r\n$1\r\na\r\n$6\r\n666666\r\n",
        b"-ERR no\r\n",
    ],
)
async def test_a_reply_that_is_none_hides_no_other(
    sentinels: list[FakeSentinel], clock: FakeClock, garbled: bytes
) -> None:
    promoted(*sentinels)
    sentinels[0].garbled = garbled
    async with places_of(sentinels, clock) as places:
        assert await places.place() == NEW


@pytest.mark.parametrize("place", [("a..b", 1), ("?", 1), ("", 1), ("127.0.0.1", 0), ("127.0.0.1", 65_536)])
async def test_a_sentinel_that_names_no_address_hides_no_other(
    sentinels: list[FakeSentinel], clock: FakeClock, place: tuple[str, int]
) -> None:
    sentinels[0].place, sentinels[0].epoch = place, 9
    async with places_of(sentinels, clock) as places:
        assert await places.place() == OLD


async def test_one_sentinel_that_answers_is_enough(sentinels: list[FakeSentinel], clock: FakeClock) -> None:
    for sentinel in sentinels[:2]:
        sentinel.silent = True
    async with places_of(sentinels, clock) as places:
        assert await places.place() == OLD


async def test_while_it_is_used_the_primary_is_looked_up_again_beside_the_calls(
    sentinels: list[FakeSentinel], clock: FakeClock
) -> None:
    async with places_of(sentinels, clock) as places:
        assert await places.place() == OLD
        promoted(*sentinels)
        clock.advance(LOOKUP_EVERY_S)
        assert await places.place() == OLD, "nobody waits for it"
        await until(lambda: places.known() == {NEW}, what="the successor is found though no call failed")


async def test_who_was_idle_asks_before_the_first_call(sentinels: list[FakeSentinel], clock: FakeClock) -> None:
    async with places_of(sentinels, clock) as places:
        assert await places.place() == OLD
        promoted(*sentinels)
        clock.advance(LOOKUP_AGE_S_MAX)
        assert await places.place() == NEW


async def test_when_no_sentinel_answers_any_more_the_last_known_primary_is_used(
    sentinels: list[FakeSentinel], clock: FakeClock
) -> None:
    async with places_of(sentinels, clock) as places:
        assert await places.place() == OLD
        for sentinel in sentinels:
            sentinel.silent = True
        clock.advance(LOOKUP_AGE_S_MAX)
        assert await places.place() == OLD


async def test_of_a_primary_that_is_watched_no_call_waits_for_sentinels_that_fell_silent(
    sentinels: list[FakeSentinel], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with places_of(sentinels, clock) as places:
        places.watch()

        async def has_looked() -> bool:
            return clock.sleepers == 1

        await until(has_looked, what="it is looked up though nobody calls")
        for sentinel in sentinels:
            sentinel.silent = True
        monkeypatch.setattr(redis_places, "LOOKUP_TIMEOUT_S", 0.05)
        for _ in range(4):
            asked = sentinels[0].asked
            clock.advance(LOOKUP_EVERY_S)
            await asyncio.sleep(0)
            await until(has_looked, what="they were asked in vain")
            assert sentinels[0].asked > asked
            calling = places.place()
            with pytest.raises(StopIteration) as ended:
                calling.send(None)
            assert ended.value.value == OLD
