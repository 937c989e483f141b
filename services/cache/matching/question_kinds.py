"""What a text asks for by its question words, and whether it is in English: read off its words alone.

Promises: pure, total, linear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from services.cache.matching.courtesies import without_courtesies
from services.cache.matching.kept import shared
from services.cache.matching.lexicon import AUXILIARIES, FOREIGN_FUNCTION_WORDS, FUNCTION_WORDS, word_set

__all__ = ["is_contracted", "is_english", "is_latin", "is_possessive", "kinds_of_question"]

_HOW = word_set("""
    many much long old far often big tall high fast deep heavy large hot cold strong soon wide thick early late loud
    bright steep
""")
# "'s" behind these is a verb, behind others a possessor.
_CONTRACTING = word_set("what who where when why how it that there here he she let")
_CONTRACTED = word_set("what's who's where's when's why's how's it's that's there's here's whats whos wheres hows")
_CONTRACTED_ANY = re.compile("|".join(sorted(_CONTRACTED)), re.IGNORECASE)
_POSSESSORS = re.compile(r"s'(?!\w)")
_WAY_WORDS = word_set("way ways method methods steps step procedure process")
_QUESTION_WORDS = {
    "who": "who", "whom": "who", "whos": "who", "whose": "whose", "when": "when", "where": "where", "wheres": "where",
    "why": "why", "what": "what", "whats": "what", "which": "what", "how": "how", "hows": "how",
}  # fmt: skip
_QUESTIONING = frozenset(_QUESTION_WORDS)


def is_possessive(normal: str, spelled: Sequence[str]) -> bool:
    """Whether something is somebody's, by an apostrophe; `spelled`: its words."""
    if "'" not in normal:
        return False
    if _POSSESSORS.search(normal):
        return True
    lower = [word.casefold() for word in spelled]
    return any(word.endswith("'s") and word[:-2] not in _CONTRACTING for word in lower)


def kinds_of_question(words: tuple[str, ...]) -> frozenset[str]:
    """What is asked for: "who", "how", "how many", "yes or no" ...; a text may have none, or several."""
    kinds = set()
    if not _QUESTIONING.isdisjoint(words):
        for word, following in pairwise((*words, "")):
            kind = _QUESTION_WORDS.get(word)
            if kind is None:
                continue
            if kind == "how" and following in _HOW:
                kind = f"how {following}"
            if kind == "what" and not _WAY_WORDS.isdisjoint(words):
                kind = "how"
            kinds.add(kind)
    if not kinds:
        asked = without_courtesies(words)
        if asked and asked[0] in AUXILIARIES and "you" not in asked[1:2]:
            kinds.add("yes or no")
    return shared(kinds)


def is_contracted(word: str) -> bool:
    """Whether there is an "is" in it, as in "what's"."""
    return word.casefold() in _CONTRACTED if word.isascii() else _CONTRACTED_ANY.fullmatch(word) is not None


def is_latin(text: str) -> bool:
    """Whether all letters are Latin."""
    return text.isascii() or all(_is_latin(letter) for letter in text if letter.isalpha())


def _is_latin(letter: str) -> bool:
    # Latin with its supplements, extensions A and B and the additional ones: all below U+0250, and U+1E00-U+1EFF.
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def is_english(words: tuple[str, ...]) -> bool:
    """Not, where common words of other languages are half as many as English ones, and more."""
    if FOREIGN_FUNCTION_WORDS.isdisjoint(words):
        return True
    foreign = sum(word in FOREIGN_FUNCTION_WORDS for word in words)
    return foreign * 2 < sum(word in FUNCTION_WORDS for word in words)
