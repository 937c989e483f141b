"""What stands before a word and says when or where it is meant: "during the flight" and "after the flight", "into the
box" and "out of the box", "any card" and "another card", "talk to her" and "talk about her". English.

Promises: pure, total, linear; closed classes, of which two stand against each other only before the same word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.cache.matching.kept import shared
from services.cache.matching.lexicon import word_set

__all__ = ["placed_in", "placed_otherwise"]

_CLASSES: Final = {
    "during": "during", "while": "during", "whilst": "during", "before": "before", "after": "after", "since": "after",
    "until": "before", "till": "before", "into": "into", "inside": "into", "any": "any", "other": "other",
    "another": "other",
}  # fmt: skip
_AGAINST: Final = frozenset(
    frozenset(pair)
    for pair in (("during", "before"), ("during", "after"), ("into", "out of"), ("any", "other"), ("to", "about"))
)
_SAYING: Final = word_set(
    "talk talking talked speak speaking spoke write writing wrote complain complaining complained"
)
_ADDRESSED: Final = {"to": "to", "with": "to", "about": "about"}
_OF: Final = "of"
_OUT: Final = "out"
_BETWEEN: Final = word_set("a an the my your our his her its their this that these those")
_PLACING: Final = frozenset((*_CLASSES, _OUT, *_SAYING))
_NOTHING: Final[Mapping[str, frozenset[str]]] = {}


def placed_in(words: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Each word of the text that one of the classes stands before, articles and owners apart, and which do."""
    if _PLACING.isdisjoint(words):
        return _NOTHING
    found: dict[str, set[str]] = {}
    last = before = ""
    for word in words:
        if word == _OF and before == _OUT:
            last = "out of"
        elif before in _SAYING and word in _ADDRESSED:
            last = _ADDRESSED[word]
        elif word in _CLASSES:
            last = _CLASSES[word]
        elif word not in _BETWEEN:
            if last:
                found.setdefault(word, set()).add(last)
            last = ""
        before = word
    return {word: shared(classes) for word, classes in found.items()}


def placed_otherwise(a: Mapping[str, frozenset[str]], b: Mapping[str, frozenset[str]]) -> list[str]:
    """Words before which the one has a class, and the other one that stands against it."""
    if not a or not b:
        return []
    return [
        word
        for word in a.keys() & b.keys()
        if a[word].isdisjoint(b[word]) and any(frozenset((x, y)) in _AGAINST for x in a[word] for y in b[word])
    ]
