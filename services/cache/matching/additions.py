"""What one of two questions says more, where that makes another one of it ("my card", "my wife's card").

Promises: pure, total, linear; a difference is a constant sentence and quotes no question. English. No evidence lifts
one; one stored question of the answer that says it as well is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from services.cache.matching.alignment import has_words, unmatched
from services.cache.matching.contraries import GENERIC_WORDS
from services.cache.matching.inflection import same_word
from services.cache.matching.lexicon import LIGHT_WORDS
from services.cache.matching.reading import Reading

__all__ = ["added", "adds_matter", "contrasts", "orders_more"]

_COURTESIES: Final = frozenset({"thank", "thanks", "please", "hello", "hi", "help", "question", "advise", "regards"})

_TENSE: Final = "tense: one asks what was, the other what is"
_ACTOR: Final = "actor: somebody else acts"
_ASKING: Final = "asking: one asks who, whether, or what happens; the other how or when"


def added(asked: Reading, stored: Reading) -> str:
    """The first that makes another question; empty when there is none."""
    return "" if asked.exact == stored.exact else next(_added(asked, stored), "")


def contrasts(asked: Reading, rows: Sequence[Reading]) -> str:
    """A tense, an actor or a question that is another in one of the rows which says all else, and that no row has."""
    mine = asked.particulars
    for row in rows:
        theirs = row.particulars
        if not _says_all(asked, row):
            continue
        tensed = mine.tense and theirs.tense not in ("", mine.tense)
        if tensed and all(other.particulars.tense != mine.tense for other in rows):
            return _TENSE
        if _others_act(asked, row):
            shared = mine.actors.keys() & theirs.actors.keys()
            if not any(other.particulars.actors.get(verb) == mine.actors[verb] for other in rows for verb in shared):
                return _ACTOR
        otherwise = _asks_otherwise(asked, row) or _asks_otherwise(row, asked)
        if otherwise and not any(asked.questions & other.questions for other in rows):
            return _ASKING
    return ""


def orders_more(asked: Reading, stored: Reading) -> bool:
    """Whether the stored question also says what to answer, or turns round what it says: it proves nothing of words."""
    mine, theirs = asked.particulars, stored.particulars
    return bool(theirs.orders - mine.orders or theirs.corrections - mine.corrections)


def adds_matter(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether it has words of matter that none of the rows has, and all that one of them has beside."""
    for row in rows:
        more, less = unmatched(asked, row)
        more -= GENERIC_WORDS | LIGHT_WORDS | _COURTESIES
        if more and not less - GENERIC_WORDS - LIGHT_WORDS and _same_form(asked, row, more):
            return any(not any(has_words((word,), asked, other) for other in rows) for word in more)
    return False


def _same_form(asked: Reading, row: Reading, more: set[str]) -> bool:
    rest = [word for word in asked.words if word not in more]
    return len(set(rest) ^ set(row.words)) <= 1


def _added(asked: Reading, stored: Reading) -> Iterator[str]:
    mine, theirs = asked.particulars, stored.particulars
    if _lacks(mine.owners, stored) or _lacks(theirs.owners, asked):
        yield "owner: it is for, or of, somebody else"
    if mine.times and not theirs.times:
        yield "time: one says before, after or until when"
    if mine.tense and theirs.tense and mine.tense != theirs.tense:
        yield _TENSE
    if mine.corrections != theirs.corrections:
        yield "correction: one turns round or takes back what it says"
    if mine.prevents != theirs.prevents:
        yield "prevention: one wants it kept from happening"
    if _others_act(asked, stored):
        yield _ACTOR
    if _asks_otherwise(asked, stored) or _asks_otherwise(stored, asked):
        yield _ASKING
    if mine.light and theirs.light and mine.light.isdisjoint(theirs.light):
        yield "acting: one needs, gets or gives what the other does not"
    if orders_more(asked, stored):
        yield "instruction: the stored question also says what to answer"
    if _goes_on(stored, asked) or (_goes_on(asked, stored) and _says_all(asked, stored)):
        yield "further: one goes on to something else"


def _says_all(asked: Reading, stored: Reading) -> bool:
    return not unmatched(asked, stored)[1] - GENERIC_WORDS - LIGHT_WORDS


def _lacks(owners: frozenset[str], other: Reading) -> bool:
    return any(not any(same_word(owner, word) for word in other.words) for owner in owners)


def _others_act(a: Reading, b: Reading) -> bool:
    x, y = a.particulars.actors, b.particulars.actors
    both_open = bool(a.frame.opening and b.frame.opening)
    return any(
        (x[verb] == "1") != (y[verb] == "1") and (both_open or "2" not in (x[verb], y[verb]))
        for verb in x.keys() & y.keys()
    )


def _asks_otherwise(a: Reading, b: Reading) -> bool:
    """Whether `a` asks who does it, whether it should be done or what happens then, and `b` how or when it is done."""
    if a.particulars.outcome and not b.particulars.outcome:
        return "when" in b.questions or "how" in b.questions
    return "how" in b.questions and ("who" in a.questions - b.questions or a.frame.opening == "should")


def _goes_on(a: Reading, b: Reading) -> bool:
    """Whether `a` has a further sentence with matter of which nothing is in `b`."""
    return any(
        (matter := sentence - _COURTESIES) and not any(has_words((word,), a, b) for word in matter)
        for sentence in a.particulars.further
    )
