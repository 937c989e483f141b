"""Where it is kept who works on a request id, and what came of it: the seam, and the form for one process.

Promises, of every form: of those who claim a key at once, one owns it; an owner that says nothing for its lease has
lost it to the next; what was kept first is the answer, and stays it for its window; a key that was claimed with one
digest is a conflict for any other until the window has passed, whether or not there was an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from services.runtime.clock import Clock

__all__ = ["Answered", "Busy", "Claim", "Conflict", "MemoryReplayStore", "Owned", "ReplayStore", "ReplayStoreError"]

ENTRIES_MAX: Final = 20_000
BYTES_MAX: Final = 67_108_864
"""64 MiB of answers; the oldest go first."""


class ReplayStoreError(Exception):
    """The store did not do it in time; nobody knows whether it did it at all."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The claimant's from now on. `taken_over`: another one had it, and fell silent."""

    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """There is an answer."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Busy:
    """Another one has it, for so long unless it says something."""

    remaining_s: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """It was used for something else."""


Claim = Owned | Answered | Busy | Conflict


class ReplayStore(Protocol):
    """Each method raises ReplayStoreError. Keys are hashes; `owner` is a word of one claimant's own."""

    async def claim(self, key: str, digest: bytes, owner: str, *, lease_s: float, window_s: float) -> Claim:
        """Who has it."""
        ...

    async def renew(self, key: str, owner: str, *, lease_s: float) -> bool:
        """Whether it is still the owner's; if so, for another lease."""
        ...

    async def keep(self, key: str, digest: bytes, answer: bytes, *, window_s: float) -> bytes:
        """The answer that counts from now on: this one, or one that was there before. Does not ask who owns it."""
        ...

    async def release(self, key: str, owner: str) -> None:
        """Lets the next one have it, if it is the owner's and has no answer."""
        ...


@dataclass(slots=True)
class _Entry:
    digest: bytes
    expires_at_s: float
    owner: str = ""
    owned_until_s: float = 0.0
    answer: bytes | None = None


class MemoryReplayStore:
    """For one process; lost with it. Bounded: beyond it the oldest are forgotten."""

    def __init__(self, clock: Clock, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def claim(self, key: str, digest: bytes, owner: str, *, lease_s: float, window_s: float) -> Claim:
        now_s = self._clock.monotonic()
        entry = self._living(key, now_s)
        if entry is None:
            entry = self._entries[key] = _Entry(digest, now_s + max(window_s, lease_s))
            self._trim()
        elif entry.digest != digest:
            return Conflict()
        elif entry.answer is not None:
            return Answered(entry.answer)
        elif entry.owner and entry.owned_until_s > now_s:
            return Busy(entry.owned_until_s - now_s)
        taken_over = bool(entry.owner)
        entry.owner, entry.owned_until_s = owner, now_s + lease_s
        entry.expires_at_s = now_s + max(window_s, lease_s)
        return Owned(taken_over)

    async def renew(self, key: str, owner: str, *, lease_s: float) -> bool:
        now_s = self._clock.monotonic()
        entry = self._living(key, now_s)
        if entry is None or entry.owner != owner:
            return False
        entry.owned_until_s = now_s + lease_s
        entry.expires_at_s = max(entry.expires_at_s, entry.owned_until_s)
        return True

    async def keep(self, key: str, digest: bytes, answer: bytes, *, window_s: float) -> bytes:
        now_s = self._clock.monotonic()
        entry = self._living(key, now_s)
        if entry is None:
            entry = self._entries[key] = _Entry(digest, 0.0)
        if entry.digest != digest:
            return answer  # forgotten meanwhile, and used for something else
        if entry.answer is not None:
            return entry.answer
        entry.owner, entry.answer, entry.expires_at_s = "", answer, now_s + window_s
        self._bytes += len(answer)
        self._entries.move_to_end(key)
        self._trim()
        return answer

    async def release(self, key: str, owner: str) -> None:
        entry = self._living(key, self._clock.monotonic())
        if entry is not None and entry.owner == owner:
            entry.owner = ""

    def _living(self, key: str, now_s: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at_s <= now_s:
            self._forget(key)
            return None
        return entry

    def _forget(self, key: str) -> None:
        self._bytes -= len(self._entries.pop(key).answer or b"")

    def _trim(self) -> None:
        while len(self._entries) > self._entries_max or (self._bytes > self._bytes_max and len(self._entries) > 1):
            self._forget(next(iter(self._entries)))
