"""The invalidations of a store in this process: which began when, and which are still under way.

Promises: no I/O; an invalidation holds from its beginning until its block ends; of an entry on its way, an invalidation
that is not remembered any more is taken for one of it. Belongs to one event loop.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from services.cache.entry import Entry, Scope, Selector
from services.cache.store.moment import Moment, parse_moment

__all__ = ["MemoryHistory"]


class MemoryHistory:
    """Remembers `invalidations_max`. `number`: how many there were, ever."""

    def __init__(self, invalidations_max: int) -> None:
        self._era = secrets.token_hex(8)  # no moment of an earlier process is one of this history
        self._begun: deque[Selector] = deque(maxlen=invalidations_max)
        self._under_way: dict[int, Selector] = {}
        self.number = 0

    @property
    def moment(self) -> str:
        """Now, for `admits`."""
        return Moment(self._era, self.number).text

    @property
    def is_quiet(self) -> bool:
        """Whether none is under way."""
        return not self._under_way

    def admits(self, entry: Entry, since: str | None) -> int | None:
        """The present number, unless an invalidation that began after `since` takes the entry."""
        if since is None:
            return self.number
        began = parse_moment(since)
        if began is None or began.era != self._era:
            return None
        behind = max(0, self.number - began.number)
        if behind > len(self._begun):
            return None
        news = itertools.islice(self._begun, len(self._begun) - behind, None)
        return None if any(each.takes(entry.key, entry.scope, entry.tags) for each in news) else self.number

    def takes(self, key: str, number: int, scope: Scope, tags: tuple[str, ...]) -> bool:
        """Whether one that is under way takes what was put at that number."""
        return any(number < began and selector.takes(key, scope, tags) for began, selector in self._under_way.items())

    @contextmanager
    def invalidating(self, selector: Selector) -> Iterator[int]:
        """Inside the block it is under way; its number."""
        self.number += 1
        number = self.number
        self._begun.append(selector)
        self._under_way[number] = selector
        try:
            yield number
        finally:
            del self._under_way[number]
