"""A gRPC server from its start to its end.

Promises: health says NOT_SERVING until `Service.warm` is done; on SIGTERM or SIGINT it says NOT_SERVING again, the
drain gives clients the time to see it, calls under way have the grace to finish, and then `Service.close` runs. Every
limit that gRPC has is set here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import telemetry
from services.runtime.clock import SystemClock
from services.runtime.config import Loaded
from services.runtime.health import CONFIG_NAME, Health
from services.runtime.interceptors import Door
from services.runtime.logs import get_logger
from services.runtime.reload import Reconfigure, Reloader
from services.runtime.tracing import ServerCalls
from spillway.settings import Limits

__all__ = ["ListenError", "RunningServer", "Service", "serve", "start"]

# Above the limit that answers with a reason, gRPC itself refuses without one; the room between is for the reason.
_MESSAGE_BYTES_ABOVE: Final = 1_048_576
# Health watches (one per client connection), and the calls that are just being refused by the door.
_RPCS_ABOVE: Final = 4_096
# Connections are renewed, so that new replicas behind a virtual address get traffic.
_CONNECTION_AGE_S: Final = 300.0
# Clients may ping no more often than this (channel.KEEPALIVE_S is above it).
_PING_INTERVAL_S_MIN: Final = 10.0
_KEEPALIVE_S: Final = 30.0
_KEEPALIVE_TIMEOUT_S: Final = 10.0

_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not everywhere


class ListenError(Exception):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a process serves. `register` adds servicers; `service_names` are their full names.

    `warm` runs while health still says NOT_SERVING; `draining` is called when the server begins to stop; `close` runs
    after the last call has ended, or after `warm` failed.

    `reconfigure` takes over a changed configuration for calls that begin from then on: it opens all that the new one
    names, then exchanges, and raises ConfigError or SecretError without having changed anything. What needs a restart
    (`live_settings`) is as it was at the start. Without one, everything needs a restart. `following` is given what
    follows the file, once.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    service_names: tuple[str, ...]
    warm: Callable[[], Awaitable[None]] | None = None
    draining: Callable[[], None] | None = None
    close: Callable[[], Awaitable[None]] | None = None
    reconfigure: Reconfigure | None = None
    following: Callable[[Reloader], None] | None = None


def _options(limits: Limits, deadline_s_max: float) -> list[tuple[str, int]]:
    message_bytes_max = limits.message_bytes_max + _MESSAGE_BYTES_ABOVE
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # Between the soft and the absolute limit gRPC refuses at random; equal limits refuse by size alone.
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", int(_CONNECTION_AGE_S * 1_000)),
        # No call under way is cut by it.
        ("grpc.max_connection_age_grace_ms", int((deadline_s_max + 30.0) * 1_000)),
        ("grpc.keepalive_time_ms", int(_KEEPALIVE_S * 1_000)),
        ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(_PING_INTERVAL_S_MIN * 1_000)),
        ("grpc.http2.max_ping_strikes", 3),
    ]


class RunningServer:
    """A server that serves. Made by `start`."""

    def __init__(
        self,
        service: Service,
        server: grpc.aio.Server,
        door: Door,
        health_servicer: Health,
        limits: Limits,
        address: str,
    ) -> None:
        self.address = address
        self._service = service
        self._server = server
        self._door = door
        self._health = health_servicer
        self._limits = limits
        self._stopping: asyncio.Task[None] | None = None
        self._reloader: Reloader | None = None

    def follow(self, loaded: Loaded) -> Reloader:
        """Follows the file that `loaded` came from, until `stop`. Once."""
        self._reloader = Reloader(
            self._service.name,
            loaded,
            reconfigure=self._service.reconfigure,
            clock=SystemClock(),
            meter=telemetry.meter(),
            on_change=self._health.configured,
        )
        if self._service.following is not None:
            self._service.following(self._reloader)
        self._reloader.start()
        return self._reloader

    async def stop(self) -> None:
        """NOT_SERVING, drain, grace, close. May be called more than once; each call waits for the end."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._service.draining is not None:
            self._service.draining()
        if self._reloader is not None:
            await self._reloader.close()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._limits.drain_s)
        stopped = asyncio.create_task(self._server.stop(self._limits.grace_s))
        self._door.end_watchers()
        await stopped
        if self._service.close is not None:
            await self._service.close()


async def start(service: Service, loaded: Loaded, listen: str) -> RunningServer:
    """Starts serving on `listen` ("host:port", port 0 for a free one, or "unix:/path"). Returns when SERVING.

    Raises ListenError when the address is taken or cannot be had.
    """
    limits = loaded.settings.limits
    deadline_s_max = loaded.settings.orchestrator.deadline_s
    door = Door(
        calls_max=limits.concurrent_rpcs_max,
        deadline_s_max=deadline_s_max,
        message_bytes_max=limits.message_bytes_max,
        calls=ServerCalls() if telemetry.is_on() else None,
    )
    server = grpc.aio.server(
        interceptors=[door],
        options=_options(limits, deadline_s_max),
        maximum_concurrent_rpcs=limits.concurrent_rpcs_max + _RPCS_ABOVE,
    )
    health_servicer = Health(loaded.version)
    watched = ("", *service.service_names, CONFIG_NAME)
    for name in watched:
        await health_servicer.serving(name, is_serving=False)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    service.register(server)
    channelz.add_channelz_servicer(server)
    reflection.enable_server_reflection(
        (*service.service_names, health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.channelz.v1.Channelz"), server
    )
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {listen}") from error
    await server.start()
    address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    running = RunningServer(service, server, door, health_servicer, limits, address)
    try:
        if service.warm is not None:
            await service.warm()
    except BaseException:
        await server.stop(0)
        if service.close is not None:
            await service.close()
        raise
    for name in watched:
        await health_servicer.serving(name, is_serving=True)
    return running


async def serve(service: Service, loaded: Loaded, *, listen: str, prometheus_listen: str = "") -> None:
    """Serves until SIGTERM or SIGINT. Prints one JSON line on standard output when SERVING.

    The line has `prometheus_listen` too, unless it is empty.

    From then on the file that `loaded` came from is followed; SIGHUP has it looked at once more, at once.
    """
    logger = get_logger(__name__)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if _HANGUP is not None:
        loop.add_signal_handler(_HANGUP, lambda: None)  # it reads the file anyway as soon as it serves
    starting = asyncio.create_task(start(service, loaded, listen))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # told to stop while warming
        await asyncio.wait({starting})
        return
    stopped.cancel()
    running = starting.result()
    ready = {"event": "serving", "service": service.name, "listen": running.address}
    if prometheus_listen:
        ready["prometheus_listen"] = prometheus_listen
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    logger.info("serving", listen=running.address, config=loaded.version)
    reloader = running.follow(loaded)
    if _HANGUP is not None:
        loop.add_signal_handler(_HANGUP, reloader.hang_up)
    await stop.wait()
    logger.info("stopping")
    await running.stop()
    logger.info("stopped")
