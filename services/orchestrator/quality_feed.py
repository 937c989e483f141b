"""Keeps what is known of the targets' quality up to date.

Promises: asks in the background, never on a request's path: requests get what it heard last. A ledger that does not
answer changes nothing. For one event loop.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final, Protocol

from services.orchestrator.policy.quality import QualityTable
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks
from spillway.routing import MeasuredQuality

__all__ = ["POLL_S", "QualityFeed", "QualitySource"]

POLL_S: Final = 60.0
TIMEOUT_S: Final = 10.0  # it reads a month of grades, and nobody waits for it
_DAY_S: Final = 86_400.0
_log = get_logger(__name__)


class QualitySource(Protocol):
    """Whoever has measured: the ledger."""

    async def measure_quality(self, window_s: float, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        """What the grades of the last `window_s` say; None when it cannot be had now."""
        ...


class QualityFeed:
    """Asks `source` every POLL_S. `start` once, `close` at the end."""

    def __init__(self, source: QualitySource, clock: Clock, *, window_days: float) -> None:
        self._source = source
        self._clock = clock
        self._window_s = window_days * _DAY_S
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        self.table = QualityTable()

    def start(self) -> None:
        """Begins to ask, at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="quality", context=Context())

    def reconfigure(self, *, window_days: float) -> None:
        """From the next question on."""
        self._window_s = window_days * _DAY_S

    async def close(self) -> None:
        """Ends it; the table stays."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _run(self) -> None:
        while True:
            await self._ask()
            await self._clock.sleep(POLL_S)

    async def _ask(self) -> None:
        found = await self._source.measure_quality(self._window_s, timeout_s=TIMEOUT_S)
        if found is not None:
            self.table = QualityTable.of(found)
        if (found is None) is not self._is_away:
            self._is_away = found is None
            _log.info("quality_unknown" if self._is_away else "quality_known", kept=len(self.table))
