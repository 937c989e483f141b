"""When a provider wants to be asked again, as its response's headers say it.

Promises: pure. Three forms are read: `retry-after` in seconds (fractions too), `retry-after` as an HTTP date (RFC 9110,
10.2.3), and `retry-after-ms` in milliseconds (OpenAI, Azure). Where two are there the later one counts, so that neither
is violated. A date is measured from the response's own Date header, the provider's clock, and only without one from
ours. What cannot be read is no wish: None. The result is 0 to `RETRY_AFTER_S_MAX`; the executor's configuration bounds
it further.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["RETRY_AFTER_S_MAX", "retry_after_s"]

RETRY_AFTER_S_MAX: Final = 86_400.0  # a longer time is a mistake, or a way to be never asked again
_VALUE_CHARS_MAX: Final = 64  # a date has 29
_MS_PER_S: Final = 1_000.0


def retry_after_s(headers: Mapping[str, str], *, now_unix_s: float | None = None) -> float | None:
    """The seconds from the response on; None when it names no time. `headers` finds lower-case names."""
    raw = _value(headers, "retry-after")
    seconds = _number(raw)
    if seconds is None and raw:
        seconds = _until(raw, _value(headers, "date"), now_unix_s)
    milliseconds = _number(_value(headers, "retry-after-ms"))
    wishes = [seconds] if seconds is not None else []
    if milliseconds is not None:
        wishes.append(milliseconds / _MS_PER_S)
    return min(max(0.0, *wishes), RETRY_AFTER_S_MAX) if wishes else None


def _value(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    return value if len(value) <= _VALUE_CHARS_MAX else ""


def _number(text: str) -> float | None:
    # float() also reads "1_0", "nan" and digits of other scripts.
    if not text.isascii() or "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _until(text: str, sent_text: str, now_unix_s: float | None) -> float | None:
    until = _date(text)
    if until is None:
        return None
    sent = _date(sent_text)
    if sent is not None:
        return (until - sent).total_seconds()
    return None if now_unix_s is None else until.timestamp() - now_unix_s


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
