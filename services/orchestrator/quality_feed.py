"""Keeps what is known of the targets' quality up to date.

Promises: asks in the background, never on a request's path: requests get what it heard last. A ledger that does not
answer changes nothing, and is asked again soon, then less and less often. What was measured beside another flagship or
by another judge is dropped at once, and nothing is known until there is an answer to the new question. For one event
loop.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final, Protocol

from services.orchestrator.ledger_hop import QualityQuestion
from services.orchestrator.policy.quality import QualityTable
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks
from spillway.routing import MeasuredQuality

__all__ = ["POLL_S", "RETRY_S", "QualityFeed", "QualitySource"]

POLL_S: Final = 60.0
RETRY_S: Final = 1.0  # doubled after each failure, up to POLL_S
TIMEOUT_S: Final = 10.0  # it reads a month of grades, and nobody waits for it
_log = get_logger(__name__)


class QualitySource(Protocol):
    """Whoever has measured: the ledger."""

    async def measure_quality(self, asked: QualityQuestion, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        """What the grades say; None when it cannot be had now."""
        ...


class QualityFeed:
    """Asks `source` every POLL_S. `start` once, `close` at the end. `table` is None until there is an answer."""

    def __init__(self, source: QualitySource, clock: Clock, question: QualityQuestion) -> None:
        self._source = source
        self._clock = clock
        self._question = question
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        self._heard = asyncio.Event()
        self.table: QualityTable | None = None

    def start(self) -> None:
        """Begins to ask, at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="quality", context=Context())

    async def heard(self, timeout_s: float) -> bool:
        """Waits until something is known, `timeout_s` at most; whether it is."""
        try:
            await asyncio.wait_for(self._heard.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def reconfigure(self, question: QualityQuestion) -> None:
        """Another question, asked at once; the former answer stays for as long as it is about the same comparison."""
        if question == self._question:
            return
        former, self._question = self._question, question
        if (former.flagship_target, former.judge_target) != (question.flagship_target, question.judge_target):
            self.table = None
            self._heard.clear()
        if self._task is not None:
            await end_tasks([self._task])  # what it may yet hear is the answer to the former one
            self.start()

    async def close(self) -> None:
        """Ends it; the table stays."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _run(self) -> None:
        retry_s = RETRY_S
        while True:
            if await self._ask():
                retry_s, pause_s = RETRY_S, POLL_S
            else:
                retry_s, pause_s = min(2 * retry_s, POLL_S), retry_s
            await self._clock.sleep(pause_s)

    async def _ask(self) -> bool:
        question = self._question
        found = await self._source.measure_quality(question, timeout_s=TIMEOUT_S)
        if found is not None and question == self._question:
            self.table = QualityTable.of(found)
            self._heard.set()
        if (found is None) is not self._is_away:
            self._is_away = found is None
            _log.info("quality_unknown" if self._is_away else "quality_known", kept=len(self.table or ()))
        return found is not None
