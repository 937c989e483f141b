"""The journal: what the sandbox was asked, in the order of arrival, for tests to look at.

Bounded in calls and in bytes per call. Credentials are not kept.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.sandbox.wire import Call, Message

__all__ = ["CallRecord", "Journal"]

CALLS_MAX: Final = 1_000
"""Calls kept; the oldest go first."""
TEXT_CHARS_MAX: Final = 65_536
"""Characters kept of each call's messages together; what is beyond is cut."""
PARAMETERS_BYTES_MAX: Final = 65_536
"""A request with a larger body is kept without its parameters."""

_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "api-key", "x-api-key", "cookie", "proxy-authorization"})


@dataclass(slots=True)
class CallRecord:
    """One call, and what became of it."""

    seq: int
    received_at_unix_s: float
    wire: str
    """The name of the wire format it came in."""
    model: str
    stream: bool
    messages: tuple[Message, ...]
    headers: Mapping[str, str]
    parameters: Mapping[str, Any]
    """The request's other fields."""
    status: int | None = None
    """The HTTP status that was sent; None while nothing was."""
    cancelled: bool = False
    """Whether the client left before the answer was complete."""

    def body(self) -> dict[str, Any]:
        """Render for the wire."""
        return {
            "seq": self.seq,
            "received_at_unix_s": self.received_at_unix_s,
            "wire": self.wire,
            "model": self.model,
            "stream": self.stream,
            "messages": [{"role": message.role, "text": message.text} for message in self.messages],
            "headers": dict(self.headers),
            "parameters": dict(self.parameters),
            "status": self.status,
            "cancelled": self.cancelled,
        }


class Journal:
    """The newest calls. Not thread-safe: one event loop owns it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Start empty. `clock` gives Unix seconds."""
        self._clock = clock
        self._records: deque[CallRecord] = deque(maxlen=CALLS_MAX)
        self._seq = 0

    def open(self, wire: str, call: Call, headers: Mapping[str, str], body_bytes: int) -> CallRecord:
        """Note a call on its arrival. `headers` have lower-case names; the caller fills in the rest as it happens."""
        self._seq += 1
        messages, chars_left = [], TEXT_CHARS_MAX
        for message in call.messages:
            messages.append(Message(message.role, message.text[:chars_left]))
            chars_left = max(0, chars_left - len(message.text))
        record = CallRecord(
            seq=self._seq,
            received_at_unix_s=self._clock(),
            wire=wire,
            model=call.model,
            stream=call.stream,
            messages=tuple(messages),
            headers={name: value for name, value in headers.items() if name not in _CREDENTIAL_HEADERS},
            parameters=call.parameters if body_bytes <= PARAMETERS_BYTES_MAX else {},
        )
        self._records.append(record)
        return record

    def clear(self) -> None:
        """Forget all calls; numbering goes on."""
        self._records.clear()

    def body(self) -> dict[str, Any]:
        """Render for the wire, oldest first."""
        return {"calls": [record.body() for record in self._records]}
