"""The grammar around the content words, which says who does what to whom: "who hired Tim", "who did Tim hire". English.

Promises: pure, total, symmetric, linear. Knows no grammar beyond closed lists of words: which auxiliaries there are,
whether a question word has one behind it, what it ends with. What these cannot tell apart differs in the order of its
words, which is another guard's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import (
    AUXILIARIES,
    COURTESIES,
    OBJECTS,
    PART_WORDS,
    STRANDED_WORDS,
    TRAILING_COURTESIES,
)

__all__ = ["WHO_ACTS", "Frame", "frame_difference", "read_frame"]

WHO_ACTS = "one asks who acts, the other does not"

_ARGUMENTS = frozenset({"who", "whom", "what", "which"})
_AMOUNTS = frozenset({"many", "much"})
_OBJECTS = frozenset(OBJECTS)
_DOING = frozenset({"do", "can", "should", "will"})
_OPERATORS = {
    word: "do" if kind in _DOING else kind for word, kind in AUXILIARIES.items() if kind in _DOING or kind == "be"
}
_COURTESIES_MAX = 3
FRAMES_MAX = 4_096
"""Frames that are kept once: they are of closed lists of words, and most texts have one of few."""
_COURTESIES = {first: tuple(each for each in COURTESIES if each[0] == first) for first, *_ in COURTESIES}


@dataclass(frozen=True, slots=True)
class Frame:
    """What is seen of a text's grammar.

    `operators` are the kinds of auxiliaries in it, "do" and "be"; `opening` is the kind of the one that it opens with,
    if it does. `bare_question`: its question word asks for a thing or a person and has no auxiliary behind it, so that
    what it asks for is what acts. `ending` is the preposition that it ends with, if it does. `objects` are the persons
    to whom something is done.
    """

    operators: frozenset[str]
    opening: str
    bare_question: bool
    ending: str
    objects: frozenset[str]
    prepositions: frozenset[str]


def read_frame(words: Sequence[str], *, contracted: bool, last: str) -> Frame:
    """The frame of words in lower case. `contracted`: there is an "is" in a "what's". `last` ends the text."""
    asked = _without_courtesies(words)
    operators = {_OPERATORS[word] for word in asked if word in _OPERATORS}
    if contracted:
        operators.add("be")
    asks = not operators and (
        not _ARGUMENTS.isdisjoint(asked)
        or ("how" in asked and any(word == "how" and following in _AMOUNTS for word, following in pairwise(asked)))
    )
    return _frame(
        shared(operators),
        AUXILIARIES.get(asked[0], "") if asked else "",
        asks,
        last if last in STRANDED_WORDS else "",
        NOTHING if _OBJECTS.isdisjoint(asked) else shared([OBJECTS[word] for word in asked if word in OBJECTS]),
        shared(STRANDED_WORDS.intersection(words)),
    )


_frame = lru_cache(maxsize=FRAMES_MAX)(Frame)


def frame_difference(a: Frame, b: Frame) -> str:
    """How the two frames give the same words other parts to play; empty when they do not."""
    only_a, only_b = a.operators - b.operators, b.operators - a.operators
    if only_a and only_b:
        return "one asks with a form of to do, the other with one of to be"
    if a.bare_question != b.bare_question:
        return WHO_ACTS
    if a.opening and b.opening and a.opening != b.opening:
        return "they open with different auxiliaries"
    if (a.ending and a.ending not in b.prepositions) or (b.ending and b.ending not in a.prepositions):
        return "one ends with a preposition that the other does not have"
    if "be" in a.operators and "be" in b.operators and ("by" in a.prepositions) != ("by" in b.prepositions):
        return "one is in the passive voice"
    if PART_WORDS & a.prepositions - b.prepositions and PART_WORDS & b.prepositions - a.prepositions:
        return "prepositions stand in each other's place"
    if a.objects != b.objects:
        return "something is done to somebody in only one"
    return ""


def _without_courtesies(words: Sequence[str]) -> Sequence[str]:
    """What is left behind "could you please tell me" and its like."""
    for _ in range(_COURTESIES_MAX):
        phrases = _COURTESIES.get(words[0], ()) if words else ()
        found = next((phrase for phrase in phrases if tuple(words[: len(phrase)]) == phrase), None)
        if found is None:
            break
        words = words[len(found) :]
        if tuple(words[-2:]) in TRAILING_COURTESIES:
            words = words[:-2]
    return words
