"""The end of tasks that run beside the others.

Promises: what is here returns when all tasks have ended. A task that loses a cancellation is cancelled again: libraries
that turn one into a timeout of theirs would else leave a loop running that nobody stops any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["end_tasks", "finish_tasks"]

CANCEL_AGAIN_S: Final = 0.5


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks, and waits for them. What they raise is nobody's any more."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()


async def finish_tasks(tasks: Iterable[asyncio.Task[Any]], timeout_s: float) -> int:
    """Waits for the tasks, ends those that have not ended after `timeout_s`, and says how many those were."""
    whole = set(tasks)
    if not whole:
        return 0
    _, late = await asyncio.wait(whole, timeout=timeout_s)
    await end_tasks(whole)
    return len(late)
