"""A DNS server on loopback that says which addresses a name has now, as a headless Service does.

It answers A queries over UDP, and those for every other type with nothing.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

__all__ = ["NameServer"]

TTL_S: Final = 1
_A: Final = 1
_IN: Final = 1
_HEAD: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHHIH")
_ANSWER: Final = 0x8580  # a response, authoritative, recursion wanted and available
_NO_SUCH_NAME: Final = 3
_NAME_OF_QUESTION: Final = 0xC000 + _HEAD.size
_QUERY_BYTES_MAX: Final = 4_096


class NameServer:
    """Serves from `__enter__` to `__exit__`. Names have no dot at their end."""

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ending = False
        self.port = 0

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def set(self, name: str, addresses: Iterable[str]) -> None:
        """The name has these IPv4 addresses from now on."""
        self._addresses[name.lower()] = tuple(addresses)

    def target(self, name: str, port: int) -> str:
        """A gRPC target whose addresses are asked for here."""
        return f"dns://127.0.0.1:{self.port}/{name}:{port}"

    def _serve(self) -> None:
        while not self._ending:
            query, asker = self._socket.recvfrom(_QUERY_BYTES_MAX)
            if len(query) > _HEAD.size:
                self._socket.sendto(self._answer(query), asker)

    def _answer(self, query: bytes) -> bytes:
        number = _HEAD.unpack_from(query)[0]
        labels, at = [], _HEAD.size
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
            at += 1 + length
        question = query[_HEAD.size : at + 5]  # with the zero that ends the name, the type and the class
        (kind,) = struct.unpack_from("!H", query, at + 1)
        known = self._addresses.get(".".join(labels).lower())
        addresses = known if known and kind == _A else ()
        records = [
            _RECORD.pack(_NAME_OF_QUESTION, _A, _IN, TTL_S, 4) + socket.inet_aton(address) for address in addresses
        ]
        flags = _ANSWER if known is not None else _ANSWER | _NO_SUCH_NAME
        return _HEAD.pack(number, flags, 1, len(records), 0, 0) + question + b"".join(records)
