"""Questions as they were read, kept for the next lookup near them.

Promises: memory is bounded; a question is never evicted by its own reading. Where there is no room for all, any one of
them leaves: what is asked in turns then finds a part of what it needs, of which the oldest would always just have left.
"""

from __future__ import annotations

from random import Random
from typing import Final

from services.cache.matching.pair_features import Idf, Sketch, sketch

__all__ = ["SKETCHES_BYTES_MAX", "Sketches"]

SKETCHES_BYTES_MAX: Final = 128 * 1024 * 1024
"""Of questions kept as they were read, some 11 KB each; reading one again costs about 0.05 ms, and a lookup holds up to
16 of them against its question."""

SKETCH_BYTES: Final = 5_000
SKETCH_TEXT_BYTES: Final = 110
"""What a sketch takes once it was compared and held against the guards, and more for each byte of its text in UTF-8
(measured: 8 to 12 KB of usual questions, 18 of 110 letters; of 2,000 other letters, whose words nobody shares, 100 to
300 KB, and 160 to 520 where they are Chinese: mostly their trigrams)."""

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
        size = SKETCH_BYTES + SKETCH_TEXT_BYTES * len(text.encode("utf-8", "surrogatepass"))
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
