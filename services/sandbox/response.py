"""The way out of an answer over ASGI: writes it as the step wants it sent, and notes the status in the journal.

Needs the server of `services.sandbox.server` to close connections on purpose; everything else works on any ASGI server.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from services.sandbox.journal import CallRecord
from services.sandbox.script import Step
from services.sandbox.wire import ApiError

__all__ = ["CONNECTION_EXTENSION", "ClientGoneError", "HangUpError", "Pace", "Response", "hang_up", "read_body"]

CONNECTION_EXTENSION: Final = "spillway.sandbox.connection"
"""ASGI scope extension: the connection's asyncio transport, which closes after what has been written."""

DRIP_BYTES: Final = 16
"""Bytes per piece of a drip."""
DRIP_DELAY_S: Final = 0.05
"""Between the pieces of a drip unless the script gives a `chunk_delay_s`."""
PIECES_PER_S_MAX: Final = 50
"""A faster drip has larger pieces, not more."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class HangUpError(Exception):
    """The script wants the connection closed here."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a body leaves."""

    first_byte_delay_s: float = 0.0
    piece_bytes: int | None = None
    """Bytes written at a time; None is all at once."""
    piece_delay_s: float = 0.0
    """After each piece."""
    cut_after_bytes: int | None = None
    """Hang up after so many bytes."""

    @classmethod
    def of(cls, step: Step) -> Self:
        """Read a step."""
        piece_bytes, piece_delay_s = None, 0.0
        if step.drip:
            piece_bytes, piece_delay_s = DRIP_BYTES, step.chunk_delay_s or DRIP_DELAY_S
        elif step.drip_bytes_per_s is not None:
            piece_bytes = ceil(step.drip_bytes_per_s / PIECES_PER_S_MAX)
            piece_delay_s = piece_bytes / step.drip_bytes_per_s
        return cls(step.first_byte_delay_s, piece_bytes, piece_delay_s, step.cut_after_bytes)


class Response:
    """One response."""

    def __init__(self, send: Send, headers: Mapping[str, str], record: CallRecord | None = None) -> None:
        """Answer by `send`, with `headers` whatever is answered."""
        self._send = send
        self._record = record
        self._headers = dict(headers)
        self._written_bytes = 0
        self.pace = Pace()
        self.complete = False

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Send these too, instead of others of the same name."""
        self._headers.update(headers)

    async def start(self, status: int, content_type: str, *, content_length: int | None = None) -> None:
        """Send the head."""
        if self._record is not None:
            self._record.status = status
        headers = {"content-type": content_type, "cache-control": "no-store", **self._headers}
        if content_length is not None:
            headers["content-length"] = str(content_length)
        encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})
        await asyncio.sleep(self.pace.first_byte_delay_s)

    async def write(self, data: bytes) -> None:
        """Send a part of the body. Raises HangUpError where the body is to be cut."""
        pace = self.pace
        is_cut = pace.cut_after_bytes is not None and self._written_bytes + len(data) >= pace.cut_after_bytes
        if is_cut:
            data = data[: (pace.cut_after_bytes or 0) - self._written_bytes]
        self._written_bytes += len(data)
        piece_bytes = pace.piece_bytes or max(1, len(data))
        for start in range(0, len(data), piece_bytes):
            piece = data[start : start + piece_bytes]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            if pace.piece_bytes is not None:
                await asyncio.sleep(pace.piece_delay_s)
        if is_cut:
            raise HangUpError

    async def end(self) -> None:
        """Say that the body is complete."""
        self.complete = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send_whole(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole response."""
        await self.start(status, content_type, content_length=len(body))
        await self.write(body)
        await self.end()


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Read a request's body. Raises ApiError (413) beyond `bytes_max`, ClientGoneError when the client leaves."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise ApiError(413, f"The body is larger than {bytes_max} bytes.", code="request_too_large")
        if not message.get("more_body", False):
            return bytes(body)


def hang_up(scope: Scope, *, sending_side_only: bool) -> None:
    """Close the connection that a request came by, or the half of it that sends."""
    transport = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    if transport is None:
        raise RuntimeError("this ASGI server cannot close connections on purpose; use services.sandbox.server")
    if sending_side_only:
        transport.write_eof()
    else:
        transport.close()
