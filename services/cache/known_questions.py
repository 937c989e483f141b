"""What is known of stored questions without reading them from the store again: their text, and whose answer they share.

Promises: memory is bounded, the question heard of longest ago is forgotten. A text never changes under its key (the key
is a hash of it); which group it belongs to may, on another replica: so nothing is served by this alone.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.cache.entry import Entry
from services.cache.pair_features import Idf, Sketch, sketch
from services.cache.reading import Reading

__all__ = ["KnownQuestion", "KnownQuestions", "have_same_words"]

SKETCHES_MAX: Final = 2_048
"""Questions kept as they were read, some 10 KB each; reading one again costs about 0.15 ms."""

_OUTER: Final = ".,;:!?\"'()`«»“”‘’…¿¡"


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """`group` and `aliases` as in Entry; an entry that shares nobody's answer is a group of its own. `plain` is the
    text without case, spaces and outer punctuation."""

    text: str
    plain: str
    group: str
    aliases: int


class KnownQuestions:
    """At most `entries_max` questions."""

    def __init__(self, idf: Idf, *, entries_max: int) -> None:
        self._idf = idf
        self._entries_max = entries_max
        self._known: OrderedDict[str, KnownQuestion] = OrderedDict()
        self._sketches: OrderedDict[str, Sketch] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> KnownQuestion | None:
        """What is known of the entry."""
        return self._known.get(key)

    def learn(self, entry: Entry) -> None:
        """Keeps what the entry says."""
        self._known[entry.key] = KnownQuestion(
            entry.question, plain_words(entry.question), entry.group or entry.key, entry.aliases
        )
        self._known.move_to_end(entry.key)
        while len(self._known) > self._entries_max:
            self.forget(next(iter(self._known)))

    def forget(self, key: str) -> None:
        """The entry is gone."""
        self._known.pop(key, None)

    def sketch_of(self, key: str, text: str) -> Sketch:
        """The question of that entry, read. It stays true when the entry leaves: the key stands for the text."""
        found = self._sketches.get(key)
        if found is None:
            found = self._sketches[key] = sketch(text, self._idf)
            while len(self._sketches) > SKETCHES_MAX:
                self._sketches.popitem(last=False)
        self._sketches.move_to_end(key)
        return found

    def read(self, text: str) -> Sketch:
        """A question that was asked, read. After a miss it comes again, with its answer."""
        return self.sketch_of(text, text)


def plain_words(text: str) -> str:
    """The text without case, spaces and the punctuation around its words."""
    tokens = (token.strip(_OUTER) for token in unicodedata.normalize("NFKC", text).casefold().split())
    return " ".join(token for token in tokens if token)


def have_same_words(a: Reading, b: Reading) -> bool:
    """Whether two questions are the same but for case, spaces and outer punctuation, where case says nothing."""
    return (
        a.plain == b.plain
        and a.literals == b.literals
        and a.code == b.code
        and a.shouted == b.shouted
        and a.capitalised.isdisjoint(b.lowered)
        and b.capitalised.isdisjoint(a.lowered)
    )
