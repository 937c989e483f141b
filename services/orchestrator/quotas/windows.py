"""The calendar windows of budgets, in UTC.

Promises: pure. Every moment is in exactly one window of each period; the script in `redis_script` counts the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

__all__ = ["Period", "Window", "window_at"]

Period = Literal["minute", "hour", "day", "month"]
_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_s` until before `end_s`, in whole seconds since 1970."""

    start_s: int
    end_s: int


def window_at(period: Period, unix_s: float) -> Window:
    """The window of that moment."""
    seconds = _SECONDS.get(period)
    if seconds is not None:
        start_s = int(unix_s // seconds) * seconds
        return Window(start_s, start_s + seconds)
    now = datetime.fromtimestamp(unix_s, UTC)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return Window(int(first.timestamp()), int(after.timestamp()))
