"""Keys to try doors with, and the moment at which they were made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.runtime.clock import FakeClock
from spillway.api_keys import ApiKey, Scope, digest, make_key

__all__ = ["NOW", "make"]

NOW = datetime.fromtimestamp(FakeClock().unix(), UTC)


def make(number: int = 1, **fields: object) -> tuple[ApiKey, str]:
    """What the file has of a key of acme's, and the key."""
    key_id, key = make_key(bytes([number]) * 6, bytes([number]) * 32)
    entry = ApiKey(key_id, "acme", digest(key), frozenset({Scope.COMPLETE}), NOW)
    return replace(entry, **fields), key  # type: ignore[arg-type]
