"""Serves the sandbox on sockets: HTTP by uvicorn and, if wanted, OTLP by gRPC, on one event loop.

Beyond plain uvicorn: the endpoint may close its connection on purpose, ports are known once it listens, and stopping
takes no longer with streams open than without: their connections are dropped.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

import uvicorn
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.sandbox.otlp import create_otlp_server
from services.sandbox.response import CONNECTION_EXTENSION
from services.sandbox.traces import TraceStore

__all__ = ["Addresses", "serving", "serving_in_thread"]

CONNECTIONS_MAX: Final = 2_000
"""Open HTTP connections; beyond it, new ones are answered with 503."""
BACKLOG: Final = 1_024
"""Connections that wait to be accepted."""
STOP_TIMEOUT_S: Final = 2
"""How long stopping waits for handlers whose connections were dropped."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where it listens."""

    url: str
    """Base URL of HTTP, without a slash at the end; the provider's base URL is this plus /v1."""
    otlp_endpoint: str | None
    """host:port of OTLP over gRPC; None without a trace store."""


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, *, host: str, port: int, traces: TraceStore | None = None, otlp_port: int = 0
) -> AsyncIterator[Addresses]:
    """Serve inside the block. Port 0 takes a free one. Raises OSError when an address cannot be had.

    With `traces` an OTLP receiver fills that store.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bracketed = f"[{host}]" if family == socket.AF_INET6 else host
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        url = f"http://{bracketed}:{listener.getsockname()[1]}"
        async with contextlib.AsyncExitStack() as stack:
            otlp_endpoint = None
            if traces is not None:
                otlp_endpoint = await stack.enter_async_context(_serving_otlp(traces, bracketed, otlp_port))
            await stack.enter_async_context(_serving_http(app, listener))
            yield Addresses(url, otlp_endpoint)


@contextlib.contextmanager
def serving_in_thread(app: ASGIApp, *, traces: TraceStore | None = None) -> Iterator[Addresses]:
    """Serve on free ports of 127.0.0.1 inside the block, on an event loop in a thread of its own: for tests."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(app, host="127.0.0.1", port=0, traces=traces)) as addresses,
    ):
        yield addresses


@contextlib.asynccontextmanager
async def _serving_otlp(traces: TraceStore, host: str, port: int) -> AsyncIterator[str]:
    server = create_otlp_server(traces)
    try:
        bound_port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen for OTLP on {host}:{port}") from error
    await server.start()
    try:
        yield f"{host}:{bound_port}"
    finally:
        await server.stop(grace=None)


@contextlib.asynccontextmanager
async def _serving_http(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listening.wait()
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the composition root's.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def closable_app(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = {**scope.get("extensions", {}), CONNECTION_EXTENSION: transport}
            await app({**scope, "extensions": extensions}, receive, send)

        self.app = closable_app
