"""Follows the head store while the service runs: what is put to use there judges from the next request on.

Promises: files are read in a thread; the exchange itself is one assignment in the event loop, between requests; a head
that cannot be used is logged and refused, the one in use stays, and the bad one is not tried again until the store
changes. Nothing here ends the service or its health, nor the following, whatever stands in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from services.classifier.head_store import BUILTIN, HeadStore, HeadStoreError, Stamp
from services.classifier.sufficiency import SufficiencyError, SufficiencyModel
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["POLL_S", "HeadFollower"]

POLL_S: Final = 1.0

_log = get_logger(__name__)


class HeadFollower:
    """Hands heads of `store` to `use`, None for the built-in rule. `use` raises SufficiencyError for what does not fit.

    For one event loop. `look` once by hand gives what is in use before the service serves.
    """

    def __init__(self, store: HeadStore, use: Callable[[SufficiencyModel | None], None], clock: Clock) -> None:
        self._store = store
        self._use = use
        self._clock = clock
        # At first none is in use, as in an empty store.
        self._looked_at = Stamp("")
        self._unreadable = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Looks every POLL_S from now on, until `close`."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends the looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self, *, again: bool = False) -> None:
        """Exchanges the head if the store has changed since the last look; `again`: also if not, since a head fits or
        does not for other reasons too. Raises nothing of its own.
        """
        try:
            stamp = await asyncio.to_thread(self._store.stamp)
        # Also what nobody has thought of: a task that ends here would follow nothing any more, and say nothing.
        except Exception as error:  # noqa: BLE001
            if not self._unreadable:  # once for each outage
                _log.warning("head_store_unreadable", directory=str(self._store.directory), error=_said(error))
            self._unreadable = True
            return
        self._unreadable = False
        if stamp == self._looked_at and not again:
            return
        # Before the reading: what changes while it is read is looked at again.
        self._looked_at = stamp
        try:
            if stamp.version in {"", BUILTIN}:
                self._use(None)
            else:
                self._use(await asyncio.to_thread(self._store.load, stamp.version))
        except (HeadStoreError, SufficiencyError) as error:
            # The texts name files, versions and models, never a prompt.
            _log.warning("head_refused", head=stamp.version, reason=str(error))
            return
        except Exception as error:  # noqa: BLE001 # as above
            _log.warning("head_refused", head=stamp.version, reason=f"it cannot be read: {_said(error)}")
            return
        _log.info("head_in_use", head=stamp.version or BUILTIN)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(POLL_S)
            await self.look()


def _said(error: Exception) -> str:
    """Its kind and number; texts of libraries may quote what they read."""
    return f"{type(error).__name__} {error.errno}" if isinstance(error, OSError) else type(error).__name__
