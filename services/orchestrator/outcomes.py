"""How answers turned out, told to the classifier: prompts near ones that did well on a cheap tier go there again.

Promises: only what gates have said counts, and only what they can tell (`spillway.routing.proves`): an answer that was
accepted because nothing looked at it is no evidence; calls that failed, were cancelled or came too late say nothing of
a tier either. Telling is done in batches, off every caller's path,
within `FLUSH_S`; what finds the queue full or the classifier away is lost and counted. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context

from opentelemetry import trace

from services.orchestrator.hops import ClassifierHop
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.tasks import finish_tasks
from spillway.routing import Attempt, AttemptOutcome, AttemptPurpose, OutcomeSource, TierOutcome, proves

__all__ = ["OutcomeReporter", "tier_outcomes"]

BATCH_MAX = 1_000  # of classifier.proto
FLUSH_S = 1.0
# Some seconds of a busy front, about 1 MB.
QUEUED_MAX = 10_000
# Of a batch to the requests that it tells of: as many as a span holds by default.
LINKS_MAX = 128
# Nobody waits for it; a classifier that hangs only holds up the next batch.
TIMEOUT_S = 2.0

_ANSWERS = frozenset({AttemptPurpose.ANSWER, AttemptPurpose.HEDGE})


def tier_outcomes(cluster: str, attempts: Iterable[Attempt]) -> tuple[TierOutcome, ...]:
    """What the attempts of one execution say, one outcome for each tier of which the gates could tell.

    A tier that was asked twice sufficed if one of its answers did.
    """
    if not cluster:
        return ()
    sufficed: dict[str, bool] = {}
    for attempt in attempts:
        accepted = attempt.outcome is AttemptOutcome.ACCEPTED
        if not accepted and not (attempt.outcome is AttemptOutcome.REJECTED and attempt.purpose in _ANSWERS):
            continue
        proof = proves((verdict.gate, verdict.verdict) for verdict in attempt.verdicts)
        if proof is not None:
            sufficed[attempt.tier] = proof or sufficed.get(attempt.tier, False)
    return tuple(TierOutcome(cluster, tier, well, OutcomeSource.GATES) for tier, well in sufficed.items())


class OutcomeReporter:
    """A queue of outcomes and the task that empties it. `on_drop` is called with the number that was lost."""

    def __init__(
        self, classifier: ClassifierHop, clock: Clock, *, on_drop: Callable[[int], None] = lambda count: None
    ) -> None:
        self._classifier = classifier
        self._clock = clock
        self._on_drop = on_drop
        self._queued: deque[TierOutcome] = deque()
        self._told_in: deque[trace.SpanContext] = deque(maxlen=LINKS_MAX)
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def queued(self) -> int:
        """How many are not sent yet."""
        return len(self._queued)

    def offer(self, outcomes: Sequence[TierOutcome]) -> None:
        """Queues what there is room for. Returns at once.

        The batch that they leave with is a trace of its own, with a link to the current span.
        """
        if outcomes and (told_in := trace.get_current_span().get_span_context()).is_valid:
            self._told_in.append(told_in)
        room = 0 if self._closed else QUEUED_MAX - len(self._queued)
        self._queued.extend(outcomes[:room])
        if len(outcomes) > room:
            self._on_drop(len(outcomes) - room)
        if len(self._queued) >= BATCH_MAX:
            self._due.set()
        if self._queued and (self._task is None or self._task.done()):
            # In no request's context: a batch is of many requests.
            self._task = asyncio.get_running_loop().create_task(self._run(), name="outcomes", context=Context())

    async def close(self, timeout_s: float) -> None:
        """Sends what is queued; what that leaves after `timeout_s` is lost."""
        self._closed = True
        self._due.set()
        if self._task is not None and not self._task.done():
            await finish_tasks([self._task], timeout_s)
        if self._queued:
            self._on_drop(len(self._queued))
            self._queued.clear()

    async def _run(self) -> None:
        while self._queued:
            await self._until_due()
            batch = [self._queued.popleft() for _ in range(min(BATCH_MAX, len(self._queued)))]
            arrived = False
            try:
                with telemetry.tracer().start_as_current_span("outcomes", links=[*map(trace.Link, self._told_in)]):
                    self._told_in.clear()
                    arrived = await self._classifier.record_outcomes(batch, timeout_s=TIMEOUT_S)
            finally:
                if not arrived:
                    self._on_drop(len(batch))

    async def _until_due(self) -> None:
        """Until a batch is full, or the first of it has waited long enough."""
        if len(self._queued) < BATCH_MAX and not self._closed:
            self._due.clear()
            waits = {
                asyncio.ensure_future(self._due.wait()),
                asyncio.ensure_future(self._clock.sleep(FLUSH_S)),
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
