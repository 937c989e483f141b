"""What Redis says that its entries take, held against what is there."""

from __future__ import annotations

from typing import Any

from services.cache.store.redis_names import Names, key_of_member

__all__ = ["ROOM", "settled_account"]

NAMES = Names(1)
ROOM = NAMES.entries(0).removesuffix("entries") + "room:"


def settled_account(client: Any) -> dict[str, tuple[int, int]]:
    """Of each tenant (its digest) entries and bytes. Every entry is on the account once, nothing else is, sums hold."""
    members: list[bytes] = client.zrange(NAMES.entries(0), 0, -1)
    tenants = {key_of_member(raw): raw.decode().partition(":")[0] for raw in members}
    sizes = {key.decode(): value.decode().split(" ") for key, value in client.hgetall(ROOM + "sizes").items()}
    assert {key: tenant for key, (_, _, tenant) in sizes.items()} == tenants
    assert all(client.exists(NAMES.entry(key)) for key in tenants)
    taken: dict[str, tuple[int, int]] = {}
    for key, (size, _, tenant) in sizes.items():
        entries, size_bytes = taken.get(tenant, (0, 0))
        taken[tenant] = (entries + 1, size_bytes + int(size))
        assert client.zscore(f"{ROOM}worth:{tenant}", key) is not None
    for tenant, (entries, _) in taken.items():
        assert client.zcard(f"{ROOM}worth:{tenant}") == entries
    assert len(client.keys(f"{ROOM}worth:*")) == len(taken)
    assert _scores(client, "counts") == {tenant: entries for tenant, (entries, _) in taken.items()}
    assert _scores(client, "bytes") == {tenant: size_bytes for tenant, (_, size_bytes) in taken.items()}
    assert _scores(client, "clocks").keys() <= taken.keys()
    total = sum(size_bytes for _, size_bytes in taken.values())
    assert _scores(client, "totals") == ({"bytes": total} if taken else {})
    return taken


def _scores(client: Any, name: str) -> dict[str, float]:
    return {raw.decode(): score for raw, score in client.zrange(ROOM + name, 0, -1, withscores=True)}
