"""Responses of model providers, as files, and a small HTTP server that replays them over real sockets.

The model that a request names chooses the shape. Requests must look as the API demands: path, key, version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["KEY", "SHAPES", "ShapeServer", "shape_names"]

SHAPES = Path(__file__).resolve().parents[1] / "contract" / "executor" / "shapes"
KEY = "sk-test-0123456789-very-secret"
DEMANDED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "openai": ("/v1/chat/completions", {"authorization": f"Bearer {KEY}"}),
    "anthropic": ("/v1/messages", {"x-api-key": KEY, "anthropic-version": "2023-06-01"}),
}
PIECE_BYTES = 61  # so that lines and characters are cut wherever it happens


def shape_names(api: str) -> list[str]:
    """Every shape of one API."""
    return sorted(path.stem for path in (SHAPES / api).glob("*.http"))


class ShapeServer:
    """Serves the shapes of one API on a free port; keeps the requests' bodies and heads."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = _headers(head)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.heads.append(head)
                self.bodies.append(body)
                await self._play(head.split(" ")[1], headers, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _play(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        demanded_path, demanded_headers = DEMANDED[self._api]
        if path != demanded_path or any(headers.get(name) != value for name, value in demanded_headers.items()):
            writer.write(b"HTTP/1.1 418 Not as demanded\r\ncontent-length: 0\r\n\r\n")
            return
        head, content = (SHAPES / self._api / f"{body['model']}.http").read_bytes().split(b"\n\n", 1)
        writer.write(b"HTTP/1.1 " + head.replace(b"\n", b"\r\n"))
        writer.write(f"\r\ncontent-length: {len(content)}\r\n\r\n".encode())
        for start in range(0, len(content), PIECE_BYTES):
            writer.write(content[start : start + PIECE_BYTES])
            await writer.drain()


def _headers(head: str) -> dict[str, str]:
    lines = head.split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
