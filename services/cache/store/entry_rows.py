"""Where each key's row lies in the file of a store of answers.

Promises: no I/O; the changes of a transaction are kept or not; what had expired before the start is found until it has
left, as a clock may be put back; a number is given to one row alone in the life of a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = ["EntryRows", "RowChanges"]


class EntryRows:
    """`rows`: of every row, oldest first, its number, its key, and what lies there if it has not expired. Raises
    ValueError for a key that is there twice. New ones get numbers above `ended`, too: what a note says is over is told
    by its number.

    What had expired may be there under its key beside others: earlier versions did not find it for a put.
    """

    def __init__(self, rows: Sequence[tuple[int, str, bytes | None]] = (), *, ended: int = 0) -> None:
        self.living: dict[str, int] = {}
        self.expired: dict[str, tuple[int, ...]] = {}
        self.next = 1 + max(ended, max((row for row, _, _ in rows), default=0))
        self.last_expired = max((row for row, _, packed in rows if packed is None), default=0)
        living = 0
        for row, key, packed in rows:
            if packed is None:
                self.expired[key] = (*self.expired.get(key, ()), row)
            else:
                self.living[key] = row
                living += 1
        if len(self.living) < living:
            raise ValueError("a key is there twice")


class RowChanges:
    """The changes of a transaction. `keep` them, or leave them."""

    def __init__(self, rows: EntryRows) -> None:
        self._rows = rows
        self._changed: dict[str, int | None] = {}
        self._left: set[str] = set()  # of those that had expired

    @property
    def has_expired(self) -> bool:
        """Whether anything is there that had expired before the start."""
        return len(self._left) < len(self._rows.expired)

    def taken(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        """Of the keys that lie somewhere, the rows and the key; from now on they lie nowhere."""
        taken = []
        for key in keys:
            row = self._changed[key] if key in self._changed else self._rows.living.get(key)
            if row is not None:
                taken.append((row, key))
                self._changed[key] = None
            if key in self._rows.expired:
                taken += self._leaving(key)
        return taken

    def expired(self, count: int) -> list[tuple[int, str]]:
        """What had expired under up to `count` keys, which have nothing of that kind from now on."""
        remaining = (key for key in reversed(self._rows.expired) if key not in self._left)
        return [pair for key in islice(remaining, count) for pair in self._leaving(key)]

    def put(self, key: str) -> int:
        """The number of its new row."""
        row = self._rows.next
        self._rows.next += 1
        self._changed[key] = row
        return row

    def keep(self) -> None:
        """They have happened."""
        living, expired = self._rows.living, self._rows.expired
        for key, row in self._changed.items():
            if row is None:
                living.pop(key, None)
            else:
                living[key] = row
        for key in self._left:
            del expired[key]
        if self._left and expired:  # or the next look from its end would pass by the gaps of all that left
            expired.update((expired.popitem(),))

    def _leaving(self, key: str) -> list[tuple[int, str]]:
        if key in self._left:
            return []
        self._left.add(key)
        return [(row, key) for row in self._rows.expired[key]]
