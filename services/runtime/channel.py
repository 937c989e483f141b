"""Channels to the other services.

Promises: calls go round robin over every address of the target and only to those whose health service says SERVING;
a call that was lost with its connection is sent again on UNAVAILABLE, at most ATTEMPTS_MAX times in all, and in an
outage hardly ever (retry throttling: a burst of some four, 1.001 times the traffic in 5,000 calls); what a handler
complains of is not repeated; a dead connection is noticed within KEEPALIVE_S + KEEPALIVE_TIMEOUT_S. With certificates
it is TLS: a server of another authority or another name is not spoken to, and new files cost no call.
"""

from __future__ import annotations

import json
from typing import Final

import grpc

from services.runtime.interceptors import remaining_s
from services.runtime.renewed_channel import RenewedChannel
from services.runtime.tls import Certificates, Pems
from services.runtime.tracing import client_interceptors

__all__ = ["ATTEMPTS_MAX", "RESOLVE_S_MIN", "open_channel", "remaining_s"]

ATTEMPTS_MAX: Final = 4
KEEPALIVE_S: Final = 20.0
KEEPALIVE_TIMEOUT_S: Final = 5.0
# A replica that has restarted is connected again before the calls that wait for one have been sent for the last time:
# the next replica may be restarted as soon as it serves.
_RECONNECT_S_MIN: Final = 0.1
_RECONNECT_S_MAX: Final = 0.5
# One attempt, the TLS handshake included, may take longer than the pause before the next.
_CONNECT_S_MAX: Final = 2.0
# How soon a new replica behind a name may be seen.
RESOLVE_S_MIN: Final = 5.0


def _service_config(service_name: str) -> str:
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": service_name},
            "methodConfig": [
                {
                    "name": [{}],
                    "retryPolicy": {
                        "maxAttempts": ATTEMPTS_MAX,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "1s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
            # Half of the tokens gone: no more retries. A failure takes 1, also one that is not to be repeated, and a
            # success gives 0.1 back. Who has many long calls under way needs more (orchestrator.grpc_executor).
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        }
    )


def _only_host(target: str) -> str:
    """The host that all addresses of a list are of, which gRPC takes for one odd name; empty for everything else."""
    scheme, _, listed = target.partition(":")
    hosts = {address.rpartition(":")[0].strip("[]") for address in listed.split(",")}
    return hosts.pop() if scheme in {"ipv4", "ipv6"} and len(hosts) == 1 else ""


def open_channel(
    target: str,
    *,
    service_name: str,
    message_bytes_max: int,
    certificates: Certificates | None = None,
    server_name: str = "",
) -> grpc.aio.Channel:
    """A channel to `target`, e.g. "dns:///executor:50054" or "ipv4:127.0.0.1:1,127.0.0.1:2"; connects when first used.

    `service_name` is the full name whose health decides, e.g. "spillway.v1.CacheService". To be closed by the caller.
    With `certificates` it is TLS, and the server's has to have `server_name`, by default the target's host. A list of
    addresses of several hosts needs one.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", _service_config(service_name)),
        ("grpc.enable_retries", 1),
        # What may be repeated has to be kept; the default of 256 KiB would leave long conversations without a retry.
        ("grpc.per_rpc_retry_buffer_size", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1_000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(_RECONNECT_S_MIN * 1_000)),
        ("grpc.min_reconnect_backoff_ms", int(_CONNECT_S_MAX * 1_000)),
        ("grpc.max_reconnect_backoff_ms", int(_RECONNECT_S_MAX * 1_000)),
        ("grpc.dns_min_time_between_resolutions_ms", int(RESOLVE_S_MIN * 1_000)),
    ]
    interceptors = client_interceptors()
    if certificates is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    if name := server_name or _only_host(target):
        options.append(("grpc.ssl_target_name_override", name))

    def secure(pems: Pems) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)
        return grpc.aio.secure_channel(target, credentials, options=options, interceptors=interceptors)

    return RenewedChannel(certificates, secure)
