"""What certainly makes two questions different, whatever a model says.

Promises: pure, symmetric (but `clears`), total, linear; a difference is a constant sentence and quotes no question.
Another number, identifier, unit, ordinal, quotation, piece of code or symbol; an opposite, a negating prefix, a
direction turned round. A negation more, and another person ("my", "your"), count where the rest of the matter is the
same: "is not working" and "is broken" differ by their words, and that is another guard's.

English; of other languages everything but case and punctuation must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from services.cache.matching.alignment import alike, has_word, shared_matter, unmatched
from services.cache.matching.exact_differences import exact_differences
from services.cache.matching.inflection import OPPOSITES, forms_of
from services.cache.matching.lexicon import LIGHT_WORDS, NEGATIONS, UNITS, word_set
from services.cache.matching.placing import placed_otherwise
from services.cache.matching.reading import Reading
from services.cache.matching.traits import DISABLING, ENABLING, PERSONAL, SWITCHING, TURNING, Traits

__all__ = ["GENERIC_WORDS", "clears", "hard_differences", "opposes", "reverses"]

GENERIC_WORDS: Final = word_set("""
    way ways method methods step steps procedure process command instruction instructions reason reasons cause thing
    things person people somebody someone meaning mean means definition define describe explanation explain happen
    happens need needs want make makes making take takes taking use using used do go get find count calculate compute
    work works time number possible allowed permitted say called name list overview summary summarize
    summarise recipe code write currently current good advisable required require requires know look per via considered
    all several numerous plenty couple majority mostly solely merely exclusively precisely sufficient
""")
"""Content words that carry the form of a question more than its matter: they may stand against any other word."""

LACKING_ONE_OF: Final = 4
"""Of so many shared words a question that clears may lack one: of fewer none."""

_SOURCE: Final = "from"
_TARGETS: Final = frozenset({"to", "into", "onto"})
_PARTICLE: Final = "in"
_TURNED: Final = word_set("up down over in into around back")
_PREFIX: Final = "negation: a word stands against the same word with a negating prefix"
_PLACED: Final = "opposites: the same is meant at another time or place, or another of the kind"
_DIRECTION: Final = "direction: it is turned round"
_OPPOSITE: Final = "opposites: a word and its opposite are exchanged"


def hard_differences(a: Reading, b: Reading) -> tuple[str, ...]:
    """All differences that change what is asked by their kind."""
    if a.exact == b.exact:
        return ()
    if a.calm and b.calm:
        if _turned(a, b) or _targets_exchanged(a, b):
            return (_DIRECTION,)
        return (_PLACED,) if placed_otherwise(a.traits.placed, b.traits.placed) else ()
    return tuple(_hard_differences(a, b))


def opposes(a: Reading, b: Reading) -> bool:
    """Whether the one asks for the contrary of the other, or for the same matter with a hard difference: an opposite, a
    negating prefix, a direction turned round; a negation more, another number and so on where all else is the same."""
    if a.exact == b.exact:
        return False
    if _opposed(a, b)[0] - PERSONAL or _prefixed(a, b)[0] or _turned(a, b) or _targets_exchanged(a, b):
        return True
    if placed_otherwise(a.traits.placed, b.traits.placed):
        return True
    if not hard_differences(a, b):
        return False
    only_a, only_b = unmatched(a, b)
    return not (only_a | only_b) - LIGHT_WORDS - NEGATIONS


def reverses(a: Reading, b: Reading) -> bool:
    """Whether a hard difference is nearly all that there is between them: all but words of form, and beside an
    opposite, a negating prefix or a direction all but a word of each."""
    if not hard_differences(a, b):
        return False
    only_a, only_b = unmatched(a, b)
    exchanged = _opposed(a, b)[0] | _opposed(b, a)[0] | {word for pair in _prefixed(a, b)[0] for word in pair}
    exchanged |= {word for pair in _prefixed(b, a)[0] for word in pair}
    left = [only - LIGHT_WORDS - GENERIC_WORDS - NEGATIONS - exchanged for only in (only_a, only_b)]
    allowed = int(bool(exchanged or _turned(a, b) or _targets_exchanged(a, b)))
    return max(map(len, left)) <= allowed


def clears(asked: Reading, against: Reading, by: Reading) -> bool:
    """Whether a question without a hard difference to `asked`, of the same answer as `against`, shows that what is hard
    between those two is of no matter to that answer.

    It must say the very words by which `asked` is the contrary of `against`, all that one of them denies, and the
    matter that they share, of much all but a little: what merely says less shows nothing. Nor does what says more than
    `asked`: "order 4711? Take the one before" may well have the answer of order 4710.
    """
    if unmatched(asked, by)[1] - LIGHT_WORDS - GENERIC_WORDS:
        return False
    claims = {*_opposed(asked, against)[0], *(word for _, word in _prefixed(asked, against)[0])}
    if not claims <= by.traits.vocabulary:
        return False
    shared = shared_matter(asked, against)
    lacking = {word for word in shared if not has_word(word, asked, by)}
    if len(lacking) > len(shared) // LACKING_ONE_OF or any(_denies(each, lacking, asked) for each in (asked, against)):
        return False
    if _targets_exchanged(asked, against) and _targets(asked).isdisjoint(_targets(by)):
        return False
    placed, alike_placed = asked.traits.placed, by.traits.placed
    for word in placed_otherwise(placed, against.traits.placed):
        if placed[word].isdisjoint(alike_placed.get(word, ())):
            return False
    mine, same = asked.traits.directions, by.traits.directions
    return all(mine[word] & same.get(word, frozenset()) for word in _turned(asked, against))


def _hard_differences(a: Reading, b: Reading) -> Iterator[str]:
    if not (a.latin and b.latin and a.english and b.english) and a.plain != b.plain:
        yield "language: other than English must be the same word for word"
    yield from exact_differences(a, b)
    prefixed, balanced = _prefixed(a, b)
    opposed, denied = _opposed(a, b)
    uneven = (a.traits.negations + b.traits.negations + balanced + denied) % 2
    if (uneven or (opposed and opposed <= PERSONAL)) and _is_of_other_matter(a, b):
        uneven, opposed = 0, opposed - PERSONAL
    if uneven and not prefixed and _denies_other_things(a, b):
        uneven = 0
    if uneven:
        yield "negation: one negates, the other does not"
    if prefixed:
        yield _PREFIX
    if opposed or _switched_otherwise(a, b):
        yield _OPPOSITE
    elif placed_otherwise(a.traits.placed, b.traits.placed):
        yield _PLACED
    if _turned(a, b) or _targets_exchanged(a, b):
        yield _DIRECTION


def _is_of_other_matter(a: Reading, b: Reading) -> bool:
    only_a, only_b = unmatched(a, b)
    return bool(only_a - GENERIC_WORDS - LIGHT_WORDS - NEGATIONS and only_b - GENERIC_WORDS - LIGHT_WORDS - NEGATIONS)


def _denies(reading: Reading, words: set[str], of: Reading) -> bool:
    """Whether it denies one of the words, which are another's."""
    denied = reading.traits.denied
    if denied is None:
        return bool(words)
    return any(alike(word, other, of, reading) for word in words for other in denied)


def _denies_other_things(a: Reading, b: Reading) -> bool:
    """Whether one denies something that the other does not speak of, and neither denies what the other just says."""
    others = False
    for x, y in ((a, b), (b, a)):
        if x.traits.denied is None or y.traits.denied is None:
            return False
        said = {word for word in x.traits.denied if has_word(word, x, y)}
        if not all(any(alike(word, other, x, y) for other in y.traits.denied) for word in said):
            return False
        others = others or said != x.traits.denied
    return others


def _opposed(a: Reading, b: Reading) -> tuple[set[str], int]:
    """The words of `a` alone of which `b` alone has an opposite. And how many opposites mean the same after all, as
    one of them is denied: "not right" and "wrong"."""
    mine, theirs = a.traits, b.traits
    found, denied = set[str](), 0
    for word, other in _opposites(mine, theirs):
        if (word in mine.negated) != (other in theirs.negated):
            denied += 1
        else:
            found.add(word)
    return found, denied


def _opposites(mine: Traits, theirs: Traits) -> set[tuple[str, str]]:
    """Words that only the one has, each with an opposite that only the other has: by either's table, as the "in" that
    is "out" turned round is in every other sentence."""
    if not mine.opposed and not theirs.opposed:
        return set()
    found = {(word, other) for other in mine.opposed.keys() & theirs.vocabulary for word in mine.opposed[other]}
    found.update((word, other) for word in theirs.opposed.keys() & mine.vocabulary for other in theirs.opposed[word])
    return {
        pair
        for pair in found
        if pair[0] not in theirs.vocabulary
        and pair[1] not in mine.vocabulary
        and (_PARTICLE not in pair or _are_behind_one_word(pair[0], mine, pair[1], theirs))
    }


def _are_behind_one_word(word: str, mine: Traits, other: str, theirs: Traits) -> bool:
    """ "log in" and "log out"; but not "wrong in my account" and "coming out of it"."""
    one, another = (
        {form for before, behind in pairwise(traits.words) if behind == each for form in forms_of(before)}
        for each, traits in ((word, mine), (other, theirs))
    )
    return not one.isdisjoint(another)


def _prefixed(a: Reading, b: Reading) -> tuple[list[tuple[str, str]], int]:
    """Words that only one has, against the same word with a negating prefix that only the other has: each with the one
    that is in `a`. And how many of them are the same after all, as "unable" and "not able"."""
    found, balanced = list[tuple[str, str]](), 0
    if not a.traits.prefixed and not b.traits.prefixed:
        return found, balanced
    for x, y, of_x in ((a.traits, b.traits, True), (b.traits, a.traits, False)):
        if x.prefixed.keys().isdisjoint(y.vocabulary):
            continue
        for bare in x.prefixed.keys() & y.vocabulary:
            word = x.prefixed[bare]
            if bare in x.vocabulary or word in y.vocabulary:
                continue
            if bare in y.negated:
                balanced += 1
            else:
                found.append((bare, word if of_x else bare))
    return found, balanced


def _turned(a: Reading, b: Reading) -> list[str]:
    """Words that both have, behind "from" in one and behind "to" in the other."""
    there, back = a.traits.directions, b.traits.directions
    if not there or not back:
        return []
    return [
        word
        for word in there.keys() & back.keys()
        if there[word].isdisjoint(back[word]) and _are_opposed(there[word], back[word])
    ]


def _switched_otherwise(a: Reading, b: Reading) -> bool:
    """Whether something is turned on in the one and off, up or over in the other, in whatever words."""
    if SWITCHING.isdisjoint(a.traits.vocabulary) or SWITCHING.isdisjoint(b.traits.vocabulary):
        return False
    x, y = _switched(a), _switched(b)
    return bool(x and y) and x != y


def _switched(reading: Reading) -> str:
    """ "on" where something is turned on, "off" where it is turned off, or where else it is turned to; empty where
    neither of these or both are said."""
    words = reading.traits.vocabulary
    turned = not TURNING.isdisjoint(words)
    on = not ENABLING.isdisjoint(words) or (turned and "on" in words)
    off = not DISABLING.isdisjoint(words) or (turned and "off" in words)
    if on or off:
        return "" if on and off else "on" if on else "off"
    last = reading.words[-1]
    found = {behind for word, behind in pairwise(reading.words) if word in TURNING} | ({last} if turned else set())
    return "".join(sorted(found & _TURNED))


def _targets_exchanged(a: Reading, b: Reading) -> bool:
    """Whether what stands behind "to" in the one stands elsewhere in the other, and the other way round: "from 11 to
    12", "we run 12 and go back to 11"."""
    if _TARGETS.isdisjoint(a.traits.vocabulary) or _TARGETS.isdisjoint(b.traits.vocabulary):
        return False
    if not (a.numbers or a.units or a.names) or not (b.numbers or b.units or b.names):
        return False
    mine, theirs = _targets(a), _targets(b)
    if not mine or not theirs or mine & theirs:
        return False
    return mine.issubset(b.sequence) and theirs.issubset(a.sequence)


def _targets(reading: Reading) -> set[str]:
    """The number, unit or name right behind "to", or the number one word on: other words there may be verbs."""
    found = set()
    for before, word, behind in zip(reading.sequence, reading.sequence[1:], (*reading.sequence[2:], ""), strict=False):
        if before in _TARGETS:
            if word in UNITS or word in reading.names or not word.isalpha():
                found.add(word)
            elif any(map(str.isdigit, behind)):
                found.add(behind)
    return found


def _are_opposed(a: frozenset[str], b: frozenset[str]) -> bool:
    if any(b & OPPOSITES.get(preposition, frozenset()) for preposition in a):
        return True
    return (_SOURCE in a and not _TARGETS.isdisjoint(b)) or (_SOURCE in b and not _TARGETS.isdisjoint(a))
