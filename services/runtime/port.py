"""The ports of a process: gRPC servers with their options, their door and their certificates.

Promises: every limit that gRPC has is set here. With certificates a port speaks TLS alone. The port for health checks,
for those who speak no TLS, answers nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import telemetry
from services.runtime.health import Health
from services.runtime.interceptors import Door
from services.runtime.tls import Certificates
from services.runtime.tracing import ServerCalls
from spillway.settings import Limits, Settings

__all__ = ["ListenError", "Port", "health_port", "service_port"]

# Above the limit that answers with a reason, gRPC itself refuses without one; the room between is for the reason.
_MESSAGE_BYTES_ABOVE: Final = 1_048_576
# Health watches (one per client connection), and the calls that are just being refused by the door.
_RPCS_ABOVE: Final = 4_096
# Clients may ping no more often than this (channel.KEEPALIVE_S is above it).
_PING_INTERVAL_S_MIN: Final = 10.0
_KEEPALIVE_S: Final = 30.0
_KEEPALIVE_TIMEOUT_S: Final = 10.0

# A kubelet or two, and whoever watches.
_HEALTH_RPCS_MAX: Final = 64
_HEALTH_MESSAGE_BYTES_MAX: Final = 4_096


class ListenError(Exception):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Port:
    """A gRPC server with its one address. `credentials` have to live as long as it does."""

    server: grpc.aio.Server
    door: Door
    address: str
    credentials: grpc.ServerCredentials | None = None

    async def stop(self, grace_s: float) -> None:
        """Calls under way have `grace_s`, watchers none."""
        stopped = asyncio.create_task(self.server.stop(grace_s))
        self.door.end_watchers()
        await stopped


def _options(limits: Limits, deadline_s_max: float) -> list[tuple[str, int]]:
    message_bytes_max = limits.message_bytes_max + _MESSAGE_BYTES_ABOVE
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # Between the soft and the absolute limit gRPC refuses at random; equal limits refuse by size alone.
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", int(limits.connection_age_s * 1_000)),
        # No call under way is cut by it.
        ("grpc.max_connection_age_grace_ms", int((deadline_s_max + 30.0) * 1_000)),
        ("grpc.keepalive_time_ms", int(_KEEPALIVE_S * 1_000)),
        ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(_PING_INTERVAL_S_MIN * 1_000)),
        ("grpc.http2.max_ping_strikes", 3),
    ]


def service_port(
    name: str,
    settings: Settings,
    listen: str,
    *,
    register: Callable[[grpc.aio.Server], None],
    service_names: Collection[str],
    health_servicer: Health,
    certificates: Certificates | None,
) -> Port:
    """Everything that the process `name` serves, on `listen`. Raises ListenError."""
    limits, tls = settings.limits, settings.tls
    deadline_s_max = settings.orchestrator.deadline_s
    callers = next((names for service, names in tls.callers.items() if service == name), [])
    door = Door(
        calls_max=limits.concurrent_rpcs_max,
        deadline_s_max=deadline_s_max,
        message_bytes_max=limits.message_bytes_max,
        calls=ServerCalls() if telemetry.is_on() else None,
        callers=callers,
    )
    server = grpc.aio.server(
        interceptors=[door],
        options=_options(limits, deadline_s_max),
        maximum_concurrent_rpcs=limits.concurrent_rpcs_max + _RPCS_ABOVE,
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    register(server)
    channelz.add_channelz_servicer(server)
    reflection.enable_server_reflection(
        (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.channelz.v1.Channelz"), server
    )
    credentials = None
    if certificates is not None:
        credentials = certificates.server_credentials(require_client=name in tls.require_client_certificate)
    return Port(server, door, _bind(server, listen, credentials), credentials)


def health_port(settings: Settings, listen: str, *, health_servicer: Health) -> Port:
    """Health alone, without TLS. Raises ListenError."""
    limits, deadline_s_max = settings.limits, settings.orchestrator.deadline_s
    door = Door(
        calls_max=_HEALTH_RPCS_MAX,
        deadline_s_max=deadline_s_max,
        message_bytes_max=_HEALTH_MESSAGE_BYTES_MAX,
        calls=None,
    )
    server = grpc.aio.server(
        interceptors=[door], options=_options(limits, deadline_s_max), maximum_concurrent_rpcs=_HEALTH_RPCS_MAX
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    return Port(server, door, _bind(server, listen, None))


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    """The address that it got. Raises ListenError."""
    try:
        port = server.add_insecure_port(listen) if credentials is None else server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {listen}") from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
