"""Who calls: the tenant and the key of a call, before anything else of it is looked at.

Promises: where keys are required nobody gets past without one that is good for the method, and the tenant is the key's:
a request that names another is PERMISSION_DENIED. Without keys the request's tenant is believed. Work that was let in
and has yet to begin asks again whether its key stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from services.runtime.errors import PermissionDenied

__all__ = ["Caller", "Doorkeeper", "KeyRing"]

Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id` is empty where no keys are required."""

    tenant: str
    key_id: str = ""


class KeyRing(Protocol):
    """The keys that are in force."""

    def authenticate(self, metadata: Sequence[tuple[str, str | bytes]], scope: str) -> Caller:
        """Whose key the call came with. Raises Unauthenticated, PermissionDenied."""
        ...

    def stands(self, key_id: str, scope: str) -> bool:
        """Whether the key has been neither revoked nor robbed of the scope; it may have expired."""
        ...


class Doorkeeper:
    """Without `keys` everybody may come in."""

    def __init__(self, keys: KeyRing | None) -> None:
        self._keys = keys

    def admit(self, context: Context, scope: str, tenant: str) -> Caller:
        """Whose call it is; `tenant` is what the request says. Raises Unauthenticated, PermissionDenied."""
        if self._keys is None:
            return Caller(tenant)
        metadata = context.invocation_metadata() or ()
        caller = self._keys.authenticate([(str(key), value) for key, value in metadata], scope)
        if tenant not in {"", caller.tenant}:
            raise PermissionDenied("the request names another tenant than its key's")
        return caller

    def still_stands(self, key_id: str, scope: str) -> bool:
        """Whether what a key set off may begin now. What came without a key may; so may everything without `keys`."""
        return self._keys is None or not key_id or self._keys.stands(key_id, scope)
