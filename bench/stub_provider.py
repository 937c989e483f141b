"""A provider that costs next to nothing: fixed answers in OpenAI's format, from an asyncio protocol on uvloop.

`python -m bench.stub_provider` prints {"event": "ready", "url": ...}; SIGTERM ends it. It reads just enough HTTP for
clients that send a content-length and keep their connections.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, Final, cast

import uvloop

TEXT: Final = "The quick brown fox jumps over the lazy dog. " * 10
USAGE: Final = {"prompt_tokens": 50, "completion_tokens": 100, "total_tokens": 150}
CHUNKS: Final = 50
STREAM_MARK: Final = b'"stream":true'


def whole() -> bytes:
    """A whole answer."""
    message = {"role": "assistant", "content": TEXT}
    body = json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode()
    return _head("application/json", len(body)) + body


def pieces() -> list[bytes]:
    """A streamed answer: its head, then one piece per event."""
    size = -(-len(TEXT) // CHUNKS)
    base: dict[str, Any] = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "model": "m"}
    events = [
        {**base, "choices": [{"index": 0, "delta": {"content": TEXT[start : start + size]}, "finish_reason": None}]}
        for start in range(0, len(TEXT), size)
    ]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**base, "choices": [], "usage": USAGE})
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
    return [_head("text/event-stream", sum(map(len, lines))), *lines]


def _head(kind: str, length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes, stream: list[bytes]) -> None:
        self._answer = answer
        self._stream = stream
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = body[length:]
        if STREAM_MARK in body[:length].replace(b" ", b""):
            self._write(0)
        else:
            assert self._transport is not None
            self._transport.write(self._answer)

    def _write(self, index: int) -> None:
        """One piece per turn of the loop, as a model's tokens come one by one."""
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._transport.write(self._stream[index])
        if index + 1 < len(self._stream):
            asyncio.get_running_loop().call_soon(self._write, index + 1)


async def main() -> None:
    """Serves until SIGTERM."""
    answer, stream = whole(), pieces()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(answer, stream), "127.0.0.1", 0)
    print(
        json.dumps({"event": "ready", "url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"}), flush=True
    )
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
