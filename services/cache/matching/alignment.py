"""Which words of two questions stand for each other, and which are left over. English.

Promises: pure, symmetric, bounded: of questions with very many words of their own only the same ones are matched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.cache.matching.inflection import LOOKALIKES, forms_of, same_word
from services.cache.matching.reading import Reading

__all__ = ["WORDS_MAX", "alike", "has_words", "shared_matter", "unmatched"]

WORDS_MAX: Final = 16
"""Unmatched words on either side from which on the texts are different questions; bounds the comparison of pairs."""

_ENDINGS: Final = ("ally", "ly")
_STEM_CHARS_MIN: Final = 4


def unmatched(a: Reading, b: Reading) -> tuple[set[str], set[str]]:
    """Content words of each that no content word of the other stands for."""
    only_a, only_b = a.traits.matter - b.traits.matter, b.traits.matter - a.traits.matter
    if max(len(only_a), len(only_b)) > WORDS_MAX:
        return set(only_a), set(only_b)
    return (
        {word for word in only_a if not _stands(word, a, b)},
        {word for word in only_b if not _stands(word, b, a)},
    )


def shared_matter(a: Reading, b: Reading) -> set[str]:
    """Content words of `a` that `b` has as well, or words that stand for them."""
    return {word for word in a.traits.matter if word in b.traits.matter or _stands(word, a, b)}


def has_words(words: Iterable[str], a: Reading, b: Reading) -> bool:
    """Whether `b` has all of these content words of `a`, or words that stand for them."""
    return all(word in b.traits.matter or _stands(word, a, b) for word in words)


def alike(word: str, other: str, a: Reading, b: Reading) -> bool:
    """Whether `word` of `a` and `other` of `b` are one word: inflected, mistyped, or a synonym."""
    if same_word(word, other, names=word in a.shouted or other in b.shouted):
        return True
    if word[:_STEM_CHARS_MIN] != other[:_STEM_CHARS_MIN] or other in LOOKALIKES.get(word, frozenset()):
        return False
    x, y = _root(word), _root(other)
    return len(x) >= _STEM_CHARS_MIN and x == y


def _stands(word: str, a: Reading, b: Reading) -> bool:
    traits, initial = b.traits, word[0]
    if not forms_of(word).isdisjoint(traits.forms):
        return any(alike(word, other, a, b) for other in traits.matter)
    return initial in traits.initials and any(
        alike(word, other, a, b) for other in traits.matter if other[0] == initial
    )


def _root(word: str) -> str:
    """Legally and legal, kilometres and kilometers."""
    for ending in _ENDINGS:
        if word.endswith(ending):
            return word.removesuffix(ending)
    if word.endswith(("tre", "tres")):
        return word.replace("tre", "ter").removesuffix("s")
    return word.removesuffix("al").removesuffix("s")
