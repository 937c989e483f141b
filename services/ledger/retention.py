"""Deletes what is older than the ledger is to keep.

Promises: in small steps, each a transaction of its own that gives writers their turn; a database that is away is tried
again at the next round. Any number of replicas may do it. For one event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.ledger.rows import to_us
from services.ledger.store import LedgerStore
from services.ledger.workers import Workers
from services.runtime.clock import Clock
from services.runtime.errors import Overloaded
from services.runtime.logs import describe_exception, get_logger

__all__ = ["Retention"]

_log = get_logger(__name__)

STEP_MAX: Final = 200
"""Decisions deleted in one transaction: some ten milliseconds."""
STEP_PAUSE_S: Final = 0.05
ROUND_S: Final = 3_600.0
_DAY_S: Final = 86_400.0


class Retention:
    """`on_delete` is called with the number of rows of each step."""

    def __init__(
        self,
        store: LedgerStore,
        writers: Workers,
        clock: Clock,
        *,
        days: int,
        on_delete: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._store = store
        self._writers = writers
        self._clock = clock
        self._days = days
        self._on_delete = on_delete

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            try:
                deleted = await self.round()
            except (SQLAlchemyError, Overloaded) as error:
                _log.warning("retention_postponed", **describe_exception(error))
            else:
                if deleted:
                    _log.info("retention", deleted=deleted, days=self._days)
            await self._clock.sleep(ROUND_S)

    async def round(self) -> int:
        """Deletes all that is too old now; how much. Raises SQLAlchemy's errors, Overloaded."""
        before_us = to_us(self._clock.unix() - self._days * _DAY_S)
        total = 0
        while deleted := await self._writers.run(lambda: self._store.delete_before(before_us, STEP_MAX)):
            total += deleted
            self._on_delete(deleted)
            await self._clock.sleep(STEP_PAUSE_S)
        return total
