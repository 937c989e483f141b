"""The health service, and in it what the process knows of its configuration.

Promises: the names of services say SERVING or not as gRPC's health protocol has it. The name "spillway.config" is
NOT_SERVING while the file on disk is refused, which is no reason to send the process no calls; a check of it carries
the version in force, where the file is wrong and which settings wait for a restart, as trailing metadata: paths and
lines, never values.

A server that drains says so at once to those who check now and then (balancers, the kubelet), for they need the time;
those who watch hear of it at the end of the drain, for they act at once, and one who knows no other address would have
nobody to call meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from grpc_health.v1 import health, health_pb2

from services.runtime.reload import ConfigState
from spillway.configuration.document import Problem

__all__ = ["CONFIG_NAME", "KEPT_KEY", "REFUSED_KEY", "VERSION_KEY", "Health", "places_text"]

CONFIG_NAME: Final = "spillway.config"
VERSION_KEY: Final = "spillway-config-version"
REFUSED_KEY: Final = "spillway-config-refused"
KEPT_KEY: Final = "spillway-config-needs-restart"

_CHARS_MAX: Final = 1_024  # of each; a client takes 8 KiB of metadata
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):
    """One per server. `version` is that of the configuration that it was started with."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self._config = ConfigState(version, 0.0)
        self._is_draining = False

    def drain(self) -> None:
        """Checks of services say NOT_SERVING from now on; watches go on until `enter_graceful_shutdown`."""
        self._is_draining = True

    async def serving(self, name: str, *, is_serving: bool) -> None:
        """What a check of `name` says from now on."""
        await self.set(name, _SERVING if is_serving else _NOT_SERVING)

    async def configured(self, state: ConfigState) -> None:
        """The configuration's state from now on."""
        self._config = state
        await self.serving(CONFIG_NAME, is_serving=not state.refused)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # noqa: N802 - gRPC names it
        if request.service == CONFIG_NAME:
            state = self._config
            context.set_trailing_metadata(
                (
                    (VERSION_KEY, state.version),
                    (REFUSED_KEY, places_text(state.refused)),
                    (KEPT_KEY, _printable(", ".join(state.kept))),
                )
            )
        answer = await super().Check(request, context)
        if self._is_draining and request.service != CONFIG_NAME:
            return health_pb2.HealthCheckResponse(status=_NOT_SERVING)
        return answer


def places_text(problems: Iterable[Problem]) -> str:
    """Where a file is wrong: lines and paths, never values."""
    return _printable("; ".join(map(_place, problems)))


def _place(problem: Problem) -> str:
    where = f"line {problem.line}" if problem.line else "the file"
    return f"{where}: {problem.path}" if problem.path else where


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:_CHARS_MAX]
