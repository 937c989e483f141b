"""Waiting for what tells nobody: another process, a thread, a file, a fake's counter."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["until"]

WITHIN_S: Final = 30.0
TURNS: Final = 100
"""So often others only get their turns; with fakes that is enough, and costs no time."""
PAUSE_S: Final = 0.005


async def until(condition: Callable[[], Any], *, what: str = "the condition", within_s: float = WITHIN_S) -> Any:
    """The first truthy value of `condition`, awaited where it can be, asked again and again.

    Raises AssertionError when there is none in time.
    """
    turn = 0
    try:
        async with asyncio.timeout(within_s) as limit:
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.0 if turn < TURNS else PAUSE_S)
                turn += 1
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
