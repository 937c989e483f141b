"""Single flight: of requests that are the same and under way at once, one asks the models and all share its answer.

Promises: requests share only when they are equal in everything that changes the answer or the plan, and belong to the
same tenant, namespace, template and knowledge. What is shared is an answer that the cache has just taken: never one
that was refused, unproven, or of a call that failed. When the one that leads fails, is cancelled or answers in vain,
the next takes over, one after another; whoever has waited too long goes on by itself. Nobody ever fails because of
another.

A request boards before its first lookup and leaves when it has ended, so that there is no gap between a lookup that
missed and an answer that was stored meanwhile. For one event loop; not for several processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from services.runtime.clock import Clock
from spillway.routing import CachedAnswer, CompletionRequest

__all__ = ["Flights", "Seat", "flight_key"]

# Flights under way. Beyond it requests go by themselves: a flight costs memory, and lacking one costs only money.
FLIGHTS_MAX = 4_096
# When so many have led to an answer that could not be proved, the next ones will hardly fare better: all may go.
IN_VAIN_MAX = 2


def flight_key(request: CompletionRequest, config_version: str) -> Hashable:
    """Equal exactly for requests that may share: these values themselves, not an encoding of them that could clash.

    Besides what changes the answer it has what rules may look at and all that the caller may ask for, and the
    configuration that decides. Who asks does not count inside a tenant, no more than in the cache.
    """
    return (
        config_version,
        request.tenant,
        request.namespace,
        request.template_version,
        request.knowledge_version,
        request.chat,
        request.options,
        request.endpoint,
        request.user_tier,
        request.tags,
    )


class _Flight:
    """What those aboard have in common. `waiting` has them in the order in which they came."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.aboard = 0
        self.leader: Seat | None = None
        self.waiting: dict[Seat, asyncio.Future[None]] = {}
        self.answer: CachedAnswer | None = None
        self.is_offered = False
        self.is_over = False
        self.in_vain = 0

    def wake_all(self) -> None:
        for woken in self.waiting.values():
            if not woken.done():
                woken.set_result(None)
        self.waiting.clear()


class Flights:
    """The flights of one process."""

    def __init__(self, flights_max: int = FLIGHTS_MAX) -> None:
        self._flights_max = flights_max
        self._flights: dict[Hashable, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def board(self, key: Hashable) -> Seat | None:
        """A seat, to be left in the end; None when there are too many flights."""
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._flights_max:
                return None
            flight = self._flights[key] = _Flight(key)
        flight.aboard += 1
        return Seat(self, flight)

    def close(self, flight: _Flight) -> None:
        """Whoever comes now begins another one."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


class Seat:
    """One request's place in a flight. Made by `Flights.board`.

    `is_late`: what the flight comes to may have been stored, and invalidated, before this one boarded.
    """

    def __init__(self, flights: Flights, flight: _Flight) -> None:
        self._flights = flights
        self._flight = flight
        self._left = False
        self.is_late = flight.is_offered

    def must_wait(self, *, may_lead: bool = True) -> bool:
        """Whether another one leads; when nobody does and this one may, it does from now on."""
        flight = self._flight
        if flight.is_over or flight.leader is self:
            return False
        if flight.leader is None:
            flight.leader = self if may_lead else None
            return False
        return True

    @property
    def leads(self) -> bool:
        """Whether the others wait for this one."""
        return self._flight.leader is self

    @property
    def answer(self) -> CachedAnswer | None:
        """What there is to share."""
        return self._flight.answer

    async def wait(self, clock: Clock, timeout_s: float) -> None:
        """Returns when there is an answer, when it is this one's turn to lead, or when it should go on by itself."""
        flight = self._flight
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flight.waiting[self] = woken
        patience = asyncio.ensure_future(clock.sleep(timeout_s))
        try:
            await asyncio.wait({woken, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            flight.waiting.pop(self, None)

    def offer(self) -> None:
        """The cache is asked to take an answer from now on: whoever boards later is late."""
        self._flight.is_offered = True

    def land(self, answer: CachedAnswer) -> None:
        """There is an answer for everybody aboard, and in the cache for everybody else."""
        self._flight.answer = answer
        self.release()

    def release(self) -> None:
        """Nobody waits for anybody any more."""
        self._flight.is_over = True
        self._flights.close(self._flight)
        self._flight.wake_all()

    def leave(self, *, in_vain: bool = False) -> None:
        """Ends this one's part; may be called more than once. `in_vain`: it has an answer, and none to share."""
        if self._left:
            return
        self._left = True
        flight = self._flight
        flight.aboard -= 1
        if in_vain:
            flight.in_vain += 1
            if flight.in_vain >= IN_VAIN_MAX:
                self.release()
        if flight.leader is self:
            flight.leader = next(iter(flight.waiting), None)
            if flight.leader is not None:
                flight.waiting.pop(flight.leader).set_result(None)
        if not flight.aboard:
            self._flights.close(flight)
