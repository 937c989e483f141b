"""A sentinel, or a node of a cluster, that says what a test wants it to say, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FakeSentinel", "fake_sentinels"]


class FakeSentinel:
    """Names `place` as the primary since promotion `epoch`; `while_promoting` is what it still has beside the new epoch
    then. With `silent` it says nothing at all, with `garbled` just that, whatever sentinels or nodes are asked.
    """

    def __init__(self) -> None:
        self.port = 0
        self.place = ("127.0.0.1", 1)
        self.while_promoting = ("", 0)
        self.epoch = 1
        self.flags = "master"
        self.silent = False
        self.garbled = b""
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while words := await _command(reader):
                self.asked += 1
                if not self.silent:
                    writer.write(self._reply(words))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _reply(self, words: list[bytes]) -> bytes:
        match words[:2]:
            case [b"SENTINEL" | b"CLUSTER", _] if self.garbled:
                return self.garbled
            case [b"SENTINEL", b"MASTER"]:
                host, port = self.while_promoting if self.while_promoting[0] else self.place
                about = {"ip": host, "port": port, "flags": self.flags, "config-epoch": self.epoch}
                return _array([str(word) for pair in about.items() for word in pair])
            case [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]:
                return _array([self.place[0], str(self.place[1])])
        return b"+OK\r\n"


@asynccontextmanager
async def fake_sentinels(count: int) -> AsyncIterator[list[FakeSentinel]]:
    """So many, on free loopback ports, inside the block."""
    sentinels = [FakeSentinel() for _ in range(count)]
    servers = [await asyncio.start_server(sentinel.serve, "127.0.0.1", 0) for sentinel in sentinels]
    for sentinel, server in zip(sentinels, servers, strict=True):
        sentinel.port = server.sockets[0].getsockname()[1]
    try:
        yield sentinels
    finally:
        for server in servers:
            server.close()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """Empty at the end."""
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def _array(words: list[str]) -> bytes:
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)])
