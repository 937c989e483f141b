"""A question without the courtesies before and behind it: "quick question: could you tell me ... thank you"; what these
order where no question follows ("explain the bill"), and where they are what is asked ("please in Greek"). English.

Promises: pure, linear; takes whole phrases of closed lists, never all of a question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import AUXILIARIES, COURTESIES, word_set

__all__ = ["leading_order", "question_span", "spoken_courtesies", "without_courtesies"]

_PHRASES_MAX: Final = 4
"""So many courtesies follow each other at most."""

_ENDS: Final = frozenset(
    tuple(phrase.split())
    for phrase in ("thanks", "please", "thank you", "many thanks", "thanks a lot", "thank you very much", "to me")
)
_ENDING_WORDS_MAX: Final = 4
_TO_ME: Final = ("to", "me")

_SAYABLE: Final = {word: word for word in ("please", "thanks", "hello", "hi", "hey")} | {"thank": "thanks"}
_GREETINGS: Final = frozenset(
    tuple(phrase.split())
    for phrase in (*_SAYABLE, "good morning", "good afternoon", "good evening", "good day", "excuse me", "pardon me")
)
_NAMING: Final = word_set(
    "say says saying said sign spell pronounce translate learn teach for of is word phrase mean means"
)
"""A courtesy right behind these is what is asked for."""

_NAMED_IN: Final = word_set("in for of as mean means")
"""As is a greeting right before these."""

_ORDERS: Final = (
    ("explain", word_set("explain describe understand")),
    ("help", word_set("help guide")),
    ("give", word_set("give show tell")),
    ("know", frozenset({"know"})),
)
_WONDERING: Final = frozenset({"i", "id", "let"})
"""Of phrases that say what the asker wants to know: nothing is ordered."""

_ASKING: Final = word_set("who whom whose what whats which when where wheres why how hows if whether")
_HEAD_WORDS_MAX: Final = 3
_ALIKE: Final = frozenset({("know", "the"), ("give", "about")})
_TOLD: Final = word_set("""
    cause causes concept definition description difference differences distinction explanation history idea
    importance instructions meaning method methods overview principle procedure process reason reasons rules step steps
    summary way ways
""")
"""What is explained where it is given."""


def _by_first_word() -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted(COURTESIES, key=len, reverse=True):
        found.setdefault(phrase[0], []).append(phrase)
    return {word: tuple(phrases) for word, phrases in found.items()}


_STARTS: Final = _by_first_word()
_LAST: Final = frozenset(phrase[-1] for phrase in _ENDS)


def question_span(words: tuple[str, ...]) -> tuple[int, int]:
    """Where the question begins and ends among words in lower case; never empty where there are words."""
    start, end = 0, len(words)
    if not words or (words[0] not in _STARTS and words[-1] not in _LAST):
        return start, end
    for phrase in _leading(words):
        start += len(phrase)
    for length in range(_ENDING_WORDS_MAX, 0, -1):
        ending = words[end - length :]
        if end - start > length and ending in _ENDS and (start or ending != _TO_ME):
            return start, end if words[end - length - 1] in _NAMING else end - length
    return start, end


def _leading(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The courtesies that it begins with, but for the last if nothing is behind it."""
    start = 0
    for _ in range(_PHRASES_MAX):
        starts = _STARTS.get(words[start], ()) if start < len(words) else ()
        found = next((each for each in starts if words[start : start + len(each)] == each), ())
        start += len(found)
        if not found or start == len(words) or (found in _GREETINGS and words[start] in _NAMED_IN):
            return
        yield found


def leading_order(words: tuple[str, ...]) -> str:
    """What words in lower case order by the courtesy that they begin with, "give", "explain", "help" or "know"; empty
    where a question follows, or something that is explained where it is given."""
    if not words or words[0] not in _STARTS:
        return ""
    order, start = "", 0
    for phrase in _leading(words):
        start += len(phrase)
        if phrase[0] not in _WONDERING:
            order = next((name for name, verbs in _ORDERS if not verbs.isdisjoint(phrase)), order)
    rest = words[start:]
    if not order or rest[0] in AUXILIARIES or not _ASKING.isdisjoint(rest):
        return ""
    if not _TOLD.isdisjoint(rest[:_HEAD_WORDS_MAX]) or (order, rest[0]) in _ALIKE:
        return ""
    return order


def spoken_courtesies(words: Sequence[str]) -> frozenset[str]:
    """Courtesies that are what is asked about: the Greek word for "please"."""
    if _SAYABLE.keys().isdisjoint(words):
        return NOTHING
    found = [
        _SAYABLE[word]
        for before, word, behind in zip(("", *words), words, (*words[1:], ""), strict=False)
        if word in _SAYABLE and (before in _NAMING or (not before and behind in _NAMED_IN))
    ]
    return shared(found)


def without_courtesies(words: tuple[str, ...]) -> tuple[str, ...]:
    """What is left of words in lower case."""
    start, end = question_span(words)
    return words[start:end]
