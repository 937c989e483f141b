"""Which waiting texts are computed together. Pure: no clock, no asyncio, no model.

Promises: no more than `items_max` texts wait; a batch holds texts of like length, no more of them and, padding counted,
no more tokens than its limits say (a single text may be longer). Texts of small calls go before those of large ones,
of which a batch leads only when BULK_WAITS times its tokens of the others have gone since the last: neither waits for
ever, and a large call, however large, holds up a small one by no more than a batch now and then. Among their like the
shortest go first, yet no text is passed over more than PASSED_OVER_MAX times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = [
    "BATCH_ITEMS_MAX",
    "BATCH_TOKENS_MAX",
    "BULK_WAITS",
    "PASSED_OVER_MAX",
    "BatchLimits",
    "BatchQueue",
    "Pace",
    "tokens_estimate",
]

BATCH_ITEMS_MAX = 32
# About 60 ms on one core: what a text that arrives now waits at worst for the batch before it. Twice as many tokens are
# no faster, for the activations leave the processor's cache.
BATCH_TOKENS_MAX = 512
PASSED_OVER_MAX = 4
# Where both wait, large calls have a quarter of the time: somebody waits for a judgement.
BULK_WAITS = 3
# Texts within this factor (and this many tokens) of the batch's shortest share its padding.
LENGTH_FACTOR = 2
LENGTH_SLACK_TOKENS = 16
# English has about 4 bytes of UTF-8 for each token; Chinese, with 3 bytes for each, is guessed a little low.
BYTES_PER_TOKEN = 4
# How much the latest batch counts in what a token is taken to cost. More when the machine has become slower: whoever is
# promised too much waits in vain.
PACE_WEIGHT = 0.2
PACE_WEIGHT_SLOWER = 0.5

Key = TypeVar("Key", bound=Hashable)


def tokens_estimate(utf8_bytes: int, tokens_max: int) -> int:
    """Roughly how many tokens a text has, without tokenising it. 2 to `tokens_max`."""
    return min(tokens_max, 2 + utf8_bytes // BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Of one batch: texts, and tokens with padding, which stand for the time it takes."""

    items_max: int = BATCH_ITEMS_MAX
    tokens_max: int = BATCH_TOKENS_MAX


class Pace:
    """What a token has lately cost, in seconds of one worker. Until a batch is done it is unknown, and taken for 0."""

    __slots__ = ("_token_s",)

    def __init__(self) -> None:
        self._token_s: float | None = None

    def observe(self, tokens: int, took_s: float) -> None:
        """A batch of so many took so long."""
        latest = took_s / max(1, tokens)
        known = latest if self._token_s is None else self._token_s
        weight = PACE_WEIGHT_SLOWER if latest > known else PACE_WEIGHT
        self._token_s = known + weight * (latest - known)

    def needed_s(self, tokens: float, *, token_s_min: float = 0.0) -> float:
        """For so many, by one worker. `token_s_min`: what one is known to cost now, at least."""
        return tokens * max(self._token_s or 0.0, token_s_min)


@dataclass(slots=True)
class _Text:
    tokens: int
    bulk: bool
    passed_over: int = 0


@dataclass(slots=True)
class _Waiting(_Text, Generic[Key]):
    key: Key = field(kw_only=True)


AnyText = TypeVar("AnyText", bound=_Text)


class BatchQueue(Generic[Key]):
    """Keys of texts that wait, each with its length in tokens. Not thread-safe."""

    __slots__ = ("_items_max", "_limits", "_since_bulk", "_waiting")

    def __init__(self, items_max: int, limits: BatchLimits | None = None) -> None:
        self._items_max = items_max
        self._limits = limits or BatchLimits()
        # In order of arrival.
        self._waiting: dict[Key, _Waiting[Key]] = {}
        # Tokens of texts in a hurry that have gone while others waited, since a batch of these led.
        self._since_bulk = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room_for(self, count: int) -> bool:
        """Whether `count` more may be added."""
        return len(self._waiting) + count <= self._items_max

    def tokens_before(self, tokens: int, *, bulk: bool = False) -> int:
        """Of the waiting texts that go before one of so many that would be added now."""
        added = _Text(tokens, bulk)
        waiting: list[_Text] = [*self._waiting.values(), added]
        before = 0
        for item in self._turns(waiting):
            if item is added:
                break
            before += item.tokens
        return before

    def add(self, key: Key, tokens: int, *, bulk: bool = False) -> None:
        """Adds a text; ask `has_room_for` first. `bulk`: one of many of a call, in no hurry. Raises OverflowError."""
        if not self.has_room_for(1):
            raise OverflowError
        self._waiting[key] = _Waiting(tokens, bulk, key=key)

    def hurry(self, key: Key) -> None:
        """A small call wants a text that may still wait for a large one."""
        if (item := self._waiting.get(key)) is not None:
            item.bulk = False

    def remove(self, key: Key) -> bool:
        """Forgets a text that nobody waits for any more; whether it was still waiting."""
        return self._waiting.pop(key, None) is not None

    def in_turn(self) -> list[tuple[Key, int]]:
        """What waits, with its tokens, in about the order in which it goes if nothing else arrives."""
        return [(item.key, item.tokens) for item in self._turns(self._waiting.values())]

    def take(self) -> list[Key]:
        """The next batch, empty when nothing waits."""
        leader = next(self._turns(self._waiting.values()), None)
        if leader is None:
            return []
        batch = [leader]
        longest = leader.tokens
        # Texts in no hurry do not make a judgement's batch longer; those in a hurry may ride along with the others.
        riders = [item for item in self._waiting.values() if item is not leader and item.bulk <= leader.bulk]
        for item in sorted(riders, key=lambda item: (item.bulk, item.tokens)):
            if len(batch) >= self._limits.items_max:
                break
            if not self._like(item.tokens, leader.tokens):
                continue
            if (len(batch) + 1) * max(item.tokens, longest) <= self._limits.tokens_max:
                batch.append(item)
                longest = max(item.tokens, longest)
        for item in batch:
            del self._waiting[item.key]
        for item in self._waiting.values():
            item.passed_over += item.bulk == leader.bulk
        tokens = len(batch) * longest
        others_wait = any(item.bulk for item in self._waiting.values())
        self._since_bulk = self._since_bulk + tokens if others_wait and not leader.bulk else 0
        return [item.key for item in batch]

    def _turns(self, waiting: Iterable[AnyText]) -> Iterator[AnyText]:
        """These in the order in which they go: lines of two kinds, merged by what is due to the one in no hurry."""
        everything = list(waiting)
        hurried = deque(_line([item for item in everything if not item.bulk], self._limits.tokens_max))
        others = deque(_line([item for item in everything if item.bulk], self._limits.tokens_max))
        left = sum(item.tokens for item in others)
        since_bulk = self._since_bulk
        while hurried or others:
            if hurried and (not others or since_bulk < BULK_WAITS * min(left, self._limits.tokens_max)):
                since_bulk += hurried[0].tokens
                yield hurried.popleft()
                continue
            batch = 0
            while others and (not batch or batch + others[0].tokens <= self._limits.tokens_max):
                batch += others[0].tokens
                yield others.popleft()
            left -= batch
            since_bulk = 0

    @staticmethod
    def _like(tokens: int, others: int) -> bool:
        shorter, longer = min(tokens, others), max(tokens, others)
        return longer <= LENGTH_FACTOR * shorter + LENGTH_SLACK_TOKENS


def _line(items: list[AnyText], batch_tokens: int) -> Iterator[AnyText]:
    """Texts of one kind, in order of arrival, in the order in which they go.

    The oldest, if it has been passed over often enough or will have been by then; else the shortest.
    """
    oldest, shortest = deque(items), deque(sorted(items, key=lambda item: item.tokens))
    gone: set[int] = set()
    spent = 0
    for _ in items:
        while id(oldest[0]) in gone:
            oldest.popleft()
        while id(shortest[0]) in gone:
            shortest.popleft()
        waited = oldest[0].passed_over + spent // batch_tokens >= PASSED_OVER_MAX
        item = oldest[0] if waited else shortest[0]
        gone.add(id(item))
        spent += item.tokens
        yield item
