"""How much room the entries in Redis have, and what is told of their use: one replica's part of `redis_room`.

Promises: a use costs a lookup no more than one in a dictionary, and is told with this replica's next puts into that
shard, as far as `USED_KEYS_MAX` goes: uses that are lost make a wrong choice of what leaves, no more. In a cluster a
shard may take what the others were last seen to leave of the limits, and its equal share at least: the sum may be
beyond the limits by what is put into several shards between two looks at all of them, `LOOK_S` apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.eviction import gain_of
from services.runtime.clock import Clock
from services.runtime.tasks import end_tasks

__all__ = ["Limits", "RedisLimits"]

ENTRY_OVERHEAD_BYTES = 2_304
"""What an entry takes in Redis beside the contents of its fields: names, its places on the list and the account, its
record on the stream, and what the allocator rounds up. Measured: docs/cache-operations.md."""

USED_KEYS_MAX = 4_096
"""Keys in each shard whose uses wait to be told, some 200 bytes each; uses of further ones are lost."""

USES_PER_PUT_MAX = 64
"""Keys whose uses go with one put, so that no put holds up others for long: some 3 microseconds each."""

LOOK_S = 60.0
"""Between two looks at what all shards of a cluster hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one tenant's entries, of all entries, and of all their bytes, with what Redis needs to keep them; at least 1
    each."""

    tenant_entries_max: int = 100_000
    entries_max: int = 100_000
    bytes_max: int = 536_870_912


@dataclass(frozen=True, slots=True)
class _Held:
    """What a shard had when it was last seen."""

    entries: int = 0
    size_bytes: int = 0


class RedisLimits:
    """Limits of all shards together. `evicted`: how many entries this replica's puts made leave. `close` at the end.
    Belongs to one event loop.

    Raises ValueError for a limit below 1.
    """

    def __init__(self, limits: Limits, *, shards: int, clock: Clock) -> None:
        if min(limits.tenant_entries_max, limits.entries_max, limits.bytes_max) < 1:
            raise ValueError("limits must be at least 1")
        self._limits = limits
        self._clock = clock
        self._held = [_Held()] * shards
        self._used: list[dict[str, int]] = [{} for _ in range(shards)]
        self._looked_s: float | None = None
        self._look: asyncio.Task[None] | None = None
        self.evicted = 0

    def use(self, shard: int, key: str) -> None:
        """The entry was served."""
        used = self._used[shard]
        if key in used or len(used) < USED_KEYS_MAX:
            used[key] = used.get(key, 0) + 1

    def room(self, shard: int, *, content_bytes: int, cost_nanousd: int) -> str:
        """For a put of an entry with so much in its fields: the text that `redis_room` reads; and takes along uses."""
        size = content_bytes + ENTRY_OVERHEAD_BYTES
        entries_max = self._share(self._limits.entries_max, [held.entries for held in self._held], shard)
        bytes_max = self._share(self._limits.bytes_max, [held.size_bytes for held in self._held], shard)
        used = self._used[shard]
        told = [(key, used.pop(key)) for key in list(used)[:USES_PER_PUT_MAX]] if used else ()
        uses = " ".join(f"{key} {times}" for key, times in told)
        gain = gain_of(cost_nanousd, size)
        return f"{self._limits.tenant_entries_max} {entries_max} {bytes_max} {size} {gain!r}|{uses}"

    def note(self, shard: int, *, entries: int, size_bytes: int, evicted: int = 0) -> None:
        """What is in the shard now, and how many this replica's put made leave."""
        self._held[shard] = _Held(entries, size_bytes)
        self.evicted += evicted

    def look(self, ask: Callable[[int], Awaitable[tuple[int, int]]]) -> None:
        """Looks at what all shards hold, beside the caller and when it is time to; not where there is but one. `ask`
        gives a shard's entries and bytes, or raises StoreUnavailableError."""
        now_s = self._clock.monotonic()
        is_fresh = self._looked_s is not None and now_s - self._looked_s < LOOK_S
        if len(self._held) == 1 or is_fresh or (self._look is not None and not self._look.done()):
            return
        self._looked_s = now_s
        self._look = asyncio.create_task(self._ask_all(ask), name="cache-redis-look")

    async def close(self) -> None:
        """Ends the look that is under way."""
        if self._look is not None:
            await end_tasks([self._look])

    async def _ask_all(self, ask: Callable[[int], Awaitable[tuple[int, int]]]) -> None:
        for shard in range(len(self._held)):
            try:
                entries, size_bytes = await ask(shard)
            except StoreUnavailableError:
                continue  # what was seen last is believed
            self.note(shard, entries=entries, size_bytes=size_bytes)

    @staticmethod
    def _share(limit: int, held: Sequence[int], shard: int) -> int:
        others = sum(held) - held[shard]
        return max(-(-limit // len(held)), limit - others)
