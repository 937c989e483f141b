"""When the same words in another order still ask the same: "git: how do I revert it", "how do I revert it in git".

Promises: pure, symmetric, bounded; says so only where the parts that words play are seen to be the same. English.

Parts that may be moved: the question itself to the front, what stands behind "in" or "for", what two sides of an "and"
share, an adverb, a genitive, and in the passive voice the one who acts, who then stands behind "by".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from services.cache.matching.alignment import alike
from services.cache.matching.courtesies import without_courtesies
from services.cache.matching.inflection import same_word
from services.cache.matching.lexicon import AUXILIARIES, FUNCTION_WORDS, IRREGULAR, PERSONS, word_set
from services.cache.matching.reading import Reading

__all__ = ["asks_last", "is_passive", "is_passive_of", "only_moved"]

TOKENS_MAX: Final = 40
CHARS_MAX: Final = 400
"""Longer questions are compared as they stand."""

REMEMBERED_MAX: Final = 4_096
"""Questions whose tokens are remembered: a stored one is compared often. 9 KB each at most."""

REMEMBERED_CHARS_MAX: Final = 200
"""The tokens of longer questions are not remembered."""

_ASKING: Final = word_set("what which who whom whose when where why how")
_SIDE_BY_SIDE: Final = word_set("between or vs versus")
_MOVABLE: Final = word_set("in on with for at of")
_AT_TIMES: Final = word_set("in on at")
_GOVERNING: Final = _MOVABLE | word_set("by to from into onto about against over under before after than as")
_JOINING: Final = word_set("and or vs versus")
_BE: Final = word_set("is are was were be been being am")
_ARTICLES: Final = word_set("a an the my your our their this that")
_CONTRACTED: Final = {"what's": "what", "who's": "who", "where's": "where", "how's": "how", "whats": "what"}
_BY: Final = "by"
_ANYBODY: Final = word_set("you they we i one people")
_THEN: Final = word_set("was were been")
_COUNT_DIGITS_MAX: Final = 3
"""A number of more is rather a name: "the 1040 form"."""

_ACTING_BEHIND: Final = (_BY, "at", "in")
_HOLDING: Final = word_set("included contained supported")
"""What is so in something is so by it; what else is done in it, it does not do: "served in bottles"."""

_COUNTED: Final = word_set("second 3rd 4th 5th 6th 7th 8th 9th 10th")
_WHEN: Final = word_set("""
    january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday spring summer autumn winter christmas easter morning afternoon evening night noon
    weekend weekday day week month year today tomorrow
""")
_JOINED_MAX: Final = 3
_ADVERB_CHARS_MIN: Final = 6
_PLURAL_CHARS_MIN: Final = 4


def only_moved(a: Reading, b: Reading) -> bool:
    """Whether both have the same words of matter and numbers, and what stands elsewhere plays the same part."""
    if _is_long(a) or _is_long(b):
        return False
    x, y = _tokens(a.plain), _tokens(b.plain)
    if max(len(x), len(y)) > TOKENS_MAX:
        return False
    mine, theirs = _matter(x), _matter(y)
    if mine == theirs:
        first_x, first_y = _asking_first(x), _asking_first(y)
        return (first_x == x) != (first_y == y) and _placed(first_x) == _placed(first_y)
    if len(mine) != len(theirs):
        return False
    if named := _named_behind(mine, theirs):
        return (named in a.words) == (named in b.words)  # one page or pages
    one, other = set(_orders(x)), set(_orders(y))
    if not one.isdisjoint(other):
        return True
    return any(_moves(p, q) or _moves(q, p) for p, q in ((x, y), (_asking_first(x), _asking_first(y))))


def asks_last(reading: Reading) -> bool:
    """Whether something stands before the question: "Mars has how many moons"."""
    if _is_long(reading):
        return False
    words = _tokens(reading.plain)
    return _asking_first(words) != words


def is_passive(reading: Reading) -> bool:
    """Whether something is done by somebody: "was it bitten by him"."""
    if "by" not in reading.frame.prepositions or _BE.isdisjoint(reading.words):
        return False
    return any(word == _BY and _is_participle(before) for before, word in pairwise(reading.words))


def is_passive_of(a: Reading, b: Reading) -> bool:
    """Whether `a` says in the passive voice what `b` says in the active one: "is B bitten by A", "does A bite B"; also
    where something is done at what `b` says does it: "is B served at A", "does A serve B"."""
    if _BE.isdisjoint(a.words) or _is_long(a) or _is_long(b):
        return False
    if any(_is_passive_of(a, b, word) for word in _ACTING_BEHIND if word in a.words and word not in b.words):
        return True
    if _BY in a.words or not _BE.isdisjoint(b.words) or a.questions != b.questions:
        return False
    return _is_agentless(_tokens(a.plain), b)


def _is_agentless(words: tuple[str, ...], b: Reading) -> bool:
    """ "when water is poured in", "when you pour water in": whoever it is that acts, but the asker only in what can be
    done, not in what is ("why is it blocked", "why do I block it"). What was done they did."""
    if _ANYBODY.isdisjoint(b.words) or ("i" in b.words and ("be" not in words or "i" in words)):
        return False
    if _THEN.isdisjoint(words) == ("did" in b.words):
        return False
    theirs = _matter(_tokens(b.plain))
    mine = _matter(words)
    places = [place for place, word in enumerate(mine) if _is_participle(word)]
    for place in places if len(mine) == len(theirs) else ():
        rest = (*mine[:place], *mine[place + 1 :])
        for at in range(place):
            moved = (*rest[:at], mine[place], *rest[at:])
            if all(p == q or same_word(p, q) for p, q in zip(moved, theirs, strict=True)):
                return True
    return False


def _is_passive_of(a: Reading, b: Reading, preposition: str) -> bool:
    words = _tokens(a.plain)
    if words.count(preposition) != 1 or _BE.isdisjoint(words):
        return False
    at = words.index(preposition)
    behind = tuple(word.removesuffix("'s") for word in _phrase(words, at + 1))
    before = _matter(words[:at])
    asked = words[at + 1 : at + 2] in (("who",), ("whom",)) or (preposition == _BY and _asks_by_whom(words))
    if preposition == "in" and not (before and before[-1] in _HOLDING):
        return False
    if preposition != _BY and not (before and _is_participle(before[-1])):
        return False
    if asked and not before:  # "by whom was it made"
        before = _matter(words[at + 2 :])
        rest: tuple[str, ...] = ()
    else:
        rest = _matter(words[at + 1 :])[len(behind) :]
    if not before or not (behind or asked) or (asked and b.words[:1] != ("who",)):
        return False
    active = (*behind, before[-1], *before[:-1], *rest)
    theirs = _matter(_asking_first(_tokens(b.plain)))
    return len(active) == len(theirs) and all(alike(p, q, a, b) for p, q in zip(active, theirs, strict=True))


def _asks_by_whom(words: Sequence[str]) -> bool:
    """ "who was it made by"."""
    return words[0] in ("who", "whom") and words[-1] == _BY


def _is_participle(word: str) -> bool:
    return word.endswith("ed") or word in IRREGULAR


def _is_long(reading: Reading) -> bool:
    return len(reading.normal) > CHARS_MAX


def _tokens(plain: str) -> tuple[str, ...]:
    """Words and numbers in lower case, without courtesies; a possessor ends in "'s"."""
    return _tokens_of(plain) if len(plain) <= REMEMBERED_CHARS_MAX else _tokens_of.__wrapped__(plain)


@lru_cache(maxsize=REMEMBERED_MAX)
def _tokens_of(plain: str) -> tuple[str, ...]:
    words = (word.strip('.,;:!?"()') for word in plain.split())
    return without_courtesies(tuple(_singular(_CONTRACTED.get(word, word)) for word in words if word))


def _singular(word: str) -> str:
    """Where another form is no other word: "Sundays", "Sunday"."""
    if len(word) < _PLURAL_CHARS_MIN or not word.endswith("s") or word.endswith(("ss", "us", "is", "'s")):
        return word
    return word if word in FUNCTION_WORDS or word in AUXILIARIES else word[:-1]


def _is_matter(word: str) -> bool:
    return word not in FUNCTION_WORDS and word not in AUXILIARIES


def _matter(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.removesuffix("'s") for word in words if _is_matter(word))


def _named_behind(x: Sequence[str], y: Sequence[str]) -> str:
    """The noun, if they differ in where a name with digits stands, before it or behind: "form W-9", "W-9 form". A
    number before its noun is a count: "3 day trip", "day 3 trip"."""
    at = [place for place, (p, q) in enumerate(zip(x, y, strict=True)) if p != q]
    if len(at) != 2 or at[1] != at[0] + 1 or (x[at[0]], x[at[1]]) != (y[at[1]], y[at[0]]):
        return ""
    name, noun = sorted((x[at[0]], x[at[1]]), key=lambda word: not any(map(str.isdigit, word)))
    is_name = any(map(str.isdigit, name)) and not (name.isdigit() and len(name) <= _COUNT_DIGITS_MAX)
    return noun if is_name and not any(map(str.isdigit, noun)) else ""


def _placed(words: Sequence[str]) -> tuple[str, ...]:
    """Its matter, and the persons in their places."""
    return tuple(PERSONS.get(word, word.removesuffix("'s")) for word in words if word in PERSONS or _is_matter(word))


def _orders(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The orders of its matter in other ways to say it."""
    first = _asking_first(words)
    if first != words:
        yield _matter(first)
    for each in {words, first}:
        yield from map(_matter, _joined(each))
        yield from map(_matter, _times_moved(each))
        for moved in (_predicate_first(each), _object_first(each)):
            if moved:
                yield _matter(moved)
    if first == words:
        yield _matter(words)


def _asking_first(words: tuple[str, ...]) -> tuple[str, ...]:
    """ "git: how is it reverted" as "how is it reverted git"."""
    at = next((place for place, word in enumerate(words) if word in _ASKING), 0)
    return (*words[at:], *words[:at])


def _joined(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Both sides of what stands between, or is to be chosen from, exchanged."""
    for at, word in enumerate(words):
        if word not in _JOINING or (word == "and" and "between" not in words[:at]):
            continue
        for left in range(1, _JOINED_MAX + 1):
            for right in range(1, _JOINED_MAX + 1):
                one, other = words[max(0, at - left) : at], words[at + 1 : at + 1 + right]
                if all(map(_is_matter, (*one, *other))):
                    yield (*words[: at - len(one)], *other, word, *one, *words[at + 1 + len(other) :])


def _times_moved(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where something is and when, which stand next to each other, exchanged: "in Rome in May"."""
    for at, word in enumerate(words):
        if word not in _AT_TIMES or not (first := _phrase(words, at + 1)):
            continue
        middle = words.index(first[-1], at) + 1
        if words[middle : middle + 1] and words[middle] in _AT_TIMES and (second := _phrase(words, middle + 1)):
            end = words.index(second[-1], middle) + 1
            if _WHEN.isdisjoint(first) != _WHEN.isdisjoint(second):
                yield (*words[:at], *words[middle:end], *words[at:middle], *words[end:])


def _predicate_first(words: tuple[str, ...]) -> tuple[str, ...]:
    """ "which route is the fastest to Bonn" as "the fastest route to Bonn"."""
    if words[:1] not in (("which",), ("what",)):
        return ()
    at = next((place for place, word in enumerate(words) if word in _BE), 0)
    behind = words[at + 1 : at + 3]
    places = [at + 1 + place for place, word in enumerate(behind) if _is_matter(word)]
    if at < 2 or not places or (behind[0] not in ("the", "best") and places[0] != at + 1):
        return ()
    end = places[0] + 1
    if words[places[0]] in _COUNTED and words[end : end + 1] and words[end].endswith("est"):
        end += 1  # "the second highest"
    return (*words[places[0] : end], *words[1:at], *words[end:])


def _object_first(words: tuple[str, ...]) -> tuple[str, ...]:
    """ "is it safe to eat rice" as "is rice safe to eat"."""
    for at, pair in enumerate(pairwise(words)):
        if pair[0] in _BE and pair[1] == "it" and "to" in words[at:]:
            to = words.index("to", at)
            if thing := _phrase(words, to + 2):
                start = words.index(thing[0], to + 2)
                return (*words[: at + 1], *thing, *words[at + 2 : start], *words[start + len(thing) :])
    return ()


def _moves(x: tuple[str, ...], y: tuple[str, ...]) -> bool:
    """Whether one part of `x` stands elsewhere in `y`, and all else as in `x`."""
    theirs = _governed(y)
    for part, preposition in _parts(x):
        if any(word in theirs for word in part) and max(x.count(preposition), y.count(preposition)) > 1:
            continue  # what is done here that is not done there
        loose = preposition if preposition in _MOVABLE else ""
        if any(theirs.get(word, loose) != preposition for word in part):
            continue
        if {word: by for word, by in theirs.items() if word not in part} != {
            word: by for word, by in _governed(x).items() if word not in part
        }:
            continue
        if _without(_matter(x), part) == _without(_matter(y), part) and _adjoins(_matter(y), part):
            return True
    return False


def _parts(words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What may be moved, and the preposition before it: "" for adverbs and possessors."""
    for at, word in enumerate(words):
        if word in _MOVABLE or (word in _GOVERNING and at):
            if part := _phrase(words, at + 1):
                yield part, word
        elif word.endswith("ly") and len(word) >= _ADVERB_CHARS_MIN:
            yield (word,), ""


def _governed(words: tuple[str, ...]) -> dict[str, str]:
    """Words behind a preposition other than of those that may be left out."""
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        if word in _GOVERNING:
            found.update((each, word) for each in _phrase(words, at + 1))
    return found


def _phrase(words: tuple[str, ...], at: int) -> tuple[str, ...]:
    """The words of matter from there on, articles and owners skipped."""
    while at < len(words) and words[at] in _ARTICLES:
        at += 1
    end = at
    while end < len(words) and _is_matter(words[end]):
        end += 1
    return words[at:end]


def _without(matter: tuple[str, ...], part: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in matter if word not in part)


def _adjoins(matter: tuple[str, ...], part: tuple[str, ...]) -> bool:
    """Whether the part stands together and in its order."""
    return any(matter[at : at + len(part)] == part for at in range(len(matter)))
