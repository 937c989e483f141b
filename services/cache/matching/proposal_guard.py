"""Whether a proposed answer may be served at all: the hard guards, over the stored questions that stand for it.

Promises: pure; a refusal is a constant sentence that quotes no question. It is the exact-token guard against crafted
neighbours: however probable an answer is made to look, another order number never gets it. A hard difference to one of
the answer's own questions is only ever cleared by another of them that has the very words in question and says as much
(`contraries.clears`); neither a class's evidence nor a question that is nearer, or says less, hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from services.cache.matching.additions import added, adds_matter, contrasts, orders_more
from services.cache.matching.alignment import has_words
from services.cache.matching.contraries import clears, hard_differences, opposes
from services.cache.matching.differences import content_differences, exchanged_content, hardly_differs, same_wording
from services.cache.matching.grammar import grammar_differences
from services.cache.matching.inflection import forms_of
from services.cache.matching.lexicon import ACTIONS
from services.cache.matching.reading import Reading

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

LIFTABLE: Final = ("case", "wording")
"""Kinds of refusals that a class may learn to overrule (`risk_control`); all others are for ever."""

_WORDS: Final = "words"
_WORDING: Final = "wording: words stand in each other's place, as among this answer's own questions"
_CONTRARY: Final = "contrary: one of the answer's own questions asks for something else in so many words"
_ACTION: Final = "action: it asks for something that none of the answer's own questions names"
_MATTER: Final = "matter: it asks for something narrower than all of the answer's own questions"
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
    """
    asked, rows = asked.core, [row.core for row in stored[:ROWS_READ]]
    if not rows:
        return "nothing comparable is stored"
    hard = [hard_differences(asked, row) for row in rows]
    agreeing = [row for row, found in zip(rows, hard, strict=True) if not found]
    if not agreeing:
        return hard[0][0]
    said_more = [next(added(asked, row), "") for row in agreeing]
    agreeing = [row for row, found in zip(agreeing, said_more, strict=True) if not found]
    if not agreeing:
        return said_more[0]
    is_broad = _is_broad(rows)
    telling = [row for row in rows if not orders_more(asked, row)]
    others = telling if aliases >= ALIASES_PROVEN else ()
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
    if hardly and not is_broad:
        return _CONTRARY
    if more := _asks_more(asked, telling, is_broad=is_broad):
        return more
    return "" if passed else _of_other_words(soft, is_broad=is_broad, hardly=hardly)


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


def _asks_more(asked: Reading, rows: Sequence[Reading], *, is_broad: bool) -> str:
    """What it asks for that none of the answer's own questions has."""
    if _names_new_action(asked, rows):
        return _ACTION
    return _MATTER if not is_broad and adds_matter(asked, rows) else ""


def _names_new_action(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether something is to be done that none of the answer's own questions names."""
    actions = [word for word in asked.traits.matter if not forms_of(word).isdisjoint(ACTIONS)]
    return any(not any(has_words((word,), asked, row) for row in rows) for word in actions)


def _is_broad(rows: Sequence[Reading]) -> bool:
    """Whether the answer's own questions differ among each other by exchanged words."""
    exchanged = (other for other in rows[1:] if exchanged_content(rows[0], other))
    return sum(1 for _ in islice(exchanged, BROAD_MIN)) >= BROAD_MIN
