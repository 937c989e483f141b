"""What is known of stored questions without reading them from the store again: their text, and whose answer they share.

Promises: memory is bounded, the question heard of longest ago is forgotten. A text never changes under its key (the key
is a hash of it); which group it belongs to may, on another replica: so nothing is served by this alone.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from services.cache.entry import Entry, Question
from services.cache.entry_group import group_of
from services.cache.matching.lexicon import AUXILIARIES, CASED_WORDS, FUNCTION_WORDS, word_set
from services.cache.matching.pair_features import Idf, Sketch
from services.cache.matching.sketches import Sketches

__all__ = ["KnownQuestion", "KnownQuestions", "same_words"]

QUESTION_BYTES: Final = 500
KNOWN_BYTES_EACH: Final = 1_000
"""What a question takes beside its text, and how much memory the question of an entry may take on average."""

_PROSE: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*,?(?: +(?:[^\W\d_]+(?:['’-][^\W\d_]+)*,?|\d{1,20}))*[.?]?")
"""Words of letters and whole numbers between spaces, of which nothing but a comma touches another sign."""

_OPENINGS: Final = (
    (
        FUNCTION_WORDS
        | AUXILIARIES.keys()
        | word_set("""
    explain describe tell give show list write define compare summarize summarise translate name find help please
""")
    )
    - CASED_WORDS
    - word_set("may will us it who")
)
"""Words that mean the same with and without a capital where a text begins with them."""

_ASKING: Final = AUXILIARIES.keys() | word_set("what which who whom whose when where why how")
"""Behind these a question mark at the end says nothing more."""

_LONE_LETTERS: Final = 1


class KnownQuestion:
    """`group` as `group_of`, `aliases` as in Entry. Immutable; no dataclass, as a lookup may make 32 of them."""

    __slots__ = ("_plain", "aliases", "group", "text")

    def __init__(self, text: str, group: str, aliases: int) -> None:
        self.text, self.group, self.aliases = text, group, aliases
        self._plain: str | None = None

    def has_words_of(self, text: str) -> bool:
        """Whether `same_words` of both are the same. Of most questions nobody asks."""
        mine = self.text
        if mine.isascii() and text.isascii() and not -2 < _signs(mine) - _signs(text) < 2:
            return False  # nothing but spaces and one mark is forgiven, beside a capital
        if self._plain is None:
            self._plain = same_words(mine)
        return self._plain == same_words(text)


class KnownQuestions:
    """At most `entries_max` questions, of KNOWN_BYTES_EACH on average."""

    def __init__(self, idf: Idf, *, entries_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = entries_max * KNOWN_BYTES_EACH
        self._known: OrderedDict[str, KnownQuestion] = OrderedDict()
        self._sketches = Sketches(idf)
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def entries_max(self) -> int:
        """At most so many are known."""
        return self._entries_max

    def get(self, key: str) -> KnownQuestion | None:
        """What is known of the entry."""
        return self._known.get(key)

    def get_many(self, keys: Sequence[str]) -> list[KnownQuestion | None]:
        """`get` of each."""
        return list(map(self._known.get, keys))

    def learn(self, entry: Entry | Question) -> None:
        """Keeps what the entry says."""
        key, text, group = entry.key, entry.question, group_of(entry)
        last = self._known.get(key)
        if last is not None:
            if last.text == text and last.group == group and last.aliases == entry.aliases:
                self._known.move_to_end(key)
                return
            self.forget(key)
        known = self._known[key] = KnownQuestion(text, group, entry.aliases)
        self._bytes += _size(known)
        while len(self._known) > self._entries_max or self._bytes > self._bytes_max:
            self.forget(next(iter(self._known)))

    def read_ahead(self, question: Question) -> bool:
        """Learns of a question that nobody asks for yet, and reads it; False where another would have to leave."""
        if len(self._known) >= self._entries_max or self._bytes + QUESTION_BYTES >= self._bytes_max:
            return False
        if question.key not in self._known:
            self.learn(question)
        self._sketches.read_ahead((True, question.key), question.question)
        return True

    def forget(self, key: str) -> None:
        """The entry is gone."""
        known = self._known.pop(key, None)
        if known is not None:
            self._bytes -= _size(known)

    def sketch_of(self, key: str, text: str) -> Sketch:
        """The question of that entry, to be read. It stays true when the entry leaves: the key stands for the text."""
        return self._sketches.of((True, key), text)

    def read(self, text: str) -> Sketch:
        """A question that was asked, to be read; it may look like a key. After a miss it comes again, with its
        answer."""
        return self._sketches.of((False, text), text)


def _size(known: KnownQuestion) -> int:
    """About what it takes with its key: a text, and once more what is compared of it."""
    return QUESTION_BYTES + 2 * sys.getsizeof(known.text)


def _signs(text: str) -> int:
    """All but spaces."""
    return len(text) - text.count(" ")


def same_words(text: str) -> str:
    """Texts for which this is equal ask the same, whatever they mean: it forgives nothing else than spaces, the capital
    of a first word that is no name, and one mark at the end, and of prose alone."""
    normal = unicodedata.normalize("NFC", text)
    prose = normal.strip(" ")
    if not _PROSE.fullmatch(prose):
        return text if normal == text else normal
    first, *others = prose.split()
    opening = first[0].lower() + first[1:]
    bare = opening.rstrip(",.?")
    if len(bare) > _LONE_LETTERS and bare in _OPENINGS:
        first = opening
    joined = " ".join((first, *others))
    mark = joined[-1]
    if mark == "." or (mark == "?" and bare in _ASKING):
        joined = joined[:-1] if joined[-2:-1].isalpha() else joined
    return joined
