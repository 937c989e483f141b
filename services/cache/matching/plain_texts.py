"""Texts of words alone, most questions: by their single words it is known at once what they have not.

Promises: pure, total; what a word may bring is remembered, boundedly. A flag may be set where nothing comes of it,
never the other way round: what `absent` says of a text is what would be read of it (`reading`, `traits`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from sys import intern
from typing import Final, NamedTuple

from services.cache.matching.figures import WORDED
from services.cache.matching.kept import NOTHING
from services.cache.matching.lexicon import (
    ABBREVIATIONS,
    CASED_WORDS,
    FOREIGN_FUNCTION_WORDS,
    NEGATIONS,
    ROMAN_NUMERALS,
    word_set,
)
from services.cache.matching.particulars import JOINING_WORDS, NOTHING_PARTICULAR, PARTICULAR_WORDS
from services.cache.matching.remembered import remembered
from services.cache.matching.symbols import may_be_code
from services.cache.matching.traits import DIRECTING, OPPOSED, ORDINALS, SWITCHING, unprefixed

__all__ = ["Absent", "PlainText", "plain_text"]

REMEMBERED_WORDS_MAX: Final = 16_384

_WORD: Final = "[A-Za-z]+(?:'(?:d|m|t|ve|ll|re))?"
_WORDS_ALONE: Final = re.compile(rf"{_WORD}(?:[.,?]? +{_WORD})*[.?]?")
"""ASCII words and the common marks of sentences; of apostrophes those alone by which nothing is owned or quoted."""

_IN_SMALL: Final = re.compile(
    r"(?:[A-Z]?[a-z]+|I'(?:d|m|ve|ll)|[a-z]+'(?:d|m|t|ve|ll|re)|[AI])"
    r"(?: +(?:[a-z]+(?:'(?:d|m|t|ve|ll|re))?|I(?:'(?:d|m|ve|ll))?))*[.?]?"
)
"""One sentence in small letters, but for "I" and the first letter of all."""

_MARKS: Final = str.maketrans(",.?", "   ")
_ENDS: Final = (".", "?")
_CAPITAL_WORDS: Final = frozenset({"A", "I"})

_FOREIGN: Final = 1
_FIGURED: Final = 2
_NEGATING: Final = 4
_ORDINAL: Final = 8
_OPPOSED: Final = 16
_PREFIXED: Final = 32
_DIRECTING: Final = 64
_SWITCHING: Final = 128
_CASED: Final = 256
_CONTRACTED: Final = 512
_PARTICULAR: Final = 1_024
_ABBREVIATED: Final = 2_048
_CAPITAL: Final = 4_096
_JOINING: Final = 8_192

_UNCALM: Final = _FOREIGN | _FIGURED | _NEGATING | _ORDINAL | _OPPOSED | _PREFIXED | _SWITCHING
FLAGS_MAX: Final = 8_192
"""Sets of flags that are remembered, some 2 KB each where all are; texts have few hundred."""

_MAY_BE_ABBREVIATED: Final = frozenset(each for each in ABBREVIATIONS if " " not in each)
_PHRASES: Final = tuple(each for each in ABBREVIATIONS if " " in each)

_ROMAN: Final = re.compile("|".join(f" {numeral}" for numeral in ROMAN_NUMERALS))

_FLAGS: Final = (
    (_FOREIGN, FOREIGN_FUNCTION_WORDS),
    (_FIGURED, WORDED),
    (_NEGATING, NEGATIONS),
    (_ORDINAL, ORDINALS),
    (_OPPOSED, OPPOSED),
    (_DIRECTING, DIRECTING),
    (_SWITCHING, SWITCHING),
    (_CASED, CASED_WORDS),
    (_CONTRACTED, word_set("whats whos wheres hows")),
    (_PARTICULAR, PARTICULAR_WORDS),
    (_JOINING, JOINING_WORDS),
    (_ABBREVIATED, _MAY_BE_ABBREVIATED),
)


_NEVER_IN_WORDS: Final[dict[str, object]] = {
    "literals": (),
    "code": (),
    "hidden": "",
    "latin": True,
    "possessive": False,
}
_WITHOUT: Final[tuple[tuple[int, dict[str, object], dict[str, object]], ...]] = (
    (_CAPITAL, {"names": NOTHING, "shouted": NOTHING}, {}),
    (_FOREIGN, {"english": True}, {}),
    (_FIGURED, {"numbers": (), "units": NOTHING}, {}),
    (_CASED, {"cased": False}, {}),
    (_CONTRACTED, {"contracted": False}, {}),
    (_JOINING, {"goes_on": False}, {}),
    (_PARTICULAR, {"particulars": NOTHING_PARTICULAR}, {}),
    (_NEGATING, {}, {"negations": 0, "negated": NOTHING, "denied": NOTHING}),
    (_ORDINAL, {}, {"ordinals": NOTHING}),
    (_OPPOSED, {}, {"opposed": {}}),
    (_PREFIXED, {}, {"prefixed": {}}),
    (_DIRECTING, {}, {"directions": {}}),
)


class Absent(NamedTuple):
    """Attributes that need no reading, with their values, of a Reading and of its Traits."""

    reading: dict[str, object]
    traits: dict[str, object]


class PlainText(NamedTuple):
    """`spelled`: the words as they are written. `words`: in lower case and without apostrophes; None where capitals
    may say something."""

    spelled: tuple[str, ...]
    words: tuple[str, ...] | None
    absent: Absent


def plain_text(text: str) -> PlainText | None:
    """What is known at once of the text; None of one that is not of words alone, or may be abbreviated."""
    bare = text[:-1] if text.endswith(_ENDS) else text
    if not bare.isascii() or bare[:1] == " " or bare[-1:] == " ":
        return None
    in_small = letters_alone = bare.replace(" ", "").isalpha()
    if not letters_alone:
        if _WORDS_ALONE.fullmatch(text) is None:
            return None
        in_small = _IN_SMALL.fullmatch(text) is not None
        bare = bare if in_small else text.translate(_MARKS)
    spelled = tuple(map(intern, bare.split()))
    lower = bare.lower()
    words = spelled if lower == bare else tuple(map(intern, lower.replace("'", "").split()))
    if letters_alone:
        in_small = _is_in_small(spelled, words)
    elif words is spelled and "'" in lower:
        words = tuple(map(intern, lower.replace("'", "").split()))
    flags = 0 if in_small else _CAPITAL | _CASED
    if not in_small and not letters_alone:
        flags |= _PARTICULAR | _JOINING
    for word in words:
        flags |= _flags_of(word)
    if flags & _ABBREVIATED or any(map(lower.__contains__, _PHRASES)):
        return None
    if not in_small and (_ROMAN.search(text) or any(map(may_be_code, spelled))):
        return None
    return PlainText(spelled, words if in_small else None, _absent(flags))


def _is_in_small(spelled: Sequence[str], words: Sequence[str]) -> bool:
    """As `_IN_SMALL` has it."""
    if spelled is words:
        return True
    first = spelled[0]
    if not (first[1:].islower() if len(first) > 1 else first.islower() or first in _CAPITAL_WORDS):
        return False
    return spelled[1:] == words[1:] or all(word.islower() or word == "I" for word in spelled[1:])


@remembered(REMEMBERED_WORDS_MAX)
def _flags_of(word: str) -> int:
    flags = _PREFIXED if unprefixed(word) else 0
    for flag, words in _FLAGS:
        if word in words:
            flags |= flag
    return flags


@lru_cache(maxsize=FLAGS_MAX)
def _absent(flags: int) -> Absent:
    reading: dict[str, object] = {**_NEVER_IN_WORDS, "calm": not flags & _UNCALM}
    traits: dict[str, object] = {}
    for flag, without, traits_without in _WITHOUT:
        if not flags & flag:
            reading.update(without)
            traits.update(traits_without)
    return Absent(reading, traits)
