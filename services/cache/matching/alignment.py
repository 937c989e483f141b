"""Which words of two questions stand for each other, and which are left over. English.

Promises: pure, symmetric, bounded: of questions with very many words of their own only the same ones are matched.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from services.cache.matching.close_words import are_close
from services.cache.matching.inflection import LOOKALIKES, kin_of, may_be_mistyped, merely_close, same_word
from services.cache.matching.reading import Aligned, Reading

__all__ = ["WORDS_MAX", "alike", "has_word", "has_words", "shared_matter", "unmatched"]

WORDS_MAX: Final = 16
"""Unmatched words on either side from which on the texts are different questions; bounds the comparison of pairs."""

PAIRS_MAX: Final = 256
"""Pairs of questions whose unmatched words are remembered: several guards ask for them in one lookup."""

PAIR_WORDS_MAX: Final = 128
"""Content words of both; of pairs with more it is not remembered."""

_ENDINGS: Final = ("ally", "ly")
_STEM_CHARS_MIN: Final = 4


def unmatched(a: Reading, b: Reading) -> tuple[frozenset[str], frozenset[str]]:
    """Content words of each that no content word of the other stands for."""
    mine, theirs = a.aligned, b.aligned
    is_long = len(mine[0]) + len(theirs[0]) > PAIR_WORDS_MAX
    return _unmatched.__wrapped__(mine, theirs) if is_long else _unmatched(mine, theirs)


@lru_cache(maxsize=PAIRS_MAX)
def _unmatched(a: Aligned, b: Aligned) -> tuple[frozenset[str], frozenset[str]]:
    only_a, only_b = a[0] - b[0], b[0] - a[0]
    if max(len(only_a), len(only_b)) > WORDS_MAX:
        return only_a, only_b
    return (
        frozenset([word for word in only_a if not _stands(word, a, b)]),
        frozenset([word for word in only_b if not _stands(word, b, a)]),
    )


def shared_matter(a: Reading, b: Reading) -> set[str]:
    """Content words of `a` that `b` has as well, or words that stand for them."""
    mine, theirs = a.aligned, b.aligned
    return {word for word in mine[0] if word in theirs[0] or _stands(word, mine, theirs)}


def has_words(words: Iterable[str], a: Reading, b: Reading) -> bool:
    """Whether `b` has all of these content words of `a`, or words that stand for them."""
    mine, theirs = a.aligned, b.aligned
    return all(word in theirs[0] or _stands(word, mine, theirs) for word in words)


def has_word(word: str, a: Reading, b: Reading) -> bool:
    """Whether `b` has this content word of `a`, or a word that stands for it."""
    theirs = b.aligned
    return word in theirs[0] or _stands(word, a.aligned, theirs)


def alike(word: str, other: str, a: Reading, b: Reading) -> bool:
    """Whether `word` of `a` and `other` of `b` are one word: inflected, mistyped, or a synonym."""
    return _alike(word, other, a.aligned, b.aligned)


def _alike(word: str, other: str, a: Aligned, b: Aligned) -> bool:
    if same_word(word, other, names=word in a[3] or other in b[3]):
        return not merely_close(word, other) or are_close(word, other, a[4], b[4])
    if word[:_STEM_CHARS_MIN] != other[:_STEM_CHARS_MIN] or other in LOOKALIKES.get(word, frozenset()):
        return False
    x, y = _root(word), _root(other)
    return len(x) >= _STEM_CHARS_MIN and x == y


def _stands(word: str, a: Aligned, b: Aligned) -> bool:
    matter, kin, initials = b[:3]
    initial = word[0]
    if not kin_of(word).isdisjoint(kin):
        return any(_alike(word, other, a, b) for other in matter)
    if initial not in initials:
        return False
    start = word[:_STEM_CHARS_MIN]
    near = [
        other for other in matter if other[0] == initial and (other.startswith(start) or may_be_mistyped(word, other))
    ]
    return bool(near) and any(_alike(word, other, a, b) for other in near)


def _root(word: str) -> str:
    """Legally and legal, kilometres and kilometers."""
    for ending in _ENDINGS:
        if word.endswith(ending):
            return word.removesuffix(ending)
    if word.endswith(("tre", "tres")):
        return word.replace("tre", "ter").removesuffix("s")
    return word.removesuffix("al").removesuffix("s")
