"""Questions as they were read, kept for the next lookup near them.

Promises: memory is bounded; a question is never evicted by its own reading. Those read last are kept as they are, the
others condensed: a lookup reads up to 16 stored questions, and what is kept of them is looked through by the garbage
collector, and leaves one by one. Where there is no room for all, any one of them leaves: what is asked in turns then
finds a part of what it needs, of which the oldest would always just have left.
"""

from __future__ import annotations

from random import Random
from typing import Final

from services.cache.matching.condensed import Condensed, condensed, expanded, is_complete, read_through
from services.cache.matching.pair_features import Idf, Sketch
from services.cache.matching.reading import read

__all__ = ["CONDENSED_BYTES_MAX", "SKETCHES_BYTES_MAX", "Sketches"]

SKETCHES_BYTES_MAX: Final = 384 * 1024
"""Of questions kept as they were read, some 11 KB each: those of the last two lookups."""

SKETCH_BYTES: Final = 5_000
SKETCH_TEXT_BYTES: Final = 110
"""What a sketch takes once it was compared and held against the guards, and more for each byte of its text in UTF-8
(measured: 8 to 12 KB of usual questions, 18 of 110 letters; of 2,000 other letters, whose words nobody shares, 100 to
300 KB, and 160 to 520 where they are Chinese: mostly their trigrams)."""

CONDENSED_BYTES_MAX: Final = 96 * 1024 * 1024
"""Of questions kept condensed; reading one again costs about 0.02 ms, and a lookup holds up to 16 of them against its
question."""

CONDENSED_BYTES: Final = 300
CONDENSED_TEXT_BYTES: Final = 30
"""What a condensed one takes, and more for each byte of its text (measured: 1,000 of usual questions, with its places
in the tables; of 2,000 letters, each a word, 125 KB)."""

Key = tuple[bool, str]


class Sketches:
    """At most `bytes_max` as they were read, but for the last one, and `condensed_bytes_max` condensed. `key`: a text,
    or what stands for it, and which of both it is."""

    def __init__(
        self, idf: Idf, *, bytes_max: int = SKETCHES_BYTES_MAX, condensed_bytes_max: int = CONDENSED_BYTES_MAX
    ) -> None:
        self._idf = idf
        self._bytes_max = bytes_max
        self._bytes = 0
        self._read: dict[Key, tuple[Sketch, int]] = {}  # the oldest first
        self._condensed_bytes_max = condensed_bytes_max
        self._condensed_bytes = 0
        self._condensed: dict[Key, Condensed] = {}
        self._sizes: list[tuple[Key, int]] = []  # of the condensed ones
        self._random = Random(0)  # of which nothing depends but time

    def of(self, key: Key, text: str) -> Sketch:
        """The text, to be read."""
        found = self._read.get(key)
        if found is not None:
            return found[0]
        before = self._condensed.get(key)
        made = Sketch(read(text) if before is None else expanded(before), self._idf)
        text_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self._bytes += SKETCH_BYTES + SKETCH_TEXT_BYTES * text_bytes
        while self._read and self._bytes > self._bytes_max:
            self._condense_oldest()
        self._read[key] = made, text_bytes
        return made

    def read_ahead(self, key: Key, text: str) -> None:
        """Condenses the text, if it is not known and there is room without another's leaving."""
        size = CONDENSED_BYTES + CONDENSED_TEXT_BYTES * len(text.encode("utf-8", "surrogatepass"))
        if key in self._read or key in self._condensed or self._condensed_bytes + size > self._condensed_bytes_max:
            return
        self._condensed_bytes += size
        self._condensed[key] = read_through(read(text))
        self._sizes.append((key, size))

    def _condense_oldest(self) -> None:
        key = next(iter(self._read))
        sketch, text_bytes = self._read.pop(key)
        self._bytes -= SKETCH_BYTES + SKETCH_TEXT_BYTES * text_bytes
        before = self._condensed.get(key)
        if before is not None:
            if not is_complete(before):
                self._condensed[key] = condensed(sketch.reading)
            return
        size = CONDENSED_BYTES + CONDENSED_TEXT_BYTES * text_bytes
        self._condensed_bytes += size
        while self._sizes and self._condensed_bytes > self._condensed_bytes_max:
            self._evict()
        self._condensed[key] = condensed(sketch.reading)
        self._sizes.append((key, size))

    def _evict(self) -> None:
        at = int(self._random.random() * len(self._sizes))
        last = self._sizes.pop()
        key, size = self._sizes[at] if at < len(self._sizes) else last
        if at < len(self._sizes):
            self._sizes[at] = last
        del self._condensed[key]
        self._condensed_bytes -= size
