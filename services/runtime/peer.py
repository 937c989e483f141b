"""Who is at the other end of a connection: the names of the certificate with which it was made.

Promises: pure. A name is a subject alternative name of type DNS or URI, as the authority signed it; the common name, IP
addresses and e-mail addresses are none. gRPC has verified the certificate before anything here is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import grpc

from services.runtime.errors import SpillwayError

__all__ = ["not_admitted", "peer_names"]

_TYPES: Final = ("peer_dns", "peer_uri")
_DETAIL_NAMES_MAX: Final = 8


def peer_names(auth_context: Mapping[str, Iterable[bytes]]) -> frozenset[str]:
    """The names in gRPC's `auth_context` of a call; none without TLS, and none of a caller without a certificate."""
    return frozenset(name.decode("utf-8", "replace") for kind in _TYPES for name in auth_context.get(kind, ()))


def not_admitted(names: frozenset[str]) -> SpillwayError:
    """For a caller with these names, of which none may call."""
    if not names:
        public = "a client certificate with a name is needed"
        return SpillwayError(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", public)
    public = "the client certificate does not allow this"
    detail = "certificate of " + ", ".join(sorted(names)[:_DETAIL_NAMES_MAX])
    return SpillwayError(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", public, detail=detail)
