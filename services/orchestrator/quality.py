"""How good the targets' answers were, by kind of work, as the ledger measured it; and who keeps that up to date.

Promises: the table is a value, the lookup pure. The feed asks in the background, never on a request's path: requests
get what it heard last. A ledger that does not answer changes nothing. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks
from spillway.routing import MeasuredQuality, TaskType

__all__ = ["POLL_S", "QualityFeed", "QualitySource", "QualityTable"]

POLL_S: Final = 60.0
_DAY_S: Final = 86_400.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QualityTable:
    """What was measured of each target and kind of work."""

    _by_key: Mapping[tuple[str, TaskType], MeasuredQuality] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, qualities: Iterable[MeasuredQuality]) -> QualityTable:
        """The table of these; of two for the same target and kind of work the last counts."""
        return cls(MappingProxyType({(each.target, each.task_type): each for each in qualities}))

    def find(self, target: str, task_type: TaskType) -> MeasuredQuality | None:
        """What was measured, if anything."""
        return self._by_key.get((target, task_type))

    def __len__(self) -> int:
        return len(self._by_key)


class QualitySource(Protocol):
    """Whoever has measured: the ledger."""

    async def measure_quality(self, window_s: float) -> tuple[MeasuredQuality, ...] | None:
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
        found = await self._source.measure_quality(self._window_s)
        if found is not None:
            self.table = QualityTable.of(found)
        if (found is None) is not self._is_away:
            self._is_away = found is None
            _log.info("quality_unknown" if self._is_away else "quality_known", kept=len(self.table))
