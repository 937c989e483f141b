"""Where the primaries are: the one that sentinels name, or those of a cluster.

Promises: a place is looked up when it is first needed, and after `suspect`, in the background, by one task, at most
every `LOOKUP_PAUSE_S`; nobody's call is repeated because of it. The sentinels' primary is looked up again every
`LOOKUP_EVERY_S` while it is used or watched, also when all is well: one that is cut off from its sentinels does not
know it; and before it is used again after `LOOKUP_AGE_S_MAX` in which nobody asked. While it is watched no call waits
for that, though no sentinel should answer any more. All sentinels are asked at once, and the one that heard of the
latest promotion is believed, whoever it is: one that is cut off from the others goes on naming the old primary. Of a
cluster one node after the other is asked until all places are known, those that were heard of too when those of the URL
are gone. A reply that is none, or names no address, hides no other, and no call fails in another way because of it.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.runtime.clock import Clock
from services.runtime.redis_connections import node_options
from services.runtime.tasks import end_tasks
from spillway.configuration.redis_url import NODES_MAX, Address, RedisUrl, Topology, is_address

__all__ = ["LOOKUP_EVERY_S", "RedisPlaces", "disconnect"]

LOOKUP_TIMEOUT_S: Final = 0.5
"""For asking one sentinel or node where things are."""

LOOKUP_PAUSE_S: Final = 0.2
LOOKUP_EVERY_S: Final = 1.0
LOOKUP_AGE_S_MAX: Final = 2.0
"""An older answer is not used any more before the sentinels were asked again. More than `LOOKUP_EVERY_S` and
`LOOKUP_TIMEOUT_S` together: what is watched does not get there."""

STRAGGLER_S: Final = 0.05
"""When more than half of the sentinels have answered, the others get so much longer."""

_UNWELL: Final = frozenset({"s_down", "o_down", "disconnected"})
_GONE: Final = (RedisError, TimeoutError, OSError)
_GARBLED: Final = (ValueError, TypeError, AttributeError, LookupError)
"""What reading a reply of another shape raises."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What a sentinel says: the primary, by which promotion it is that (they are counted), and whether it sees it."""

    place: Address
    epoch: int
    is_well: bool


class RedisPlaces:
    """`tags`: of a cluster, for each place the hash tag, or the key, that lies there. Sentinels have one place.

    `looked_up` is awaited after each lookup. `close` at the end.
    """

    def __init__(
        self,
        url: RedisUrl,
        *,
        password: str,
        clock: Clock,
        tags: Sequence[str] = ("",),
        looked_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.url: Final = url
        self.password: Final = password
        self._clock = clock
        self._slots = [key_slot(tag.encode()) for tag in tags]
        self._looked_up = looked_up
        self._places: dict[int, Address] = {}
        self._nodes = url.nodes  # whom to ask, the one that answered last first
        self._lookup: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._looked_up_at_s = float("-inf")
        self._epoch = 0  # of the sentinels' primary

    async def place(self, number: int = 0) -> Address:
        """Where it is, as far as is known. Raises RedisConnectionError when nobody knew."""
        age_s = self._age_s() if self.url.topology is Topology.SENTINEL else 0.0
        if number not in self._places or age_s >= LOOKUP_AGE_S_MAX:
            await asyncio.wait({self._start()})
        elif age_s >= LOOKUP_EVERY_S:
            self._start()
        place = self._places.get(number)
        if place is None:
            raise RedisConnectionError("no server is known to be the primary")
        return place

    def watch(self) -> None:
        """From now on, until `close`, the sentinels are asked by themselves; of no effect the second time, and for a
        cluster, which tells of a move when it is asked for something.
        """
        if self._watch is None and self.url.topology is Topology.SENTINEL:
            self._watch = asyncio.create_task(self._keep_looking(), name="redis-watch")

    def known(self) -> frozenset[Address]:
        """All places, as far as they are known."""
        return frozenset(self._places.values())

    def suspect(self) -> None:
        """A call failed: perhaps a server has moved."""
        if self._age_s() >= LOOKUP_PAUSE_S:
            self._start()

    async def close(self) -> None:
        """Ends the watch, and a lookup that is under way."""
        if self._watch is not None:
            await end_tasks([self._watch])
        if self._lookup is not None:
            await end_tasks([self._lookup])

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._looked_up_at_s

    def _start(self) -> asyncio.Task[None]:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(self._look_up(), name="redis-lookup")
        return self._lookup

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.wait({self._start()})
            await self._clock.sleep(LOOKUP_EVERY_S)

    async def _look_up(self) -> None:
        """Never raises: what is not found out stays as it was."""
        if self.url.topology is Topology.SENTINEL:
            await self._look_up_primary()
        else:
            await self._look_up_slots()
        self._looked_up_at_s = self._clock.monotonic()
        if self._looked_up is not None:
            await self._looked_up()

    async def _look_up_primary(self) -> None:
        """Asks all sentinels at once."""
        asking = [asyncio.create_task(self._ask_sentinel(node), name="redis-sentinel") for node in self.url.nodes]
        try:
            named = await _answers_of_most(asking)
        finally:
            await end_tasks(asking)
        if not named:
            return
        latest = max(named, key=lambda each: (each.epoch, each.is_well))
        # A few that know of less than was known are those that are cut off; when most do, they were set up anew.
        if latest.epoch >= self._epoch or _are_most(named, self.url.nodes):
            self._epoch = latest.epoch
            self._places[0] = latest.place

    async def _look_up_slots(self) -> None:
        """Asks one node after the other until all places are known. What an earlier one says is what counts."""
        found: dict[int, Address] = {}
        known: dict[Address, None] = {}
        for node in self._nodes:
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                    places, nodes = await self._ask_node(node)
            except (*_GONE, *_GARBLED):
                continue
            if places:
                known |= dict.fromkeys((node, *nodes))
                found = places | found
            if len(found) == len(self._slots):
                break
        self._nodes = tuple(known | dict.fromkeys(self._nodes))[:NODES_MAX]
        self._places.update(found)

    async def _ask_sentinel(self, node: Address) -> _Named | None:
        """None of one that does not answer, or does not know the name."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S), self._asked(node) as sentinel:
                # In this order, so that the place is never older than the epoch; in the middle of a promotion the
                # reply to MASTER names the old place beside the new epoch.
                about = _flat(await _answer(sentinel, "SENTINEL", "MASTER", self.url.master))
                found = await _answer(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.url.master)
                if not found:
                    return None
                host, port = found
                place = (host.decode(), int(port))
                is_well = _UNWELL.isdisjoint(about.get("flags", "").split(","))
                return _Named(place, int(about.get("config-epoch", "0")), is_well) if is_address(*place) else None
        except (*_GONE, *_GARBLED):
            return None

    async def _ask_node(self, node: Address) -> tuple[dict[int, Address], tuple[Address, ...]]:
        """Where the places are, as far as it says, and who else may be asked."""
        async with self._asked(node) as client:
            ranges = await _answer(client, "CLUSTER", "SLOTS")
        primaries = [
            (int(first), int(last), ((primary[0] or b"").decode() or node[0], int(primary[1])))
            for first, last, primary, *_ in ranges
        ]
        primaries = [each for each in primaries if is_address(*each[2])]  # a node that nobody can name is "?"
        places = {
            number: place
            for number, slot in enumerate(self._slots)
            for first, last, place in primaries
            if first <= slot <= last
        }
        return places, tuple(place for *_, place in primaries)

    @contextlib.asynccontextmanager
    async def _asked(self, node: Address) -> AsyncIterator[Redis]:
        options = node_options(self.url, password=self.password, timeout_s=LOOKUP_TIMEOUT_S, to_ask_the_way=True)
        client = Redis(connection_pool=ConnectionPool(host=node[0], port=node[1], max_connections=1, **options))
        try:
            yield client
        finally:
            await disconnect(client)


async def _answers_of_most(asking: Collection[asyncio.Task[_Named | None]]) -> list[_Named]:
    """Those of all, in their order, or what had come a moment after more than half of them."""
    waiting = set(asking)
    named: list[_Named] = []
    while waiting:
        is_enough = _are_most(named, asking)
        done, waiting = await asyncio.wait(
            waiting, timeout=STRAGGLER_S if is_enough else None, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
        named = [answer for task in asking if task.done() and (answer := task.result()) is not None]
    return named


def _are_most(named: Collection[_Named], asked: Collection[object]) -> bool:
    return 2 * len(named) > len(asked)


def _flat(reply: Any) -> dict[str, str]:
    """Names and values in turn, as a dict."""
    words = [word.decode("utf-8", "replace") for word in reply]
    return dict(zip(words[::2], words[1::2], strict=False))


async def _answer(client: Redis, *words: str) -> Any:
    """The plain reply, which redis-py shapes only when a command is sent as one word."""
    return await cast("Any", client).execute_command(*words)


async def disconnect(client: Redis) -> None:
    """Lets go of all connections, whatever they say to it."""
    with contextlib.suppress(*_GONE):
        await client.aclose()
        await client.connection_pool.disconnect()
