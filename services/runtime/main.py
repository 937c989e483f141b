"""The start of every service process: arguments, configuration, logs, telemetry, event loop, server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from services.runtime import logs, telemetry
from services.runtime.config import ConfigError, Loaded, SecretError, load
from services.runtime.server import ListenError, Service, serve
from spillway.settings import ServiceAddress

__all__ = ["run"]

EXIT_FAILED = 1
EXIT_CONFIG = 2


def run(name: str, build: Callable[[Loaded], Awaitable[Service]]) -> None:
    """Runs the service `name` until it is told to stop. `build` is its composition root, called in the event loop.

    Exits with 2 when the configuration or a secret is wrong (the errors on standard error), with 1 when the address is
    taken.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    parser.add_argument("--config", type=Path, help="spillway.yaml; default: $SPILLWAY_CONFIG, ./spillway.yaml")
    parser.add_argument("--listen", help="host:port or unix:/path; default: services.NAME.listen of the configuration")
    arguments = parser.parse_args()
    try:
        loaded = load(arguments.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIG)
    address: ServiceAddress | None = getattr(loaded.settings.services, name, None)
    listen: str = arguments.listen or (address.listen if address is not None else "")
    if not listen:
        parser.error("--listen is needed")
    logs.configure(service=name, level=loaded.settings.log.level)
    try:
        signals = telemetry.setup(name, loaded.settings.telemetry)
    except telemetry.PrometheusListenError as error:
        logs.get_logger(__name__).error("not_serving", reason=str(error))
        sys.exit(EXIT_FAILED)
    try:
        uvloop.run(_serve(build, loaded, listen, signals.prometheus_listen))
    except (ConfigError, SecretError) as error:  # of a file or variable that the configuration names
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIG)
    except ListenError as error:
        logs.get_logger(__name__).error("not_serving", reason=str(error))
        sys.exit(EXIT_FAILED)
    finally:
        signals.close()


async def _serve(
    build: Callable[[Loaded], Awaitable[Service]], loaded: Loaded, listen: str, prometheus_listen: str
) -> None:
    logs.report_loop_exceptions(asyncio.get_running_loop())
    service = await build(loaded)
    await serve(service, loaded, listen=listen, prometheus_listen=prometheus_listen)
