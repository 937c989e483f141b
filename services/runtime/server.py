"""A gRPC server from its start to its end.

Promises: health says NOT_SERVING until `Service.warm` is done; on SIGTERM or SIGINT it says NOT_SERVING again (see
Health), the drain gives clients the time to see it while everything is still served, calls under way have the grace to
finish, and then `Service.close` runs. With certificates (settings.tls) it speaks TLS alone and follows their files.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from services.runtime import telemetry
from services.runtime.clock import SystemClock
from services.runtime.config import Loaded
from services.runtime.health import CONFIG_NAME, Health
from services.runtime.logs import get_logger
from services.runtime.port import ListenError, Port, health_port, service_port
from services.runtime.reload import Reconfigure, Reloader
from services.runtime.tls import Certificates, open_certificates
from spillway.settings import Limits

__all__ = ["ListenError", "RunningServer", "Service", "serve", "start"]

# Who watches health has that long to turn away before calls are refused. Whoever has nowhere to turn sends its calls
# again for longer than that (spillway/calling.py).
_WATCHERS_S: Final = 0.5

_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not everywhere


@dataclass(frozen=True, slots=True)
class Service:
    """What a process serves. `register` adds servicers; `service_names` are their full names.

    `warm` runs while health still says NOT_SERVING; `draining` is called when the server begins to stop; `close` runs
    after the last call has ended, or after `warm` failed.

    `reconfigure` takes over a changed configuration for calls that begin from then on: it opens all that the new one
    names, then exchanges, and raises ConfigError or SecretError without having changed anything. What needs a restart
    (`live_settings`) is as it was at the start. Without one, everything needs a restart. `following` is given what
    follows the file, once.

    `certificates` are those that its channels use too, the server's own from now on; without them the server opens
    those of the settings.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    service_names: tuple[str, ...]
    warm: Callable[[], Awaitable[None]] | None = None
    draining: Callable[[], None] | None = None
    close: Callable[[], Awaitable[None]] | None = None
    reconfigure: Reconfigure | None = None
    following: Callable[[Reloader], None] | None = None
    certificates: Certificates | None = None


class RunningServer:
    """A server that serves. Made by `start`."""

    def __init__(
        self,
        service: Service,
        ports: Sequence[Port],
        certificates: Certificates | None,
        health_servicer: Health,
        limits: Limits,
    ) -> None:
        """The first of `ports` is the one that serves; another is for health checks alone."""
        self.address = ports[0].address
        self.health_address = ports[-1].address
        self._service = service
        self._ports = ports
        self._certificates = certificates
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
        """Drain, grace, close. May be called more than once; each call waits for the end."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._service.draining is not None:
            self._service.draining()
        if self._reloader is not None:
            await self._reloader.close()
        drain_s = self._limits.drain_s
        watchers_s = min(drain_s, _WATCHERS_S)
        self._health.drain()
        await asyncio.sleep(drain_s - watchers_s)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(watchers_s)
        # Whoever asks how it is may do so until the last call has ended.
        for port in self._ports:
            await port.stop(self._limits.grace_s)
        await self.close()

    async def close(self) -> None:
        """What is left when nothing is served any more; `stop` does it."""
        if self._certificates is not None:
            await self._certificates.close()
        if self._service.close is not None:
            await self._service.close()


async def start(service: Service, loaded: Loaded, listen: str) -> RunningServer:
    """Starts serving on `listen` ("host:port", port 0 for a free one, or "unix:/path"). Returns when SERVING.

    Raises ListenError when the address is taken or cannot be had, SecretError for certificates that cannot be used.
    """
    settings = loaded.settings
    certificates = service.certificates or open_certificates(settings.tls, service.name)
    health_servicer = Health(loaded.version)
    watched = ("", *service.service_names, CONFIG_NAME)
    for name in watched:
        await health_servicer.serving(name, is_serving=False)
    ports = [
        service_port(
            service.name,
            settings,
            listen,
            register=service.register,
            service_names=service.service_names,
            health_servicer=health_servicer,
            certificates=certificates,
        )
    ]
    if settings.tls.health_listen:
        ports.append(health_port(settings, settings.tls.health_listen, health_servicer=health_servicer))
    for port in ports:
        await port.server.start()
    if certificates is not None:
        certificates.start()
    running = RunningServer(service, ports, certificates, health_servicer, settings.limits)
    try:
        if service.warm is not None:
            await service.warm()
    except BaseException:
        for port in ports:
            await port.server.stop(0)
        await running.close()
        raise
    for name in watched:
        await health_servicer.serving(name, is_serving=True)
    return running


async def serve(service: Service, loaded: Loaded, *, listen: str, prometheus_listen: str = "") -> None:
    """Serves until SIGTERM or SIGINT. Prints one JSON line on standard output when SERVING.

    The line has `prometheus_listen` too, unless it is empty, and `health_listen` where there is such a port.

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
    places = {"listen": running.address}
    if prometheus_listen:
        places["prometheus_listen"] = prometheus_listen
    if running.health_address != running.address:
        places["health_listen"] = running.health_address
    sys.stdout.write(json.dumps({"event": "serving", "service": service.name, **places}) + "\n")
    sys.stdout.flush()
    logger.info("serving", **places, config=loaded.version)
    reloader = running.follow(loaded)
    if _HANGUP is not None:
        loop.add_signal_handler(_HANGUP, reloader.hang_up)
    await stop.wait()
    logger.info("stopping")
    await running.stop()
    logger.info("stopped")
