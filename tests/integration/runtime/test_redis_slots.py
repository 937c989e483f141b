"""Which node of a cluster is believed, when some say what is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.runtime.clock import FakeClock
from services.runtime.redis_places import RedisPlaces
from spillway.configuration.redis_url import Address, parse_redis_url
from tests.support.fake_sentinel import FakeSentinel, fake_sentinels

PLACE, OTHER = ("127.0.0.1", 7_001), ("127.0.0.1", 7_002)
FIRST, SECOND = "bar", "foo"  # in slots 5,061 and 12,182
MIDDLE, LAST = 8_192, 16_383


def said(*ranges: tuple[int, int, bytes]) -> bytes:
    rows = (b"*3\r\n:%d\r\n:%d\r\n%s" % each for each in ranges)
    return b"*%d\r\n" % len(ranges) + b"".join(rows)


def at(host: bytes, port: int) -> bytes:
    return b"*2\r\n$%d\r\n%s\r\n:%d\r\n" % (len(host), host, port)


def whole(place: Address) -> bytes:
    return said((0, LAST, at(place[0].encode(), place[1])))


@asynccontextmanager
async def cluster(*replies: bytes) -> AsyncIterator[RedisPlaces]:
    async with fake_sentinels(len(replies)) as nodes:
        for node, reply in zip(nodes, replies, strict=True):
            node.garbled = reply
        places = RedisPlaces(parse_redis_url(url_of(nodes)), password="", clock=FakeClock(), tags=(FIRST, SECOND))
        try:
            yield places
        finally:
            await places.close()


def url_of(nodes: list[FakeSentinel]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


GARBLED = {
    "no primary": said((0, LAST, b"$-1\r\n")),
    "an empty primary": said((0, LAST, b"*0\r\n")),
    "a short row": b"*1\r\n*2\r\n:0\r\n:16383\r\n",
    "no list": b"+OK\r\n",
    "nothing": b"$-1\r\n",
    "a number": b":5\r\n",
    "an error": b"-ERR no\r\n",
    "an empty list": b"*0\r\n",
    "no slot": b"*1\r\n*3\r\n+x\r\n:16383\r\n" + at(b"127.0.0.1", 7_003),
    "no text": said((0, LAST, at(b"\xff", 7_003))),
    "a host without a name": said((0, LAST, at(b"?", 7_003))),
    "a host that cannot be looked up": said((0, LAST, at(b"a..b", 7_003))),
    "no port": said((0, LAST, at(b"127.0.0.1", 0))),
    "a port too large": said((0, LAST, at(b"127.0.0.1", 65_536))),
}


@pytest.mark.parametrize("reply", GARBLED.values(), ids=GARBLED)
async def test_a_node_that_says_what_is_no_address_hides_no_other(reply: bytes) -> None:
    async with cluster(reply, whole(PLACE), whole(OTHER)) as places:
        assert [await places.place(number) for number in range(2)] == [PLACE, PLACE]


async def test_a_node_that_knows_of_some_places_hides_no_other() -> None:
    some = said((0, MIDDLE, at(b"127.0.0.1", PLACE[1])), (MIDDLE + 1, LAST, at(b"?", PLACE[1])))
    async with cluster(some, whole(OTHER)) as places:
        assert [await places.place(number) for number in range(2)] == [PLACE, OTHER]


async def test_a_node_that_does_not_know_its_own_name_is_where_it_was_asked() -> None:
    async with cluster(said((0, LAST, at(b"", 7_003)))) as places:
        assert await places.place() == ("127.0.0.1", 7_003)
