"""The latest changes of a store in this process, for any number of followers.

Promises: a follower that is no further behind than there is room hears of every change, in order; another one is told
so by the end of what it reads. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator

from services.cache.store.answer_store import Change

__all__ = ["ChangeLog"]


class ChangeLog:
    """Keeps `changes_max` changes. `told`: how many there were, ever."""

    def __init__(self, changes_max: int) -> None:
        self._changes: deque[Change] = deque(maxlen=changes_max)
        self._news = asyncio.Event()
        self.told = 0

    def tell(self, change: Change) -> None:
        """The next change."""
        self._changes.append(change)
        self.told += 1
        self._news.set()

    async def since(self, known: int) -> AsyncGenerator[Change, None]:
        """All changes after the first `known`, as they come; ends when some of them are not kept any more."""
        while (behind := self.told - known) <= len(self._changes):
            news = tuple(itertools.islice(self._changes, len(self._changes) - behind, None))
            known = self.told
            for change in news:
                yield change
            if known == self.told:
                self._news.clear()
                await self._news.wait()
