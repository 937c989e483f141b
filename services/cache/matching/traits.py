"""What of one question's words the guards compare with another's, prepared once: a stored question is compared often.

Promises: pure, total, linear.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.cache.matching.inflection import OPPOSITES, forms_of, kin_of
from services.cache.matching.kept import NOTHING, kept, shared
from services.cache.matching.lexicon import (
    DIRECTIONAL_WORDS,
    FUNCTION_WORDS,
    NEGATING_PREFIXES,
    NEGATIONS,
    PERSONS,
    UNITS,
    word_set,
)
from services.cache.matching.placing import placed_in
from services.cache.matching.remembered import remembered

__all__ = [
    "DIRECTING",
    "DISABLING",
    "ENABLING",
    "OPPOSED",
    "ORDINALS",
    "PERSONAL",
    "SWITCHING",
    "TURNING",
    "Traits",
    "unprefixed",
]

ORDINALS: Final = word_set("first second last next latest previous former only original")
"""Each picks out one of several; written as words they are no numbers to `reading`."""

PERSONAL: Final = PERSONS.keys() | word_set("my your our his her their mine yours")
"""Who is meant: in another sentence another person says nothing."""

TURNING: Final = word_set("turn turned turning turns switch switched switching switches")
ENABLING: Final = word_set("enable enabled enabling enables activate activated activating activates")
DISABLING: Final = word_set("disable disabled disabling disables deactivate deactivated deactivating deactivates")
SWITCHING: Final = TURNING | ENABLING | DISABLING
"""Words by which something is turned on or off."""

_TENSES: Final = word_set("is are was were be do does did has have had to in from")
OPPOSED: Final = OPPOSITES.keys() - _TENSES - UNITS.keys()
DIRECTING: Final = DIRECTIONAL_WORDS | {"out", "in"}
_NO_DIRECTIONS: Final[Mapping[str, frozenset[str]]] = {}
_NONEOPPOSED: Final[Mapping[str, frozenset[str]]] = {}
_NONE_PREFIXED: Final[Mapping[str, str]] = {}
_SKIPPED: Final = word_set("the a an my your our his their this that")
_PREFIXED_CHARS_MIN: Final = 4
_DETERMINERS: Final = word_set("the an my your our his her their")
_DENIED_WORDS: Final = 2
_OR_NOT: Final = ("or", "not")

REMEMBERED_MAX: Final = 8_192
"""Words of which it is remembered what they negate."""


@dataclass(frozen=True)
class Traits:
    """Of the words of a text, and of the content words among them; read when asked for, and kept.

    `vocabulary` are the words, `matter` the content words, `forms` all that these may be inflections or synonyms of,
    `kin` these and all that they may be close to,
    `initials` their first letters. `negations` is how many words negate, "or not" apart; `negated` are words with one
    right before them; `denied` are the content words that each negation speaks of, None when one speaks of none.
    `opposed` maps what would be an opposite of a word to the words; `prefixed` what is left of a word without a
    negating prefix to the word; `directions` a word to the prepositions of direction before it, `placed` to
    the classes of `placing`."""

    words: tuple[str, ...]
    content: tuple[str, ...]

    @kept
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.words)

    @kept
    def matter(self) -> frozenset[str]:
        return shared(self.content)

    @kept
    def forms(self) -> frozenset[str]:
        return NOTHING.union(*map(forms_of, self.matter))

    @kept
    def kin(self) -> frozenset[str]:
        return NOTHING.union(*map(kin_of, self.matter))

    @kept
    def initials(self) -> frozenset[str]:
        return shared([word[0] for word in self.matter])

    @kept
    def ordinals(self) -> frozenset[str]:
        return NOTHING if ORDINALS.isdisjoint(self.words) else shared(_ordinals(self.words))

    @kept
    def negations(self) -> int:
        return 0 if NEGATIONS.isdisjoint(self.words) else len(_negations(self.words))

    @kept
    def negated(self) -> frozenset[str]:
        return NOTHING if NEGATIONS.isdisjoint(self.words) else _negated(self.words)

    @kept
    def denied(self) -> frozenset[str] | None:
        return NOTHING if NEGATIONS.isdisjoint(self.words) else _denied(self.words, self.matter)

    @kept
    def opposed(self) -> Mapping[str, frozenset[str]]:
        return _NONEOPPOSED if OPPOSED.isdisjoint(self.words) else _opposed(self.vocabulary)

    @kept
    def prefixed(self) -> Mapping[str, str]:
        return _prefixed(self.vocabulary)

    @kept
    def directions(self) -> Mapping[str, frozenset[str]]:
        return _NO_DIRECTIONS if DIRECTING.isdisjoint(self.words) else _directions(self.words)

    @kept
    def placed(self) -> Mapping[str, frozenset[str]]:
        return placed_in(self.words)


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
    places = [place for place, word in enumerate(words) if word in matter and word not in NEGATIONS]
    for place in _negations(words):
        first = bisect(places, place)
        if first == len(places):
            return None
        denied.update([words[each] for each in places[first : first + _DENIED_WORDS]])
    return frozenset(denied)


def _opposed(vocabulary: frozenset[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for word in OPPOSED.intersection(vocabulary):
        for other in OPPOSITES[word]:
            if other not in vocabulary and other not in UNITS:
                found.setdefault(other, set()).add(word)
    return {other: shared(against) for other, against in found.items()}


def _prefixed(vocabulary: frozenset[str]) -> Mapping[str, str]:
    words = [word for word in vocabulary if unprefixed(word)]
    return {bare: word for word in sorted(words) for bare in unprefixed(word)} if words else _NONE_PREFIXED


@remembered(REMEMBERED_MAX)
def unprefixed(word: str) -> tuple[str, ...]:
    """What is left of it without each of the prefixes that it may have."""
    return tuple(
        [
            word.removeprefix(prefix)
            for prefix in NEGATING_PREFIXES
            if word.startswith(prefix) and len(word) - len(prefix) >= _PREFIXED_CHARS_MIN
        ]
    )


def _directions(words: Sequence[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    last = ""
    for word in words:
        if word in DIRECTING:
            last = word
        elif word not in _SKIPPED:
            if last:
                found.setdefault(word, set()).add(last)
            last = ""
    return {word: shared(prepositions) for word, prepositions in found.items()}
