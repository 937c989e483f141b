"""Whether a question asks of what was, is or will be. English.

Promises: pure, total, linear; closed lists of auxiliaries, and irregular verbs. Past and perfect ask the same ("did it
leave", "has it left"), neither asks what will be; what is done now may be what will be done, and is for other guards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from services.cache.matching.lexicon import FUNCTION_WORDS, IRREGULAR, word_set
from services.cache.matching.tokens import bare_words, words_in

__all__ = ["tense_of", "tenses_differ"]

_SENTENCE: Final = re.compile(r"(?<=[.?!;])\s+")

_AUXILIARY: Final = {
    word: tense
    for tense, words in {
        "future": "will wont shall shant gonna",
        "past": "did didnt had hadnt",
        "then": "was were wasnt werent",
        "present": "do does dont doesnt",
        "now": "is are am isnt arent whats",
        "perfect": "has have hasnt havent",
    }.items()
    for word in words.split()
}
_OTHERS: Final = word_set("can could may might must should would ought cant cannot couldnt shouldnt wouldnt")
_GOING: Final = word_set("going about")
_PLACES: Final = word_set("the a an my your our his her their this that")
_BARE: Final = word_set("who what which whose how")
_NEAR: Final = 5
_BARE_WORDS_MAX: Final = 3
_SAME: Final = word_set("put set cut hit let read cost shut hurt quit bet spread split")
_PARTICIPLES: Final = _SAME | word_set("been done had got left said found stood led met shot bound laid")
_NOT_PAST: Final = word_set("used need red bed speed feed seed shed weed breed id united")

_CONFLICTS: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("future", "past"),
        ("future", "perfect"),
        ("future", "then"),
        ("present", "past"),
        ("present", "perfect"),
    )
)


def tenses_differ(a: str, b: str) -> bool:
    """Whether questions of these tenses ask of different times; empty ones tell nothing."""
    return frozenset((a, b)) in _CONFLICTS


def tense_of(text: str, words: Sequence[str]) -> str:
    """ "past", "perfect", "then" (was), "now" (is), "present" or "future" of the question in the text, empty where it
    does not say; of several sentences that of the last question. `words`: those of the text in lower case."""
    if _SENTENCE.search(text):
        asked = next((each for each in reversed(_SENTENCE.split(text)) if each.endswith("?")), text)
        words = bare_words(words_in(asked), titled=True)
    for place, word in enumerate(words):
        if word in _OTHERS:
            return ""
        if tense := _AUXILIARY.get(word, ""):
            return _in_place(tense, words[place + 1 : place + 1 + _NEAR])
        if word in _GOING and _is_going_to(words[place : place + _NEAR]):
            return "future"
        if word == "used" and "to" in words[place + 1 : place + 2]:
            return "past"
        if 0 < place < _BARE_WORDS_MAX and words[0] in _BARE and _is_past(word) and word not in _SAME:
            return "past"
    return "present" if words and words[0] == "who" else ""


def _in_place(tense: str, behind: Sequence[str]) -> str:
    """What the auxiliary says before these words."""
    if tense == "now" and _is_going_to(behind):
        return "future"
    if tense == "perfect" and ("to" in behind[:1] or not any(map(_is_past, behind))):
        return "present"
    return tense


def _is_going_to(behind: Sequence[str]) -> bool:
    for place, word in enumerate(behind[:-1]):
        if word in _GOING and behind[place + 1] == "to":
            return not _PLACES.issuperset(behind[place + 2 : place + 3])
    return False


def _is_past(word: str) -> bool:
    if word in _PARTICIPLES:
        return True
    if word in _NOT_PAST or word in FUNCTION_WORDS:
        return False
    return word.endswith("ed") or IRREGULAR.get(word, word) != word
