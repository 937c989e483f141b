"""Questions as they were read, kept for the next lookup near them.

Promises: memory is bounded; a question is never evicted by its own reading. Where there is no room for all, any one of
them leaves: what is asked in turns then finds a part of what it needs, of which the oldest would always just have left.
"""

from __future__ import annotations

from random import Random
from typing import Final

from services.cache.matching.pair_features import Idf, Sketch, sketch

__all__ = ["SKETCHES_BYTES_MAX", "Sketches"]

SKETCHES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of questions kept as they were read, some 5 KB each; reading one again costs about 0.05 ms, and a lookup holds up to
16 of them against its question."""

SKETCH_BYTES: Final = 3_200
SKETCH_CHAR_BYTES: Final = 32
"""What a sketch takes by what is mostly asked of it, and more for each character (measured: 4 to 6 KB of 57, 21 of
2,000; 4 KB more where all is asked)."""

Key = tuple[bool, str]


class Sketches:
    """At most `bytes_max`. `key`: a text, or what stands for it, and which of both it is."""

    def __init__(self, idf: Idf, *, bytes_max: int = SKETCHES_BYTES_MAX) -> None:
        self._idf = idf
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[Key, Sketch] = {}
        self._sizes: list[tuple[Key, int]] = []
        self._random = Random(0)  # of which nothing depends but time

    def of(self, key: Key, text: str) -> Sketch:
        """The text, to be read."""
        found = self._kept.get(key)
        if found is not None:
            return found
        made = sketch(text, self._idf)
        size = SKETCH_BYTES + SKETCH_CHAR_BYTES * len(text)
        self._bytes += size
        while self._sizes and self._bytes > self._bytes_max:
            self._evict()
        found = self._kept[key] = made
        self._sizes.append((key, size))
        return found

    def _evict(self) -> None:
        at = int(self._random.random() * len(self._sizes))
        last = self._sizes.pop()
        key, size = self._sizes[at] if at < len(self._sizes) else last
        if at < len(self._sizes):
            self._sizes[at] = last
        del self._kept[key]
        self._bytes -= size
