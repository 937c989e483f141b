"""Which waiting texts are computed together. Pure: no clock, no asyncio, no model.

Promises: no more than `items_max` texts wait; a batch holds texts of like length, at most BATCH_ITEMS_MAX of them and,
padding counted, about BATCH_TOKENS_MAX tokens; the shortest go first, yet no text is passed over more than
PASSED_OVER_MAX times.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["BATCH_ITEMS_MAX", "BATCH_TOKENS_MAX", "PASSED_OVER_MAX", "BatchQueue", "tokens_estimate"]

BATCH_ITEMS_MAX = 32
# About 120 ms on one core: what a text that arrives now waits at worst for the batch before it.
BATCH_TOKENS_MAX = 1_024
PASSED_OVER_MAX = 4
# Texts within this factor (and this many tokens) of the batch's shortest share its padding.
LENGTH_FACTOR = 2
LENGTH_SLACK_TOKENS = 16
# English has about 4 bytes of UTF-8 for each token; Chinese, with 3 bytes for each, is guessed a little low.
BYTES_PER_TOKEN = 4

Key = TypeVar("Key", bound=Hashable)


def tokens_estimate(utf8_bytes: int, tokens_max: int) -> int:
    """Roughly how many tokens a text has, without tokenising it. 2 to `tokens_max`."""
    return min(tokens_max, 2 + utf8_bytes // BYTES_PER_TOKEN)


@dataclass(slots=True)
class _Waiting(Generic[Key]):
    key: Key
    tokens: int
    passed_over: int = 0


class BatchQueue(Generic[Key]):
    """Keys of texts that wait, each with its length in tokens. Not thread-safe."""

    __slots__ = ("_items_max", "_waiting")

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        # In order of arrival.
        self._waiting: dict[Key, _Waiting[Key]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room_for(self, count: int) -> bool:
        """Whether `count` more may be added."""
        return len(self._waiting) + count <= self._items_max

    def add(self, key: Key, tokens: int) -> None:
        """Adds a text; ask `has_room_for` first. Raises OverflowError when full."""
        if not self.has_room_for(1):
            raise OverflowError
        self._waiting[key] = _Waiting(key, tokens)

    def remove(self, key: Key) -> bool:
        """Forgets a text that nobody waits for any more; whether it was still waiting."""
        return self._waiting.pop(key, None) is not None

    def take(self) -> list[Key]:
        """The next batch, empty when nothing waits."""
        if not self._waiting:
            return []
        by_length = sorted(self._waiting.values(), key=lambda item: item.tokens)
        # The first in order of arrival that has waited its turns, if any, leads; else the shortest.
        leader = next((item for item in self._waiting.values() if item.passed_over >= PASSED_OVER_MAX), by_length[0])
        longest_allowed = LENGTH_FACTOR * leader.tokens + LENGTH_SLACK_TOKENS
        batch = [leader]
        for item in by_length:
            fits = (len(batch) + 1) * max(item.tokens, leader.tokens) <= BATCH_TOKENS_MAX
            if len(batch) >= BATCH_ITEMS_MAX or item.tokens > longest_allowed or not fits:
                break
            if item is not leader and item.tokens * LENGTH_FACTOR + LENGTH_SLACK_TOKENS >= leader.tokens:
                batch.append(item)
        for item in batch:
            del self._waiting[item.key]
        for item in self._waiting.values():
            item.passed_over += 1
        return [item.key for item in batch]
