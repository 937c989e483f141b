"""Decisions and grades on their way to the ledger: two bounded queues, and a task for each that empties it in batches.

Promises: `offer` never waits and never fails; nothing leaves a queue before the ledger has acknowledged it, so a batch
that it did not acknowledge is sent again (it is kept once all the same); a full queue drops what is offered, never what
waits. Every item ends as exactly one of: acknowledged, or dropped and counted. One that the ledger refuses as wrong is
dropped alone, not with its batch. A ledger that is away is asked less and less often, at least every BACKOFF_S_MAX, and
with a single item until it is back. Who must know that what was offered has left asks `sent`, which hurries it.
For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from opentelemetry import trace

from services.orchestrator.ledger_hop import LedgerHop, Receipt
from services.orchestrator.record import DecisionRecord
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.tasks import finish_tasks
from spillway.routing import Grade

__all__ = ["BATCH_MAX", "FLUSH_S", "LedgerReporter", "Outbox"]

BATCH_MAX: Final = 500
FLUSH_S: Final = 1.0
# Nobody waits for it; a ledger that hangs only holds up the next batch.
TIMEOUT_S: Final = 5.0
BACKOFF_S: Final = 0.5
BACKOFF_S_MAX: Final = 10.0
# At the end, when there is little time left.
BACKOFF_CLOSING_S: Final = 0.2

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Send(Protocol[T_contra]):
    """A call that hands over a batch."""

    async def __call__(self, batch: Sequence[T_contra], /, *, timeout_s: float) -> Receipt: ...


class Outbox(Generic[T]):
    """One queue and its task. `on_drop` is called with the number that was lost."""

    def __init__(
        self, name: str, send: Send[T], clock: Clock, *, queued_max: int, on_drop: Callable[[int], None]
    ) -> None:
        self._name = name
        self._send = send
        self._clock = clock
        self._queued_max = queued_max
        self._on_drop = on_drop
        self._queued: deque[tuple[T, trace.SpanContext]] = deque()
        self._due = asyncio.Event()
        self._offered = 0
        self._hurried_to = 0  # the number of the last item that somebody waits for
        self._left = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._is_away = False
        self._batch_max = BATCH_MAX
        self.acknowledged = 0
        self.dropped = 0

    @property
    def queued(self) -> int:
        """How many are not acknowledged yet."""
        return len(self._queued)

    def offer(self, item: T) -> bool:
        """Queues it if there is room; False when it was dropped. Returns at once.

        The batch that it leaves with is a trace of its own, with a link to the current span.
        """
        if self._closing.is_set() or len(self._queued) >= self._queued_max:
            self._drop(1)
            return False
        self._offered += 1
        self._queued.append((item, trace.get_current_span().get_span_context()))
        if len(self._queued) >= BATCH_MAX:
            self._due.set()
        if self._task is None or self._task.done():
            # In no request's context: a batch is of many requests.
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name, context=Context())
        return True

    async def sent(self, timeout_s: float) -> bool:
        """Whether what has been offered so far has left the queue, within `timeout_s`. At once while nobody answers."""
        number = self._hurried_to = self._offered
        self._due.set()
        try:
            async with asyncio.timeout(timeout_s), self._left:
                await self._left.wait_for(lambda: self._is_away or self._offered - len(self._queued) >= number)
        except TimeoutError:
            return False
        return self._offered - len(self._queued) >= number

    async def close(self, timeout_s: float) -> None:
        """Sends what is queued; what is not acknowledged after `timeout_s` is lost. Nothing is taken any more."""
        self._closing.set()
        if self._task is not None and not self._task.done():
            await finish_tasks([self._task], timeout_s)
        self._drop(len(self._queued))
        self._queued.clear()

    def _drop(self, count: int) -> None:
        if count:
            self.dropped += count
            self._on_drop(count)

    async def _run(self) -> None:
        backoff_s = BACKOFF_S
        while self._queued:
            if self._batch_max == BATCH_MAX:
                await self._until(self._due, FLUSH_S, ready=len(self._queued) >= BATCH_MAX or self._is_hurried)
            batch = list(islice(self._queued, self._batch_max))
            with telemetry.tracer().start_as_current_span(self._name, links=_links(batch)):
                receipt = await self._send([item for item, _ in batch], timeout_s=TIMEOUT_S)
            if receipt is Receipt.AWAY:
                self._is_away = True
                await self._tell()
                self._batch_max = 1  # translating a whole batch in vain would take time from requests
                if self._closing.is_set():
                    await self._clock.sleep(BACKOFF_CLOSING_S)
                else:
                    await self._until(None, backoff_s)
                backoff_s = min(BACKOFF_S_MAX, backoff_s * 2)
                continue
            backoff_s, self._is_away = BACKOFF_S, False
            if receipt is Receipt.REFUSED and len(batch) > 1:
                self._batch_max = len(batch) // 2  # to find the one that is wrong
                continue
            for _ in batch:
                self._queued.popleft()
            if receipt is Receipt.KEPT:
                self.acknowledged += len(batch)
                self._batch_max = min(BATCH_MAX, self._batch_max * 2)
            else:
                self._drop(1)
            await self._tell()

    @property
    def _is_hurried(self) -> bool:
        return self._offered - len(self._queued) < self._hurried_to

    async def _tell(self) -> None:
        async with self._left:
            self._left.notify_all()

    async def _until(self, event: asyncio.Event | None, seconds: float, *, ready: bool = False) -> None:
        """Until the event, or the end of the time, or the beginning of the end."""
        if ready or self._closing.is_set():
            return
        waits = [asyncio.ensure_future(self._closing.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        if event is not None:
            event.clear()
            waits.append(asyncio.ensure_future(event.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()


def _links(batch: Sequence[tuple[object, trace.SpanContext]]) -> list[trace.Link]:
    """To the requests of a batch, or as many of them as a span holds."""
    return [trace.Link(context) for _, context in batch if context.is_valid]


class LedgerReporter:
    """What tells the ledger. `on_drop` is called with "ledger_record" or "ledger_grade" and how many were lost.

    At most `queued_max` of either wait.
    """

    def __init__(
        self,
        hop: LedgerHop,
        clock: Clock,
        *,
        queued_max: int,
        on_drop: Callable[[str, int], None] = lambda kind, count: None,
    ) -> None:
        self.records: Outbox[DecisionRecord] = Outbox(
            "ledger-records",
            hop.record_decisions,
            clock,
            queued_max=queued_max,
            on_drop=lambda count: on_drop("ledger_record", count),
        )
        self.grades: Outbox[Grade] = Outbox(
            "ledger-grades",
            hop.record_grades,
            clock,
            queued_max=queued_max,
            on_drop=lambda count: on_drop("ledger_grade", count),
        )

    def offer(self, record: DecisionRecord) -> bool:
        """Sends a record soon; False when it was dropped. Returns at once."""
        return self.records.offer(record)

    def offer_grade(self, grade: Grade) -> bool:
        """Sends a grade soon; False when it was dropped. Returns at once."""
        return self.grades.offer(grade)

    async def close(self, timeout_s: float) -> None:
        """Sends what is queued; what the ledger has not acknowledged after `timeout_s` is lost, and counted."""
        await asyncio.gather(self.records.close(timeout_s), self.grades.close(timeout_s))
