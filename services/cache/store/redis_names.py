"""Names of keys in Redis.

Promises: pure; versioned names, without a text of any request. All keys of a shard share one hash tag, so that a
transaction stays in one slot of a cluster; a tenant's keys are all in one shard.

    spillway:{cache:<shard>}:2:entry:<entry key>   hash, expires with the entry
    spillway:{cache:<shard>}:2:entries             sorted set "<tenant digest>:<entry key>" by expiry in Unix ms
    spillway:{cache:<shard>}:2:changes             stream of changes, bounded: which key was put, which were removed
    spillway:{cache:<shard>}:2:room:…              what entries take, and who leaves first: see `redis_room`
    spillway:{cache:<shard>}:2:history:<bucket>    hash: what was invalidated (see `invalidation`); never expires
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.cache.partition import BUCKET_DIGITS
from services.cache.store.redis_servers import shard_tag

__all__ = ["VERSION", "Names", "key_of_member", "member", "tenant_pattern"]

VERSION = 2
"""Of this layout. What an older one left behind is not read: its entries expire, its lists may be deleted."""

ROOM_PARTS = ("sizes", "clocks", "counts", "bytes", "totals")
"""Of the account that a shard keeps; beside them it has one part for each tenant."""

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Names:
    """Names of keys, with this many shards."""

    shards: int

    def shard_of(self, key: str) -> int:
        """Where the entry lies. Any text has a shard, so that a key that is none is simply not found."""
        digits = key[:BUCKET_DIGITS]
        return int(digits, 16) % self.shards if set(digits) <= _HEX and digits else 0

    def entry(self, key: str) -> str:
        """The entry's hash."""
        return f"{_prefix(self.shard_of(key))}entry:{key}"

    def entries_at(self, shard: int, keys: Sequence[str]) -> list[str]:
        """The hashes of entries of that shard."""
        prefix = f"{_prefix(shard)}entry:"
        return [prefix + key for key in keys]

    def history(self, bucket: str) -> str:
        """What was invalidated in the bucket."""
        return f"{_prefix(self.shard_of(bucket))}history:{bucket}"

    def entries(self, shard: int) -> str:
        """The sorted set of all entries."""
        return f"{_prefix(shard)}entries"

    def changes(self, shard: int) -> str:
        """The stream of changes."""
        return f"{_prefix(shard)}changes"

    def room(self, shard: int, tenant: str) -> list[str]:
        """The shard's account, as far as a put of that tenant always needs it."""
        parts = (*ROOM_PARTS, f"worth:{_tenant_digest(tenant)}")
        return [f"{_prefix(shard)}room:{part}" for part in parts]


def member(tenant: str, key: str) -> str:
    """The entry in the sorted set of all entries."""
    return f"{_tenant_digest(tenant)}:{key}"


def tenant_pattern(tenant: str | None) -> str:
    """The pattern of the members of one tenant, or of all."""
    return "*" if tenant is None else f"{_tenant_digest(tenant)}:*"


def key_of_member(raw: bytes) -> str:
    """The entry's key; empty for what is no member."""
    return raw.decode("ascii", "replace").partition(":")[2]


def _prefix(shard: int) -> str:
    return f"spillway:{{{shard_tag(shard)}}}:{VERSION}:"


def _tenant_digest(tenant: str) -> str:
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]
