"""A question without the courtesies before and behind it: "quick question: could you tell me ... thank you". English.

Promises: pure, linear; takes whole phrases of closed lists, never all of a question.
"""

from __future__ import annotations

from typing import Final

from services.cache.matching.lexicon import COURTESIES

__all__ = ["question_span", "without_courtesies"]

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
_LAST: Final = frozenset(phrase[-1] for phrase in _ENDS)


def question_span(words: tuple[str, ...]) -> tuple[int, int]:
    """Where the question begins and ends among words in lower case; never empty where there are words."""
    start, end = 0, len(words)
    if not words or (words[0] not in _STARTS and words[-1] not in _LAST):
        return start, end
    for _ in range(_PHRASES_MAX):
        starts = _STARTS.get(words[start], ()) if start < end else ()
        found = next((each for each in starts if words[start : start + len(each)] == each), ())
        if not found or start + len(found) == end:
            break
        start += len(found)
    for length in range(_ENDING_WORDS_MAX, 0, -1):
        if end - start > length and words[end - length :] in _ENDS:
            return start, end - length
    return start, end


def without_courtesies(words: tuple[str, ...]) -> tuple[str, ...]:
    """What is left of words in lower case."""
    start, end = question_span(words)
    return words[start:end]
