"""Server-sent events, read from bytes as they arrive.

Promises: pure, bounded, tolerant: any line ending, comments, several data lines per event, unknown fields. Raises
EventTooLargeError when one event grows beyond the bound.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

__all__ = ["EventParser", "EventTooLargeError"]


class EventTooLargeError(ValueError):
    """One event is larger than the bound."""


class EventParser:
    """Feed it bytes, get the data of complete events. One per response."""

    def __init__(self, event_chars_max: int) -> None:
        self._event_chars_max = event_chars_max
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._pieces: list[str] = []  # of the line that has begun
        self._line_chars = 0
        self._data: list[str] = []
        self._data_chars = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of each event that `chunk` completes."""
        text = self._decode(chunk)
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        start = 0
        while (found := _line_end(text, start)) >= 0:
            line = "".join((*self._pieces, text[start:found]))
            self._pieces.clear()
            self._line_chars = 0
            if text[found] == "\r":
                self._after_cr = found + 1 == len(text)
                start = found + (2 if text.startswith("\n", found + 1) else 1)
            else:
                start = found + 1
            event = self._line(line)
            if event is not None:
                yield event
        if start < len(text):
            self._pieces.append(text[start:])
            self._line_chars += len(text) - start
            self._check()

    def end(self) -> Iterator[str]:
        """What was begun and not closed by an empty line when the response ended; some servers leave it out."""
        if self._pieces:
            self._line("".join(self._pieces))
            self._pieces.clear()
        if self._data:
            yield "\n".join(self._data)
            self._data.clear()

    def _line(self, line: str) -> str | None:
        if not line:
            if not self._data:
                return None
            event = "\n".join(self._data)
            self._data.clear()
            self._data_chars = 0
            return event
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
            self._data_chars += len(value) + 1
            self._check()
        return None

    def _check(self) -> None:
        if self._line_chars + self._data_chars > self._event_chars_max:
            raise EventTooLargeError


def _line_end(text: str, start: int) -> int:
    newline, carriage = text.find("\n", start), text.find("\r", start)
    if newline < 0 or carriage < 0:
        return max(newline, carriage)
    return min(newline, carriage)
