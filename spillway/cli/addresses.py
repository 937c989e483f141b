"""Where the processes of a service are, for commands that ask each of them itself.

Promises: every address behind a name, not only one that a channel would choose, and at most `ADDRESSES_MAX` of them.
What was said on the command line comes first, then the suite that runs in the directory, then the configuration.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.runtime.config import ConfigError, load
from spillway.calling import grpc_target
from spillway.cli.state import read_state

__all__ = ["ADDRESSES_MAX", "NoServiceError", "addresses_of", "find_addresses"]

ADDRESSES_MAX = 64


class NoServiceError(Exception):
    """There is nothing to ask, or nothing answers. The message says what to do."""


def find_addresses(
    service: str, target: str, config: Path | None, environment: Mapping[str, str], directory: Path
) -> tuple[str, ...]:
    """Those of `service`, a name as in the section `services` of the configuration.

    Raises NoServiceError, and CallerError as `addresses_of`.
    """
    if target:
        return addresses_of(target)
    state = read_state(directory) if config is None else None
    if state is not None:
        return tuple(one.address for one in state.services if one.name.partition("-")[0] == service)
    try:
        return addresses_of(getattr(load(config, environment).settings.services, service).target)
    except ConfigError as error:
        raise NoServiceError(str(error)) from error


def addresses_of(target: str) -> tuple[str, ...]:
    """Every address behind a gRPC target; a name that cannot be resolved stands for itself.

    Understands what the configuration may hold: host:port, dns:///host:port, ipv4:a:1,b:2, ipv6:…, unix:/path.
    Raises CallerError for the address of a web page.
    """
    grpc_target(target)
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return (target,)
    if scheme in {"ipv4", "ipv6"}:
        return tuple(rest.split(","))[:ADDRESSES_MAX]
    names = rest.rpartition("/")[2] if scheme == "dns" else target
    found = [address for name in names.split(",") if name for address in _resolved(name.strip())]
    return tuple(dict.fromkeys(found))[:ADDRESSES_MAX]


def _resolved(name: str) -> Sequence[str]:
    host, _, port = name.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError):
            return (name,)
        return [_joined(str(address[0]), int(address[1])) for *_, address in found]
    return (name,)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
