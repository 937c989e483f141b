"""Work for after the answer has left: never waited for by a caller, bounded, and finished at shutdown.

Promises: `spawn` returns at once; beyond `tasks_max` tasks under way, and after `close` has begun, work is dropped and
counted, never queued. Work that fails is logged and hurts nobody. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import finish_tasks

__all__ = ["Background"]

_log = get_logger(__name__)


class Background:
    """A bounded set of tasks. `on_drop` is called with the kind of each piece of work that was dropped."""

    def __init__(self, tasks_max: int, on_drop: Callable[[str], None] = lambda kind: None) -> None:
        self._tasks_max = tasks_max
        self._on_drop = on_drop
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.dropped: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks)

    def spawn(
        self, kind: str, work: Callable[[], Coroutine[Any, Any, None]], *, context: Context | None = None
    ) -> bool:
        """Starts `work` in `context` when the loop next turns; False when it was dropped."""
        if self._closed or len(self._tasks) >= self._tasks_max:
            self.dropped[kind] += 1
            self._on_drop(kind)
            return False
        task = asyncio.get_running_loop().create_task(work(), name=f"background-{kind}", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def close(self, timeout_s: float) -> int:
        """Waits for what is under way; after `timeout_s` cancels the rest, and says how many those were."""
        # Calls that have just ended hand over their work in callbacks that are due now.
        await asyncio.sleep(0)
        self._closed = True
        return await finish_tasks(self._tasks, timeout_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("background_task_failed", task=task.get_name(), **describe_exception(error))
