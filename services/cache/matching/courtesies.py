"""A question without the courtesies before and behind it: "quick question: could you tell me ... thank you". English.

Promises: pure, linear; takes whole phrases of closed lists, never all of a question.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from services.cache.matching.lexicon import COURTESIES

__all__ = ["courtesies_of", "without_courtesies"]

QUESTIONS_MAX: Final = 4_096
"""Questions whose words are remembered: a stored one is compared often."""

_PHRASES_MAX: Final = 4
"""So many courtesies follow each other at most."""

_ENDS: Final = frozenset(
    tuple(phrase.split())
    for phrase in ("thanks", "please", "thank you", "many thanks", "thanks a lot", "thank you very much", "to me")
)
_ENDING_WORDS_MAX: Final = 4


def _by_first_word() -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted(COURTESIES, key=len, reverse=True):
        found.setdefault(phrase[0], []).append(phrase)
    return {word: tuple(phrases) for word, phrases in found.items()}


_STARTS: Final = _by_first_word()


@lru_cache(maxsize=QUESTIONS_MAX)
def without_courtesies(words: tuple[str, ...]) -> tuple[str, ...]:
    """What is left of words in lower case."""
    for _ in range(_PHRASES_MAX):
        start = next((each for each in _STARTS.get(words[0], ()) if words[: len(each)] == each), ()) if words else ()
        if not start or len(start) == len(words):
            break
        words = words[len(start) :]
    for length in range(_ENDING_WORDS_MAX, 0, -1):
        if len(words) > length and words[-length:] in _ENDS:
            return words[:-length]
    return words


@lru_cache(maxsize=QUESTIONS_MAX)
def courtesies_of(words: tuple[str, ...]) -> frozenset[str]:
    """The words that are in its courtesies alone."""
    return frozenset(words).difference(without_courtesies(words))
