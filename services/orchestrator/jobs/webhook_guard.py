"""Where webhooks may go: public addresses, over https, and what the operator lists. Pure.

Promises: an address is judged after resolution, as a number, so no way of writing it gets around; every range that is
not plainly public is refused, and so is every form of IPv6 that carries an IPv4 address within. A name that resolves to
several addresses of which one is not allowed is refused as a whole. What the operator lists as a host may be anywhere
but link-local (where clouds keep their credentials), multicast and unspecified; those only a listed network allows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

__all__ = ["ForbiddenUrlError", "WebhookGuard", "WebhookUrl", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT_OF: Final = {"https": 443, "http": 80}

_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, reachable from every machine there
        "169.254.0.0/16",  # link-local; metadata of AWS, Google, Azure and others
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        # Of IPv6 only 2000::/3 is public at all; these are the parts of it that are not.
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",  # documentation
    )
)
_PUBLIC_V6: Final = ipaddress.ip_network("2000::/3")


class ForbiddenUrlError(ValueError):
    """A webhook may not go there. The message is a constant."""


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """A URL, taken apart. `host` is lower case, without brackets; `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT_OF[self.scheme] else f"{host}:{self.port}"


def is_public(address: Address) -> bool:
    """Whether anybody's machine may have it, and nobody's inner one."""
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address not in _PUBLIC_V6):
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


class WebhookGuard:
    """`private_hosts` are jobs.webhook_private_hosts: names, addresses, networks.

    Raises ValueError for one that is none of these.
    """

    def __init__(self, private_hosts: Iterable[str] = ()) -> None:
        names: set[str] = set()
        networks: list[Network] = []
        for text in private_hosts:
            entry = text.strip().lower().rstrip(".")
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not entry or "/" in entry or ":" in entry:
                    raise ValueError("an entry of jobs.webhook_private_hosts is neither a host nor a network") from None
                names.add(entry)
        self._names = frozenset(names)
        self._networks = tuple(networks)

    def check(self, text: str) -> WebhookUrl:
        """The URL, as far as it can be judged before resolution. Raises ForbiddenUrlError."""
        try:
            parts = urlsplit(text)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise ForbiddenUrlError("must be a URL") from None
        if parts.scheme not in PORT_OF or not host or not text.isascii() or not text.isprintable() or " " in text:
            raise ForbiddenUrlError("must be an https URL, in ASCII")
        if "@" in parts.netloc or "\\" in text or "%" in parts.netloc or "#" in text:
            raise ForbiddenUrlError("must have neither credentials nor a fragment")
        if port == 0:
            raise ForbiddenUrlError("must have a port that can be")
        if parts.scheme != "https" and not self._is_listed(host):
            raise ForbiddenUrlError("must begin with https://")
        address = _literal(host)
        if address is not None and not self._may_go(host, address):
            raise ForbiddenUrlError("must name a public address")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return WebhookUrl(parts.scheme, host, port or PORT_OF[parts.scheme], path)

    def allowed(self, host: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """What the host resolved to, as numbers to connect to; empty when one of them, or all, must not be."""
        judged: list[str] = []
        for text in addresses:
            address = _literal(text)
            if address is None or not self._may_go(host, address):
                return ()
            judged.append(str(address))
        return tuple(dict.fromkeys(judged))

    def _may_go(self, host: str, address: Address) -> bool:
        if is_public(address) or any(address in network for network in self._networks):
            return True
        reserved = address.is_reserved and not address.is_loopback  # among them every IPv4 address within an IPv6 one
        never = address.is_link_local or address.is_multicast or address.is_unspecified or reserved
        return host in self._names and not never

    def _is_listed(self, host: str) -> bool:
        address = _literal(host)
        return host in self._names or (address is not None and any(address in network for network in self._networks))


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
