"""What of one question's words the guards compare with another's, prepared once: a stored question is compared often.

Promises: pure, total, linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.cache.matching.inflection import OPPOSITES, forms_of
from services.cache.matching.lexicon import (
    DIRECTIONAL_WORDS,
    FUNCTION_WORDS,
    NEGATING_PREFIXES,
    NEGATIONS,
    PERSONS,
    UNITS,
    word_set,
)

__all__ = ["PERSONAL", "Traits", "read_traits"]

ORDINALS: Final = word_set("first second last next latest previous former only original")
"""Each picks out one of several; written as words they are no numbers to `reading`."""

PERSONAL: Final = PERSONS.keys() | word_set("my your our his her their mine yours")
"""Who is meant: in another sentence another person says nothing."""

_TENSES: Final = word_set("is are was were be do does did has have had to in from")
_SKIPPED: Final = word_set("the a an my your our his their this that")
_PREFIXED_CHARS_MIN: Final = 4
_DETERMINERS: Final = word_set("the an my your our his her their")
_DENIED_WORDS: Final = 2
_OR_NOT: Final = ("or", "not")


@dataclass(frozen=True, slots=True)
class Traits:
    """`vocabulary` are the words, `matter` the content words, `forms` all that these may be inflections or synonyms of,
    `initials` their first letters. `negations` is how many words negate, "or not" apart; `negated` are words with one
    right before them; `denied` are the content words that each negation speaks of, None when one speaks of none.
    `opposed` maps what would be an opposite of a word to the words; `prefixed` what is left of a word without a
    negating prefix to the word; `directions` a word to the prepositions of direction before it."""

    vocabulary: frozenset[str]
    matter: frozenset[str]
    forms: frozenset[str]
    initials: frozenset[str]
    ordinals: frozenset[str]
    negations: int
    negated: frozenset[str]
    denied: frozenset[str] | None
    opposed: Mapping[str, frozenset[str]]
    prefixed: Mapping[str, str]
    directions: Mapping[str, frozenset[str]]


def read_traits(words: Sequence[str], content: Sequence[str]) -> Traits:
    """Of the words of a text and of those of them that are its matter."""
    vocabulary, matter = frozenset(words), frozenset(content)
    return Traits(
        vocabulary=vocabulary,
        matter=matter,
        forms=frozenset().union(*(forms_of(word) for word in matter)),
        initials=frozenset(word[0] for word in matter),
        ordinals=frozenset(_ordinals(words)),
        negations=len(_negations(words)),
        negated=_negated(words),
        denied=_denied(words, matter),
        opposed=_opposed(vocabulary),
        prefixed={
            word.removeprefix(prefix): word
            for word in sorted(vocabulary)
            for prefix in NEGATING_PREFIXES
            if word.startswith(prefix) and len(word) - len(prefix) >= _PREFIXED_CHARS_MIN
        },
        directions=_directions(words),
    )


def _ordinals(words: Sequence[str]) -> Iterator[str]:
    """The "only" of "the only one" picks out one, that of "only certain ones" does not."""
    for before, word in pairwise(("", *words)):
        if word in ORDINALS and (word != "only" or before in _DETERMINERS):
            yield word


def _negated(words: Sequence[str]) -> frozenset[str]:
    """The words right behind a negation, and behind one function word ("not the right one")."""
    found = set()
    for before, word, behind in zip(words, words[1:], (*words[2:], ""), strict=False):
        if before in NEGATIONS:
            found.add(word)
            if word in FUNCTION_WORDS and behind:
                found.add(behind)
    return frozenset(found)


def _negations(words: Sequence[str]) -> list[int]:
    """Where they are."""
    return [
        place
        for place, (before, word) in enumerate(pairwise(("", *words)))
        if word in NEGATIONS and (before, word) != _OR_NOT
    ]


def _denied(words: Sequence[str], matter: frozenset[str]) -> frozenset[str] | None:
    """The next content words behind each negation."""
    denied: set[str] = set()
    for place in _negations(words):
        behind = [word for word in words[place + 1 :] if word in matter and word not in NEGATIONS][:_DENIED_WORDS]
        if not behind:
            return None
        denied.update(behind)
    return frozenset(denied)


def _opposed(vocabulary: frozenset[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for word in vocabulary:
        if word not in _TENSES and word not in UNITS:
            for other in OPPOSITES.get(word, frozenset()) - vocabulary - UNITS.keys():
                found.setdefault(other, set()).add(word)
    return {other: frozenset(against) for other, against in found.items()}


def _directions(words: Sequence[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    last = ""
    for word in words:
        if word in DIRECTIONAL_WORDS or word in {"out", "in"}:
            last = word
        elif word not in _SKIPPED:
            if last:
                found.setdefault(word, set()).add(last)
            last = ""
    return {word: frozenset(prepositions) for word, prepositions in found.items()}
