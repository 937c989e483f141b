"""Whether a proposed answer may be served at all: the hard guards, over the stored questions that stand for it.

Promises: pure; a refusal is a constant sentence that quotes no question. It is the exact-token guard against crafted
neighbours: however probable an answer is made to look, another order number never gets it. A hard difference to one of
the answer's own questions is only ever cleared by another of them that has the very words in question and says as much
(`contraries.clears`); a question that is nearer, or says less, hides none. What a class has seen overrules a guard only
where the answer's own questions contradict it, and never what is named exactly, said more, to be done or turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from services.cache.matching.additions import added, adds_matter, contrasts, orders_more
from services.cache.matching.alignment import has_word
from services.cache.matching.contraries import clears, hard_differences, opposes, reverses
from services.cache.matching.differences import (
    content_differences,
    exchanged_content,
    hardly_differs,
    otherwise_worded,
    reordered,
    same_wording,
)
from services.cache.matching.grammar import grammar_differences
from services.cache.matching.inflection import forms_of
from services.cache.matching.lexicon import ACTIONS, word_set
from services.cache.matching.reading import Reading
from services.cache.matching.unheard import asks_unheard, has_unheard_matter, wordings

__all__ = ["ALIASES_PROVEN", "BROAD_MIN", "LIFTABLE", "ROWS_READ", "kind_of", "proposal_refusal"]

ROWS_COMPARED: Final = 4
"""Of a proposal's near questions, so many are held against the asked one; one without a difference is enough."""

ROWS_READ: Final = 16
"""So many of them say which words were shown to stand in each other's place, and whether one asks for the contrary."""

ALIASES_PROVEN: Final = 3
"""Stored questions that were shown to share an answer: from so many on, words that were exchanged among them may be."""

BROAD_MIN: Final = 4
"""So many of an answer's near questions have other words in the place of the nearest one's: then it is
broader than a wording, and one more may be tried."""

WORDINGS_TELLING: Final = 4
ALIASES_KNOWN: Final = ROWS_READ
"""Of an answer of fewer stored questions all that are near are read: what none of them speaks of is unheard, if these
have so many different words of matter that they show what it is about. From so many on it is for the evidence."""

LIFTABLE: Final = ("case", "wording", "misjudged", "unheard")
"""Kinds of refusals that a class may learn to overrule (`risk_control`); all others are for ever."""

OVERRULED: Final = word_set("""
    negation numbers words opposites ordinals code units contrary direction literals question names order
    roles matter several length
""")
"""Kinds that are "misjudged" instead where they would refuse the answer's own questions as well."""

OWN_ASKED: Final = 8
OWN_REFUSED: Final = 4
"""Of so many near questions of the answer's own so many must be refused for that; of fewer none is enough."""

_EXACT: Final[tuple[Callable[[Reading], Iterable[str]], ...]] = (
    lambda reading: reading.numbers,
    lambda reading: reading.literals,
    lambda reading: reading.code,
)

_WORDS: Final = "words"
_WORDING: Final = "wording: words stand in each other's place, as among this answer's own questions"
_CONTRARY: Final = "contrary: one of the answer's own questions asks for something else in so many words"
_UNHEARD: Final = "unheard: it speaks of what none of the few questions of this answer does"
_ACTION: Final = "action: it asks for something that none of the answer's own questions names"
_MATTER: Final = "matter: it asks for something narrower than all of the answer's own questions"
_MISJUDGED: Final = "misjudged: the guards would refuse the answer's own questions as well"
_SEVERAL: Final = "several: it differs in more than one way"


def kind_of(refusal: str) -> str:
    """The guard that speaks: what stands before the colon."""
    return refusal.partition(":")[0]


def proposal_refusal(asked: Reading, stored: Sequence[Reading], *, aliases: int) -> str:
    """Why the answer to `stored` (questions of one entry, nearest first) is not for `asked`; empty when it may be.

    `aliases` is how many stored questions the entry has in all. One stored question without a difference is enough, if
    every hard difference to one of the nearest, and every contrary among all, is cleared by another; if it says as much
    as the asked one of owners, times and the like (`additions.added`); if what is to be done is named by one of them;
    and if none asks for something else, or for less, in nearly the same words, unless the answer is broad.

    Of an answer of few stored questions (ALIASES_KNOWN) nothing is served that these do not speak of (`unheard`): a new
    word of matter is for the class to learn of, what is denied, measured, done by others or comes of it is not.

    Of a broad answer of whose own questions the same guards would refuse half, each asked of the others, they say
    little: then it is for the class to learn what such refusals are worth (OVERRULED). But for those of what is said
    more or is to be done, of a question turned round, and of numbers, quotations or code that none of them has just so.
    """
    asked, rows = asked.core, [row.core for row in stored[:ROWS_READ]]
    if not rows:
        return "nothing comparable is stored"
    found = _refusal(asked, rows, aliases)
    kind = kind_of(found)
    if kind and kind not in OVERRULED and kind not in LIFTABLE:
        return found
    telling, others = _telling(asked, rows, aliases)
    if _is_known(telling, aliases):
        unheard = asks_unheard(asked, telling) or (_UNHEARD if has_unheard_matter(asked, telling) else "")
        if unheard:
            return found if kind in OVERRULED else unheard
    if kind not in OVERRULED or not _is_broad(telling) or _names_what_is_not_stored(asked, telling):
        return found
    if any(reverses(asked, row) or hardly_differs(asked, row, others) for row in rows):
        return found
    return _not_overruled(asked, rows, telling) or (_MISJUDGED if _misjudges(telling, aliases) else found)


def _refusal(asked: Reading, rows: Sequence[Reading], aliases: int) -> str:
    hard = [hard_differences(asked, row) for row in rows]
    agreeing = [row for row, found in zip(rows, hard, strict=True) if not found]
    if not agreeing:
        return hard[0][0]
    said_more = [next(added(asked, row), "") for row in agreeing]
    agreeing = [row for row, found in zip(agreeing, said_more, strict=True) if not found]
    if not agreeing:
        return said_more[0]
    is_broad = _is_broad(rows)
    telling, others = _telling(asked, rows, aliases)
    soft: list[tuple[str, ...]] = []
    passed = False
    for row in agreeing[:ROWS_COMPARED]:
        found = (*content_differences(asked, row, others), *grammar_differences(asked, row))
        if found:
            soft.append(found)
        elif same_wording(asked, row):
            return ""
        else:
            passed = True
    if standing := _uncleared(asked, rows, hard, agreeing) or ("" if is_broad else next(contrasts(asked, rows), "")):
        return standing
    hardly = any(hardly_differs(asked, row, others) for row in rows)
    if (hardly and not is_broad) or any(reordered(asked, row) for row in rows):
        return _CONTRARY
    if more := _asks_more(asked, telling, aliases, is_broad=is_broad):
        return more
    return "" if passed else _of_other_words(soft, is_broad=is_broad, hardly=hardly)


def _telling(asked: Reading, rows: Sequence[Reading], aliases: int) -> tuple[list[Reading], list[Reading]]:
    """The rows that prove something of words; and those that do so of exchanged ones, none of a narrow answer."""
    telling = [row for row in rows if not orders_more(asked, row)]
    return telling, telling if aliases >= ALIASES_PROVEN else []


def _misjudges(rows: Sequence[Reading], aliases: int) -> bool:
    """Whether OWN_REFUSED of the OWN_ASKED nearest of the answer's own questions would be refused if each were asked of
    the others."""
    own = rows[:OWN_ASKED]
    refused = passed = 0
    while len(own) == OWN_ASKED and refused < OWN_REFUSED and passed <= OWN_ASKED - OWN_REFUSED:
        place = refused + passed
        kind = kind_of(_refusal(own[place], [*own[:place], *own[place + 1 :]], aliases - 1))
        if kind in OVERRULED or kind in LIFTABLE:
            refused += 1
        else:
            passed += 1
    return refused == OWN_REFUSED


def _names_what_is_not_stored(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether numbers, quotations or code stand in it, and in none of the answer's own questions just these."""
    return any(all(mine != set(named(row)) for row in rows) for named in _EXACT if (mine := set(named(asked))))


def _not_overruled(asked: Reading, rows: Sequence[Reading], telling: Sequence[Reading]) -> str:
    """A refusal of another kind, of what is said more or to be done."""
    found = [next(_others_than_overruled((*hard_differences(asked, row), *added(asked, row))), "") for row in rows]
    if all(found):
        return found[0]
    return _ACTION if _names_new_action(asked, telling) else ""


def _others_than_overruled(refusals: Iterable[str]) -> Iterator[str]:
    return (each for each in refusals if kind_of(each) not in OVERRULED)


def _of_other_words(soft: Sequence[Sequence[str]], *, is_broad: bool, hardly: bool) -> str:
    """What speaks against the answer when none of its questions is without any difference."""
    kinds = {kind_of(each) for found in soft for each in found}
    if is_broad and kinds == {_WORDS}:
        return _ACTION if hardly else _WORDING
    strict = (each for found in soft for each in found if kind_of(each) not in LIFTABLE)
    least = min(soft, key=len)
    return next(strict, least[0] if len(least) == 1 else _SEVERAL)


def _uncleared(
    asked: Reading, rows: Sequence[Reading], hard: Sequence[Sequence[str]], agreeing: Sequence[Reading]
) -> str:
    """The first hard difference that no agreeing question clears."""
    for place, (row, found) in enumerate(zip(rows, hard, strict=True)):
        decides = found and (place < ROWS_COMPARED or opposes(asked, row))
        if decides and not any(clears(asked, row, by) for by in agreeing):
            return found[0]
    return ""


def _asks_more(asked: Reading, rows: Sequence[Reading], aliases: int, *, is_broad: bool) -> str:
    """What it asks for that none of the answer's own questions has."""
    if _names_new_action(asked, rows):
        return _ACTION
    return _MATTER if not is_broad and adds_matter(asked, rows, is_known=_is_known(rows, aliases)) else ""


def _is_known(rows: Sequence[Reading], aliases: int) -> bool:
    """Whether they are few enough to be all that is asked of the answer, and different enough to show what that is."""
    return aliases < ALIASES_KNOWN and wordings(rows) >= WORDINGS_TELLING


def _names_new_action(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether something is to be done that none of the answer's own questions names."""
    actions = [word for word in asked.traits.matter if not forms_of(word).isdisjoint(ACTIONS)]
    return any(not any(has_word(word, asked, row) for row in rows) for word in actions)


def _is_broad(rows: Sequence[Reading]) -> bool:
    """Whether the answer's own questions differ among each other by exchanged words."""
    exchanged = (other for other in rows[1:] if otherwise_worded(rows[0], other) or exchanged_content(rows[0], other))
    return sum(1 for _ in islice(exchanged, BROAD_MIN)) >= BROAD_MIN
