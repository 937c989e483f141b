"""A real socket for a fake service, on the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc

__all__ = ["serving"]

Servicer = TypeVar("Servicer")


@asynccontextmanager
async def serving(servicer: Servicer, add: Callable[[Servicer, grpc.aio.Server], None]) -> AsyncIterator[str]:
    """Its address, a free loopback port, inside the block. `add` is the generated add_…Servicer_to_server."""
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
