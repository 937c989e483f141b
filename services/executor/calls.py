"""The calls of one execution that are under way: each a task, all telling one inbox.

Promises: a call that was begun is ended, with its lease given back, its cost known and its attempt reported, however it
ends: by itself, cancelled, or with the caller who leaves. Pieces of a stream wait for their reader: at most
`PIECES_MAX` of all calls together.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.flow import Flow
from services.executor.gates.composite import Judgement
from services.executor.lease import Lease
from services.executor.opinions import Panel
from services.executor.outcome import FailureKind
from services.executor.steps import Call
from services.runtime.clock import Clock
from spillway.chat import ChatRequest

__all__ = ["PIECES_MAX", "Calls", "Ended", "Event", "Flight", "Piece", "Tick", "Written"]

PIECES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of a stream."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Written:
    """A stream has been written to its end; what its gates ask others may still be under way."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A call has ended, with all that its gates asked."""

    number: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that was waited for has come."""


Event = Piece | Written | Ended | Tick


@dataclass(slots=True)
class Flight:
    """One call under way. With a judgement it was answered: by `stand_in` if there is one, else by `attempt`."""

    call: Call
    chat: ChatRequest
    attempt: AttemptInProgress
    lease: Lease
    panel: Panel
    flow: Flow | None = None
    judgement: Judgement | None = None
    stand_in: AttemptInProgress | None = None
    task: asyncio.Task[None] | None = None

    @property
    def spent_nanousd(self) -> int:
        """What it has cost with all that its gates asked; whole once it has ended."""
        return self.attempt.cost_nanousd + self.panel.cost_nanousd


class Calls:
    """For one execution, on one event loop. Close it."""

    def __init__(self, attempts: Attempts, clock: Clock) -> None:
        self._attempts = attempts
        self._clock = clock
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._places = asyncio.Semaphore(PIECES_MAX)
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at_s = 0.0
        self.flights: dict[int, Flight] = {}

    def start(self, flight: Flight) -> None:
        """Begins the call."""
        number = flight.call.number
        self.flights[number] = flight
        flight.task = asyncio.create_task(self._make(flight))
        flight.task.add_done_callback(lambda _: self._inbox.put_nowait(Ended(number)))

    async def event(self, for_s: float | None) -> Event:
        """What happens next, but no later than after `for_s` seconds; of flights that are still wanted."""
        if for_s is not None:
            self._set_alarm(for_s)
        while True:
            event = await self._inbox.get()
            if isinstance(event, Piece):
                self._places.release()
            if isinstance(event, Tick) or event.number in self.flights:
                return event

    async def end(self, number: int) -> Flight:
        """Cancels the call, unless it has ended, and lets go of it. Raises what its task raised."""
        flight = self.flights.pop(number)
        task = flight.task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            self._attempts.abandon(flight.attempt, flight.lease)
            if not task.cancelled():
                task.result()
        return flight

    async def close(self) -> None:
        """Ends everything."""
        tasks = [flight.task for flight in self.flights.values() if flight.task is not None]
        if self._alarm is not None:
            tasks.append(self._alarm)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for flight in self.flights.values():
            self._attempts.abandon(flight.attempt, flight.lease)
        self.flights.clear()

    async def _make(self, flight: Flight) -> None:
        call, attempt = flight.call, flight.attempt
        async with flight.panel as panel:
            if flight.flow is None:
                await self._attempts.complete(attempt, flight.lease, flight.chat, call.timeout_s)
            else:
                await self._read(flight)
            if attempt.answer is not None:
                flight.judgement = await panel.judge(attempt.answer)
            elif (
                attempt.failure is not None and attempt.failure.kind is not FailureKind.REJECTED and _is_unseen(flight)
            ):
                stand_in = await panel.stand_in()
                if stand_in is not None and stand_in.answer is not None:
                    flight.judgement = await panel.judge(stand_in.answer)
                    flight.stand_in = stand_in

    async def _read(self, flight: Flight) -> None:
        number = flight.call.number
        stream = self._attempts.stream(flight.attempt, flight.lease, flight.chat, flight.call.flow_timeout_s)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                await self._places.acquire()
                self._inbox.put_nowait(Piece(number, delta.text))
        self._inbox.put_nowait(Written(number))

    def _set_alarm(self, for_s: float) -> None:
        at_s = self._clock.monotonic() + for_s
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at_s <= at_s:
                return
            self._alarm.cancel()
        self._alarm_at_s = at_s
        self._alarm = asyncio.create_task(self._ring(for_s))

    async def _ring(self, for_s: float) -> None:
        await self._clock.sleep(for_s)
        self._inbox.put_nowait(Tick())


def _is_unseen(flight: Flight) -> bool:
    return flight.flow is None or not flight.flow.is_committed
