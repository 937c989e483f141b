"""Where answers are kept: what every store can do, and what it tells its followers.

Promises of every store: an entry is found until its absolute expiry, and never after; a put replaces the entry of that
key; what cannot be reached in time raises StoreUnavailableError, within the store's time limit; `changes` lets any
number of followers keep an index, and tells them when they have to begin anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.cache.entry import Entry, Question, Selector

__all__ = [
    "AnswerStore",
    "CaughtUp",
    "Change",
    "Forget",
    "Indexed",
    "IndexedMany",
    "Interrupted",
    "Reached",
    "Removed",
    "StoreUnavailableError",
]


class StoreUnavailableError(Exception):
    """The store could not be reached, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """An entry that can be found by meaning was put."""

    key: str
    partition: str
    embedding_model: str
    vector: bytes
    expires_at_unix_s: float


@dataclass(frozen=True, slots=True)
class IndexedMany:
    """Entries of one embedding model that can be found by meaning, as they are now: one at each place of the lists."""

    embedding_model: str
    keys: Sequence[str]
    partitions: Sequence[str]
    vectors: Sequence[bytes]
    expires_at_unix_s: Sequence[float]

    def each(self) -> Iterator[Indexed]:
        """One by one."""
        rows = zip(self.keys, self.partitions, self.vectors, self.expires_at_unix_s, strict=True)
        return (
            Indexed(key, partition, self.embedding_model, vector, expires_at)
            for key, partition, vector, expires_at in rows
        )


@dataclass(frozen=True, slots=True)
class Removed:
    """Entries were deleted. Expiry is not told: followers know the times."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """What is known may be wrong. Everything that is there follows, and then CaughtUp."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The follower knows what the store knows."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The store cannot be reached; the follower is behind until the next CaughtUp."""


@dataclass(frozen=True, slots=True)
class Reached:
    """All changes up to this position were told. It may be handed to `changes` later, by another process too."""

    position: str


Change = Indexed | IndexedMany | Removed | Forget | CaughtUp | Interrupted | Reached


class AnswerStore(Protocol):
    """A store of entries. All methods but `changes` and `close` may raise StoreUnavailableError."""

    @property
    def evicted(self) -> int:
        """How many entries left for lack of room, as far as this process knows."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        """The living entries of these keys, in this order. An entry that cannot be read is None."""
        ...

    async def get_questions(self, keys: Sequence[str]) -> list[Question | None]:
        """Of the entries that `get_many` would give, the questions."""
        ...

    async def read(self, key: str) -> tuple[Entry | None, str]:
        """The living entry of this key, and the moment of reading it, for as little as the entry alone; never empty.
        When there is no room for what might be put, a moment that the store does not know."""
        ...

    async def moment(self, key: str) -> str:
        """Now, in the history of invalidations that the entry with this key belongs to; for `put`. At most
        MOMENT_CHARS_MAX characters, the same ones for any two moments of a key with nothing between them, mostly."""
        ...

    async def put(self, entry: Entry, *, since: str | None = None) -> bool:
        """Stores the entry in place of the one with its key. False, and nothing is stored, when an invalidation takes
        it that began after the moment `since`, or may have, as it is not known any more; None: now."""
        ...

    async def find(self, selector: Selector) -> list[str]:
        """The keys of all living entries that the selector takes, in any order."""
        ...

    async def delete(self, keys: Sequence[str]) -> int:
        """Deletes the entries; how many there were."""
        ...

    async def invalidate(self, selector: Selector) -> int:
        """From its return on nobody finds what the selector takes of what was stored before; how many were removed
        by then. The rest of a large number may be removed later."""
        ...

    def served(self, key: str) -> None:
        """The entry served a request, which makes it worth more when there is no room. No I/O, never raises."""
        ...

    def changes(self, position: str = "") -> AsyncGenerator[Change, None]:
        """Forget, all entries (many at once), CaughtUp, and then every change as it comes; endless, and never raises by
        itself.

        A store that still knows all changes since `position` leaves out Forget and what was told before it.
        """
        ...

    async def close(self) -> None:
        """Lets go of all connections. Nothing may be called after it."""
        ...
