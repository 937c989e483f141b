"""Which entries were oftener wrong than right for the requests that they served.

Promises: pure, and bounded.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["EntryVerdicts"]


class EntryVerdicts:
    """Counts the verdicts on up to `ENTRIES_MAX` entries; the one judged longest ago begins anew."""

    ENTRIES_MAX = 10_000

    def __init__(self) -> None:
        self._balances: OrderedDict[str, int] = OrderedDict()  # right ones less wrong ones

    def count(self, entry_key: str, *, right: bool) -> None:
        """One verdict."""
        self._balances[entry_key] = self._balances.get(entry_key, 0) + (1 if right else -1)
        self._balances.move_to_end(entry_key)
        while len(self._balances) > self.ENTRIES_MAX:
            self._balances.popitem(last=False)

    def condemns(self, entry_key: str) -> bool:
        """Whether the entry was oftener wrong than right, and was not forgotten since."""
        return self._balances.get(entry_key, 0) < 0

    def forget(self, entry_key: str) -> None:
        """The entry is gone, or another answer took its place."""
        self._balances.pop(entry_key, None)
