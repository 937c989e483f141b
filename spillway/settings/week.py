"""Parts of the week: which minutes a `WeekTime` means, and which minute it is somewhere.

Promises: pure but for the machine's time zone database, which `zone` reads; UTC needs none. Minutes count from Monday
00:00 of the wall clock, so a part keeps its hours when clocks are changed: of an hour that comes twice both count, and
one that is left out is in no part.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo, available_timezones

from spillway.settings.policy import WeekTime

__all__ = ["WEEK_MINUTES", "holds_at", "minute_of_week", "minutes", "zone"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
WEEK_MINUTES = len(_DAYS) * _DAY_MINUTES


def zone(name: str) -> dt.tzinfo:
    """The time zone. Raises ValueError for one that the machine does not know."""
    if name == "UTC":
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = available_timezones()
        why = "" if known else ": this machine has no time zone database (Debian: tzdata)"
        raise ValueError(f"there is no time zone {name!r}{why}") from None


def minute_of_week(at_unix_s: float, where: dt.tzinfo) -> int:
    """Which minute of the week it is there, 0 to WEEK_MINUTES - 1."""
    local = dt.datetime.fromtimestamp(at_unix_s, where)
    return local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute


def holds_at(part: WeekTime, minute: int) -> bool:
    """Whether the minute of the week is one of `minutes(part)`."""
    start, end = _of_day(part.start), _of_day(part.end)
    day, of_day = divmod(minute, _DAY_MINUTES)
    if start <= end:
        return start <= of_day < end and _is_on(part, day)
    return (of_day >= start and _is_on(part, day)) or (of_day < end and _is_on(part, day - 1))


def minutes(part: WeekTime) -> frozenset[int]:
    """The minutes of the week that it means. Empty when it starts as it ends."""
    start, end = _of_day(part.start), _of_day(part.end)
    length = end - start if end >= start else end - start + _DAY_MINUTES
    days = [_DAYS.index(day) for day in part.days or _DAYS]
    return frozenset((day * _DAY_MINUTES + start + minute) % WEEK_MINUTES for day in days for minute in range(length))


def _is_on(part: WeekTime, day: int) -> bool:
    return part.days is None or _DAYS[day] in part.days


def _of_day(text: str) -> int:
    hours, _, rest = text.partition(":")
    return int(hours) * 60 + int(rest)
