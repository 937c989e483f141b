"""Of how much or how many a question asks, and in which degree: all, most, some, few, half, only, at least, more than,
too, as ... as. English.

Promises: pure, total, linear; the classes are closed lists. Two of one kind tell wherever they stand against each
other; one of some classes in one question alone tells where all else is the same ("are most spiders dangerous", "are
spiders dangerous"): of all, both, some, any, many and exactly it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import FUNCTION_WORDS, NUMBER_WORDS, UNITS, word_set

__all__ = ["quantifies_otherwise", "quantities_in", "restricts"]

_AMOUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": ("all", "every", "each", "everything", "everyone", "everybody"),
    "both": ("both",),
    "most": ("most of", "mostly", "majority of"),
    "many": ("many", "much", "lots", "lot of", "plenty", "numerous"),
    "some": ("some", "several", "a few", "couple of", "number of", "someone", "somebody", "something"),
    "few": ("few", "hardly any", "barely any", "scarcely any"),
    "none": ("none", "no one", "nobody", "nothing", "neither"),
    "any": ("any", "anyone", "anybody", "anything", "at least one"),
    "either": ("either",),
    "one": ("one of",),
    "half": ("half",),
    "only": ("only", "solely", "merely", "exclusively", "nothing but"),
    "but": ("all but", "all except", "everything but", "everything except", "everyone but", "everyone except",
            "anything but", "any but", "anyone but"),
    "nearly": ("almost all", "nearly all", "almost every", "nearly every", "virtually all", "practically all"),
}  # fmt: skip

_BOUNDS: Final[Mapping[str, tuple[str, ...]]] = {
    "at least": ("at least", "minimum of", "no less than", "no fewer than", "not less than", "or more", "or over"),
    "at most": ("at most", "maximum of", "no more than", "not more than", "or less", "or fewer", "or under"),
    "more": ("more than", "greater than", "in excess of"),
    "less": ("less than", "fewer than"),
}  # fmt: skip

_UNTOLD: Final = (
    "how many", "how much", "so many", "so much", "very much", "that much", "much more", "much less", "any more",
    "not only", "the only", "at all", "after all", "of all", "all the time", "all the best", "all right", "all in all",
    "each other", "every other", "half an", "half a", "and a half", "more or less", "as well as", "as soon as",
    "as long as", "as far as", "the number of",
)  # fmt: skip
"""They begin, or look, like others and quantify nothing."""

_BEFORE_NUMBERS: Final = {"over": "more", "above": "more", "under": "less", "below": "less", "up": "at most",
                          "exactly": "exactly", "precisely": "exactly", "just": "only"}  # fmt: skip
_DEGREES: Final = {"more": "more so", "less": "less so", "least": "least so", "too": "too", "enough": "enough"}
_NUMBERS: Final = NUMBER_WORDS.keys() - word_set("half double single once twice thrice")
_ARBITRARY: Final = word_set("any either")
_ONE: Final = word_set("a an")
_RATED: Final = UNITS.keys() | {"time"}
_SURELY: Final = word_set("enough least")
_PLURALS: Final = word_set("people men women children mice geese feet teeth fish sheep cattle police")
_MUCH: Final = word_set("much many")
_ALL_OF_THEM: Final = "all of them"
_DETERMINING: Final = word_set("of the my our your his her its their these those this that")
_DISTRIBUTING: Final = word_set("every each")

_DIMENSIONS: Final = (
    frozenset(_AMOUNTS) | {_ALL_OF_THEM},
    frozenset(_BOUNDS) | word_set("only exactly"),
    frozenset(_DEGREES.values()) | {"most so", "as much"},
)
_ALIKE: Final = (
    word_set("some any either one"),
    frozenset({"all", "both", _ALL_OF_THEM}),
    word_set("only exactly"),
)
_MOST: Final = frozenset({"most", "most so"})
_RESTRICTING: Final = frozenset().union(*_DIMENSIONS) - (
    word_set("both many some any either one exactly none") | {_ALL_OF_THEM, "more so"}
)


def _by_first_word() -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for kind, phrases in (*_AMOUNTS.items(), *_BOUNDS.items(), ("", _UNTOLD)):
        for phrase in phrases:
            words = tuple(phrase.split())
            found.setdefault(words[0], []).append((words, kind))
    return {word: tuple(sorted(each, key=lambda one: -len(one[0]))) for word, each in found.items()}


_PHRASES: Final = _by_first_word()
_MARKS: Final = frozenset((*_PHRASES, *_BEFORE_NUMBERS, *_DEGREES, "as", "most"))


def quantities_in(tokens: Sequence[str], *, whether: bool) -> frozenset[str]:
    """The classes of a text's quantifiers and degrees; `tokens`: its words and numbers in lower case. `whether`: it
    asks if something is so; in another question "any" is no more than "a" ("how do I delete any of them")."""
    if _MARKS.isdisjoint(tokens):
        return NOTHING
    found = set(_quantities(tokens))
    return shared(found if whether else found - _ARBITRARY)


def quantifies_otherwise(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two questions quantify differently, by the classes of each."""
    mine, theirs = a - b, b - a
    return any(not _alike(x, y) for dimension in _DIMENSIONS for x in mine & dimension for y in theirs & dimension)


def restricts(a: frozenset[str], b: frozenset[str], *, whether: bool) -> bool:
    """Whether one of two questions that are otherwise the same asks of fewer of them, or in another degree. `whether`:
    it asks if something is so; in another question "most" restricts nothing ("what are the most useful maps")."""
    restricting = _RESTRICTING if whether else _RESTRICTING - _MOST
    return _restricts((a - b) & restricting, b - a) or _restricts((b - a) & restricting, a - b)


def _restricts(these: frozenset[str], others: frozenset[str]) -> bool:
    return any(not any(_alike(x, y) for y in others) for x in these)


def _alike(x: str, y: str) -> bool:
    return any(x in group and y in group for group in _ALIKE)


def _quantities(tokens: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(tokens):
        kind, length = _phrase_at(tokens, at)
        if kind:
            yield kind
        at += length


def _phrase_at(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The class of what stands there, or empty, and how many tokens it has."""
    word = tokens[at]
    if word not in _MARKS:
        return "", 1
    behind = tokens[at + 1] if at + 1 < len(tokens) else ""
    for phrase, kind in _PHRASES.get(word, ()):
        if tuple(tokens[at : at + len(phrase)]) == phrase:
            if word in _DISTRIBUTING and (behind in _RATED or _is_number(behind)):
                return "", 1
            if kind == "all" and behind in _DETERMINING:
                return _ALL_OF_THEM, 1
            return kind, len(phrase)
    if word in _BEFORE_NUMBERS:
        place = at + 2 if (word, behind) == ("up", "to") else at + 1
        return (_BEFORE_NUMBERS[word] if _is_counted(tokens[place : place + 2]) else ""), 1
    if word == "as":
        compares = "as" in tokens[at + 2 : at + 3] and "possible" not in tokens[at + 3 : at + 4]
        return ("as much", 3) if compares else ("", 1)
    is_matter = bool(behind) and behind not in FUNCTION_WORDS
    if word == "most":
        quantifies = (behind.endswith("s") or behind in _PLURALS) and "the" not in tokens[at - 1 : at]
        return ("" if not is_matter else "most" if quantifies else "most so"), 1
    is_degree = is_matter or word in _SURELY or behind in _MUCH
    return (_DEGREES.get(word, "") if is_degree else ""), 1


def _is_counted(tokens: Sequence[str]) -> bool:
    """Whether they begin with a number, or are one of a unit ("a kilo")."""
    return bool(tokens) and (_is_number(tokens[0]) or (tokens[0] in _ONE and tokens[-1] in UNITS))


def _is_number(token: str) -> bool:
    return token in _NUMBERS or any(map(str.isdigit, token))
