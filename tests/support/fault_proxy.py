"""A TCP proxy on loopback that spoils a hop, for tests of any client and server, HTTP or gRPC.

It sits between them and knows nothing of what they say. What it does is one value, `proxy.fault`, which may be changed
at any time and holds for open connections too. Without a fault it only passes bytes on and counts. One event loop owns
it. Bytes held by a fault are not lost: they go on when it is lifted, as on a network that comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

__all__ = ["GARBAGE", "Ending", "Fault", "FaultProxy", "Way", "fault_proxy"]

CONNECTIONS_MAX: Final = 1_000
"""Open connections; beyond it new ones are reset."""
PIECE_BYTES: Final = 65_536
"""Bytes read at a time."""
PIECES_PER_S_MAX: Final = 50
"""A faster drip has larger pieces, not more."""
GARBAGE: Final = b"\x00\xff\xfe\x80\xc3\x28\r\n\r\nHTTP/9.9 garbage\r\n\r\n\xf0\x28\x8c\x28"
"""What is sent as garbage: neither HTTP nor text."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Way(enum.Enum):
    """The direction in which bytes travel."""

    TO_CLIENT = enum.auto()
    TO_SERVER = enum.auto()


class Ending(enum.Enum):
    """What becomes of a connection."""

    CLOSE = enum.auto()
    """Both sides are closed in order."""
    RESET = enum.auto()
    """Both sides get an RST."""
    HALF_CLOSE = enum.auto()
    """The client is told that nothing more comes, and may still send."""
    GARBAGE = enum.auto()
    """The client gets bytes that are no protocol's, then the connection closes."""
    BLACK_HOLE = enum.auto()
    """Nothing passes either way; the connection stays open."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the bytes that travel one way. The default does nothing."""

    latency_s: float = 0.0
    """Wait before each piece that is passed on."""
    bytes_per_s: float | None = None
    """Pass bytes on at this rate."""
    ending: Ending | None = None
    after_bytes: int = 0
    """How many bytes of a connection pass, counted from when the fault was set, before `ending` comes. It comes with
    the first byte beyond them."""
    way: Way = Way.TO_CLIENT
    """Which bytes are meant. With TO_SERVER and no `after_bytes` the server never learns of a request."""


class FaultProxy:
    """A running proxy. Made by `fault_proxy`."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._fault = Fault()
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self.port = 0
        self.connections_total = 0
        """Connections ever accepted."""
        self.bytes_passed = dict.fromkeys(Way, 0)
        """Bytes passed on, by their way."""

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections_open(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    @property
    def fault(self) -> Fault:
        """What is done to the bytes now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        for connection in self._connections:
            connection.bytes_under_fault = dict.fromkeys(Way, 0)
        self._wake()

    def drop(self, ending: Ending = Ending.RESET) -> None:
        """End all open connections now, by CLOSE or RESET."""
        assert ending in (Ending.CLOSE, Ending.RESET)
        for connection in tuple(self._connections):
            connection.end(reset=ending is Ending.RESET)
        self._wake()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; the server of `fault_proxy` calls it."""
        self.connections_total += 1
        if len(self._connections) >= CONNECTIONS_MAX:
            _close(writer, reset=True)
            return
        connection = _Connection()
        connection.add(writer)
        self._connections.add(connection)
        try:
            await self._join(connection, reader, writer)
        except OSError:  # one side is gone or was never there: the other learns it in the same way
            connection.end(reset=True)
        finally:
            connection.end(reset=False)
            self._connections.discard(connection)

    async def _join(
        self, connection: _Connection, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        connection.add(server_writer)
        ways = (
            self._pass_on(connection, Way.TO_SERVER, client_reader, server_writer, client_writer),
            self._pass_on(connection, Way.TO_CLIENT, server_reader, client_writer, client_writer),
        )
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(
        self,
        connection: _Connection,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client_writer: asyncio.StreamWriter,
    ) -> None:
        """Pass the bytes of one way on until they end or the connection does. Raises OSError."""
        while data := await reader.read(PIECE_BYTES):
            while data and not connection.half_closed:
                size = await self._admit(connection, way, len(data))
                if connection.ended:
                    return
                if size == 0:
                    await self._end(connection, client_writer)
                    continue
                writer.write(data[:size])
                await writer.drain()
                connection.bytes_under_fault[way] += size
                self.bytes_passed[way] += size
                data = data[size:]
        while self._is_black_hole(connection) and not connection.ended:
            await self._changed.wait()
        if connection.half_closed:
            if way is Way.TO_SERVER:  # the client has done its half
                connection.end(reset=False)
        elif not connection.ended:
            writer.write_eof()

    async def _admit(self, connection: _Connection, way: Way, available: int) -> int:
        """Wait as long as the fault wants; give how many bytes may pass now, none where the ending has come."""
        while not connection.ended:
            if self._is_black_hole(connection):
                await self._changed.wait()
                continue
            fault = self._fault
            if fault.way is not way:
                return available
            size = available
            if fault.ending is not None:
                size = min(size, fault.after_bytes - connection.bytes_under_fault[way])
            if size <= 0:
                return 0
            wait_s = fault.latency_s
            if fault.bytes_per_s is not None:
                size = min(size, max(1, int(fault.bytes_per_s / PIECES_PER_S_MAX)))
                wait_s += size / fault.bytes_per_s
            if wait_s > 0 and await self._changes_within(wait_s):
                continue
            return size
        return 0

    def _is_black_hole(self, connection: _Connection) -> bool:
        fault = self._fault
        return fault.ending is Ending.BLACK_HOLE and connection.bytes_under_fault[fault.way] >= fault.after_bytes

    def _wake(self) -> None:
        # Whoever waits, waits for the old event: it is left set.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _changes_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _end(self, connection: _Connection, client: asyncio.StreamWriter) -> None:
        ending = self._fault.ending
        if ending is Ending.HALF_CLOSE:
            connection.half_closed = True  # what still comes is read and dropped, until the client has done its half
            client.write_eof()
            return
        if ending is Ending.GARBAGE:
            client.write(GARBAGE)
            await client.drain()
        connection.end(reset=ending is Ending.RESET)


class _Connection:
    """The two sockets of one connection."""

    def __init__(self) -> None:
        self.bytes_under_fault = dict.fromkeys(Way, 0)
        self.half_closed = False
        self.ended = False
        self._writers: list[asyncio.StreamWriter] = []

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def end(self, *, reset: bool) -> None:
        self.ended = True
        for writer in self._writers:
            _close(writer, reset=reset)


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if not reset:
        writer.close()
        return
    plain: socket.socket | None = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def fault_proxy(port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy of that port of 127.0.0.1 on a free port of 127.0.0.1, inside the block."""
    proxy = FaultProxy(port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        waiting = tuple(tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await server.wait_closed()
