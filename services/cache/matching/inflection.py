"""Whether two words of two questions are one word: inflected, mistyped, or with a synonym in its place. English.

Promises: pure and symmetric; errs towards two words. A word in capitals is a name: it has no inflections and no typing
errors, so FTP and FTPS are two.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.cache.matching.lexicon import ANTONYMS, CONFUSABLES, IRREGULAR, SYNONYMS
from services.cache.matching.near_synonyms import NEAR_SYNONYMS
from services.cache.matching.remembered import remembered

__all__ = [
    "LOOKALIKES",
    "OPPOSITES",
    "base_forms",
    "forms_of",
    "kin_of",
    "may_be_mistyped",
    "merely_close",
    "same_word",
    "stems_of",
]

TYPO_CHARS_MIN = 6
"""Shorter words one letter apart are different words too often."""

STEM_CHARS_SURE = 5
"""What is left of so many letters without "-ing" and "-ed" is hardly ever another word."""

FORMS_MAX = 16_384
"""Words whose forms are remembered: they are asked for at every comparison."""

_SIBILANT_PLURALS = ("sses", "shes", "ches", "xes")
_VOWELS = frozenset("aeiouyàáâäãåæèéêëìíîïòóôöõøœùúûü")


def _both_ways(pairs: tuple[tuple[str, str], ...]) -> dict[str, frozenset[str]]:
    partners: dict[str, set[str]] = {}
    for a, b in pairs:
        partners.setdefault(a, set()).add(b)
        partners.setdefault(b, set()).add(a)
    return {word: frozenset(others) for word, others in partners.items()}


OPPOSITES = _both_ways(ANTONYMS)
"""Each word of ANTONYMS with its partners."""

LOOKALIKES = _both_ways(CONFUSABLES)
"""Each word of CONFUSABLES with its partners."""


def same_word(a: str, b: str, *, names: bool = False) -> bool:
    """Whether `b` may stand for `a`. `names`: one of them is written in capitals, so they must be equal."""
    if a == b or names:
        return a == b
    if kin_of(a).isdisjoint(kin_of(b)) and not _is_mistyped(a, b):
        return False
    return not (b in LOOKALIKES.get(a, frozenset()) or b in OPPOSITES.get(a, frozenset()) or _voices_differ(a, b))


def stems_of(word: str) -> Iterator[str]:
    """What the word may be an inflection of; several guesses, some of them no words. A stem has a vowel."""
    return (stem for stem in _guesses(word) if not _VOWELS.isdisjoint(stem))


def _guesses(word: str) -> Iterator[str]:
    if word.endswith("ies") and len(word) > 4:
        yield f"{word[:-3]}y"
    elif word.endswith("es") and len(word) > 4:
        yield word[:-2]
        yield word[:-1]
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
    for suffix in ("ing", "ed"):
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            yield stem
            yield f"{stem}e"
            if stem[-1] == stem[-2]:
                yield stem[:-1]


@remembered(FORMS_MAX)
def forms_of(word: str) -> frozenset[str]:
    """The word, what it may be an inflection of, and the groups of synonyms these belong to."""
    found = {word, *stems_of(word)}
    if word in IRREGULAR:
        found.add(IRREGULAR[word])
    return frozenset(found | {f"={SYNONYMS[form]}" for form in found if form in SYNONYMS})


@remembered(FORMS_MAX)
def kin_of(word: str) -> frozenset[str]:
    """Its forms, and the groups of NEAR_SYNONYMS that it is in: words that share one of them may ask the same."""
    return forms_of(word).union(*(NEAR_SYNONYMS[form] for form in base_forms(word) if form in NEAR_SYNONYMS))


def merely_close(a: str, b: str) -> bool:
    """Whether words that are the same (`same_word`) are so by NEAR_SYNONYMS alone."""
    return a != b and forms_of(a).isdisjoint(forms_of(b)) and not _is_mistyped(a, b)


def base_forms(word: str) -> Iterator[str]:
    """What it is an inflection of, but for guesses: a stem is often another word ("planes", "caring", "rating"), and a
    word in its place would be a third one."""
    yield word
    if word in IRREGULAR:
        yield IRREGULAR[word]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    elif word.endswith(_SIBILANT_PLURALS):
        yield word[:-2]
    if word.endswith(("ing", "ed")) and len(word.removesuffix("ing").removesuffix("ed")) >= STEM_CHARS_SURE:
        yield from stems_of(word)


def _voices_differ(a: str, b: str) -> bool:
    """Bored and boring: who does it, and to whom it is done."""
    return (a.endswith("ed") and b.endswith("ing")) or (a.endswith("ing") and b.endswith("ed"))


def may_be_mistyped(a: str, b: str) -> bool:
    """Whether lengths and first letters allow one to be the other, mistyped."""
    return -2 < len(a) - len(b) < 2 and len(a) >= TYPO_CHARS_MIN <= len(b) and a[0] == b[0]


def _is_mistyped(a: str, b: str) -> bool:
    """One letter too many or too few, not the first, or two neighbours exchanged; never another letter instead."""
    if not may_be_mistyped(a, b):
        return False
    if len(a) == len(b):
        wrong = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        return (
            len(wrong) == 2 and wrong[1] == wrong[0] + 1 and a[wrong[0]] == b[wrong[1]] and a[wrong[1]] == b[wrong[0]]
        )
    short, long = sorted((a, b), key=len)
    if long == f"{short}r":  # an office and its officer
        return False
    return len(long) == len(short) + 1 and any(long[:i] + long[i + 1 :] == short for i in range(1, len(long)))
