"""Delivers notices of ended jobs: takes what is due, sends it, notes what became of it and when to try again.

Promises: a notice is due from the moment its job ends until it was delivered, its tries are used up or its job is
forgotten, whichever processes live and die meanwhile; it may be delivered twice, under the same webhook-id. Each try is
a span in the trace of the job's submission, which holds nothing of the URL and of what is sent. At most `UNDER_WAY_MAX`
at a time. A slow webhook delays no job, and no other webhook until so many are slow.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

from opentelemetry.trace import SpanKind, StatusCode

from services.orchestrator.jobs.job_store import JobStore, JobStoreError, Notice
from services.orchestrator.jobs.retries import delivery_delay_s
from services.orchestrator.jobs.webhook_sender import Sent
from services.orchestrator.jobs.workers import GONE_S, POLL_S, Bell
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import end_tasks

__all__ = ["Courier", "NoticeSender"]

UNDER_WAY_MAX: Final = 16
LEASE_S: Final = 45.0
"""Longer than a delivery may take; so late a notice is taken up again whose deliverer died."""

POSTPONED: Final = "POSTPONED"
DELIVERED: Final = "DELIVERED"

_log = get_logger(__name__)


class NoticeSender(Protocol):
    """Tells a webhook once. Never raises."""

    async def send(self, notice: Notice) -> Sent: ...

    def close(self) -> None: ...


class Courier:
    """One process's part in it. `start` once, `close` at the end."""

    def __init__(
        self,
        store: JobStore,
        sender: NoticeSender,
        *,
        clock: Clock,
        bell: Bell,
        lease_s: float = LEASE_S,
        rng: random.Random | None = None,
        on_delivery: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._bell = bell
        self._lease_s = lease_s
        self._rng = rng or random.Random()
        self._on_delivery = on_delivery
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to deliver."""
        self._loop = asyncio.create_task(self._run(), name="jobs-courier")

    async def close(self) -> None:
        """Delivers no more. What is under way is broken off, and due again when its lease lapses."""
        await end_tasks([self._loop] if self._loop else [])
        await end_tasks(list(self._tasks))
        self._sender.close()

    async def _run(self) -> None:
        while True:
            free = UNDER_WAY_MAX - len(self._tasks)
            try:
                due = await self._store.due_notices(free, lease_s=self._lease_s) if free else []
            except JobStoreError:
                await self._clock.sleep(GONE_S)
                continue
            for notice in due:
                task = asyncio.create_task(self._deliver(notice), name="webhook")
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            await self._bell.wait(self._clock, POLL_S)

    async def _deliver(self, notice: Notice) -> None:
        tries = len(notice.job.deliveries) + 1
        with telemetry.tracer().start_as_current_span(
            "webhook",
            context=telemetry.context_of(notice.trace_parent),
            kind=SpanKind.CLIENT,
            attributes={"spillway.job_id": notice.job.job_id, "spillway.webhook.try": tries},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            sent = await self._sender.send(notice)
            outcome = _outcome(sent)
            span.set_attribute("spillway.webhook.outcome", outcome)
            if sent.delivery is not None and sent.delivery.status:
                span.set_attribute("http.response.status_code", sent.delivery.status)
                span.set_attribute("spillway.webhook.status_class", f"{sent.delivery.status // 100}xx")
            if outcome not in {POSTPONED, DELIVERED}:
                span.set_status(StatusCode.ERROR, outcome)
        if sent.delivery is None:
            again_in_s: float | None = sent.retry_after_s or POLL_S
        else:
            is_over = sent.is_final or not sent.delivery.error
            again_in_s = None if is_over else delivery_delay_s(tries, sent.retry_after_s, self._rng)
        self._on_delivery(outcome)
        try:
            await self._store.delivered(notice.job.job_id, sent.delivery, again_in_s=again_in_s)
        except JobStoreError as error:
            _log.warning("delivery_not_noted", error=str(error))  # it is delivered once more

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("webhook_failed", **describe_exception(error))
        self._bell.ring()


def _outcome(sent: Sent) -> str:
    return POSTPONED if sent.delivery is None else sent.delivery.error or DELIVERED
