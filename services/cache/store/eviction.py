"""Which entry leaves when there is no room: the one that saves the least.

An entry's value is what its answer had cost, for each time it was served, for each byte it takes; ageing makes what was
served long ago leave in the end. That is GreedyDual-Size with Frequency (Cherkasova, 1998): priority = clock + uses *
cost / size, where the clock is the priority of the last one that left. It is compared with LRU and SIEVE on replayed
traces in docs/cache-index.md.

Tenants are kept apart: room is made where the most is taken (as a share of the entries, or of the bytes, whichever is
larger), so a tenant that holds less than its equal share never loses an entry to another's flood; and a tenant beyond
its own limit makes room among its own.

Promises: pure and deterministic; a use costs no more than a lookup in a dictionary, everything else is logarithmic.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Evictor", "gain_of"]

COST_NANOUSD_MIN = 1_000
"""What an answer counts for at least: even a free one saves the wait."""

STALE_MAX = 64
"""Outdated records that a heap may hold beyond as many as it has valid ones."""


@dataclass(slots=True)
class _Item:
    priority: float
    gain: float  # of one use: cost for each byte
    size_bytes: int


@dataclass(slots=True)
class _Tenant:
    """`queue` holds at least one record for each item, of at most its priority."""

    items: dict[str, _Item] = field(default_factory=dict)
    queue: list[tuple[float, str]] = field(default_factory=list)
    clock: float = 0.0
    size_bytes: int = 0


class Evictor:
    """Knows the entries of a store by key, tenant, size and use; says who has to leave. Belongs to one thread."""

    def __init__(self, *, entries_max: int, tenant_entries_max: int, bytes_max: int) -> None:
        if min(entries_max, tenant_entries_max, bytes_max) < 1:
            raise ValueError("limits must be at least 1")
        self._entries_max = entries_max
        self._tenant_entries_max = tenant_entries_max
        self._bytes_max = bytes_max
        self._tenant_of: dict[str, str] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._largest: list[tuple[float, str]] = []  # of each tenant a record of at least its usage, negated
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._tenant_of)

    @property
    def size_bytes(self) -> int:
        """Of all entries."""
        return self._size_bytes

    def keys_of(self, tenant: str) -> Iterable[str]:
        """The tenant's entries."""
        found = self._tenants.get(tenant)
        return () if found is None else tuple(found.items)

    def add(self, key: str, *, tenant: str, size_bytes: int, cost_nanousd: int) -> list[str]:
        """Makes room for an entry and takes it in, in place of the one with that key; the keys that had to leave."""
        self.remove(key)
        evicted = []
        while (own := self._tenants.get(tenant)) is not None and len(own.items) >= self._tenant_entries_max:
            evicted.append(self._evict(tenant))
        while self._tenant_of and (
            len(self._tenant_of) >= self._entries_max or self._size_bytes + size_bytes > self._bytes_max
        ):
            evicted.append(self._evict(self._find_largest()))
        own = self._tenants.setdefault(tenant, _Tenant())
        self._put(own, key, tenant, size_bytes, cost_nanousd)
        if len(own.queue) > 2 * len(own.items) + STALE_MAX:
            own.queue = [(each.priority, name) for name, each in own.items.items()]
            heapq.heapify(own.queue)
        self._note_usage(tenant)
        return evicted

    def fill(self, entries: Iterable[tuple[str, str, int, int]]) -> list[str]:
        """`add`, one after the other, of key, tenant, size in bytes and cost: faster, while there is room."""
        evicted: list[str] = []
        grown: set[str] = set()  # whose usage and queue are to be settled before anything is evicted
        tenants, tenant_of = self._tenants, self._tenant_of
        for key, tenant, size_bytes, cost_nanousd in entries:
            own = tenants.get(tenant)
            if (
                own is None
                or key in tenant_of
                or len(own.items) >= self._tenant_entries_max
                or len(tenant_of) >= self._entries_max
                or self._size_bytes + size_bytes > self._bytes_max
            ):
                self._settle(grown)
                evicted += self.add(key, tenant=tenant, size_bytes=size_bytes, cost_nanousd=cost_nanousd)
                continue
            gain = gain_of(cost_nanousd, size_bytes)
            priority = own.clock + gain
            own.items[key] = _Item(priority, gain, size_bytes)
            own.queue.append((priority, key))
            own.size_bytes += size_bytes
            tenant_of[key] = tenant
            self._size_bytes += size_bytes
            grown.add(tenant)
        self._settle(grown)
        return evicted

    def _put(self, own: _Tenant, key: str, tenant: str, size_bytes: int, cost_nanousd: int) -> None:
        gain = gain_of(cost_nanousd, size_bytes)
        priority = own.clock + gain
        own.items[key] = _Item(priority, gain, size_bytes)
        heapq.heappush(own.queue, (priority, key))
        own.size_bytes += size_bytes
        self._tenant_of[key] = tenant
        self._size_bytes += size_bytes

    def use(self, key: str) -> None:
        """The entry was served. Nothing happens when there is none."""
        tenant = self._tenant_of.get(key)
        if tenant is not None:
            own = self._tenants[tenant]
            item = own.items[key]
            # Uses so far are in the priority; the clock that has moved on since is what a recent use is worth more.
            item.priority = max(item.priority, own.clock) + item.gain

    def remove(self, key: str) -> bool:
        """Forgets the entry; False when there is none."""
        tenant = self._tenant_of.pop(key, None)
        if tenant is None:
            return False
        own = self._tenants[tenant]
        item = own.items.pop(key)
        own.size_bytes -= item.size_bytes
        self._size_bytes -= item.size_bytes
        if not own.items:
            del self._tenants[tenant]
        return True

    def _evict(self, tenant: str) -> str:
        """Removes the least valuable entry of a tenant that has some."""
        own = self._tenants[tenant]
        while True:
            priority, key = heapq.heappop(own.queue)
            item = own.items.get(key)
            if item is None:
                continue
            if item.priority > priority:  # it was used since
                heapq.heappush(own.queue, (item.priority, key))
                continue
            own.clock = item.priority
            self.remove(key)
            return key

    def _find_largest(self) -> str:
        while True:
            usage, tenant = self._largest[0]
            now = -self._usage(tenant)
            if usage == now:
                return tenant
            if tenant in self._tenants:
                heapq.heapreplace(self._largest, (now, tenant))
            else:
                heapq.heappop(self._largest)

    def _settle(self, grown: set[str]) -> None:
        """And then there are none to be settled."""
        for tenant in grown:
            heapq.heapify(self._tenants[tenant].queue)
            self._note_usage(tenant)
        grown.clear()

    def _note_usage(self, tenant: str) -> None:
        heapq.heappush(self._largest, (-self._usage(tenant), tenant))
        if len(self._largest) > 2 * len(self._tenants) + STALE_MAX:
            self._largest = [(-self._usage(name), name) for name in self._tenants]
            heapq.heapify(self._largest)

    def _usage(self, tenant: str) -> float:
        own = self._tenants.get(tenant)
        return 0.0 if own is None else max(len(own.items) / self._entries_max, own.size_bytes / self._bytes_max)


def gain_of(cost_nanousd: int, size_bytes: int) -> float:
    """Of one use of an entry: what its answer had cost, in nano US dollars for each byte it takes."""
    return max(COST_NANOUSD_MIN, cost_nanousd) / max(1, size_bytes)
