"""Whether a proposed answer may be served at all: the hard guards, over the stored questions that stand for it.

Promises: pure; a refusal is a constant sentence that quotes no question. It is the exact-token guard against crafted
neighbours: however probable an answer is made to look, another order number never gets it. A hard difference is never
hidden: neither by one of LIFTABLE, nor by a stored question that is nearer or says less.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from services.cache.matching.differences import (
    content_differences,
    exchanged_content,
    grammar_differences,
    hard_differences,
    hardly_differs,
    opposes,
    same_wording,
)
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
_SEVERAL: Final = "several: it differs in more than one way"


def kind_of(refusal: str) -> str:
    """The guard that speaks: what stands before the colon."""
    return refusal.partition(":")[0]


def proposal_refusal(asked: Reading, stored: Sequence[Reading], *, aliases: int) -> str:
    """Why the answer to `stored` (questions of one entry, nearest first) is not for `asked`; empty when it may be.

    `aliases` is how many stored questions the entry has in all. One stored question without a difference is enough; but
    where one asks for the contrary, only one with the very words is, and so where one asks for something else in nearly
    its words, unless the answer is broad. Otherwise a hard difference of any decides.
    """
    rows = stored[:ROWS_READ]
    if not rows:
        return "nothing comparable is stored"
    others = rows if aliases >= ALIASES_PROVEN else ()
    hard: list[str] = []
    soft: list[tuple[str, ...]] = []
    passed: list[Reading] = []
    for row in rows[:ROWS_COMPARED]:
        if found := hard_differences(asked, row):
            hard += found
        elif found := (*content_differences(asked, row, others), *grammar_differences(asked, row)):
            soft.append(found)
        else:
            passed.append(row)
    if any(same_wording(asked, row) for row in passed):
        return ""
    if hard and not passed:
        return hard[0]
    is_broad = _is_broad(rows)
    if contrary := next((row for row in rows if opposes(asked, row)), None):
        return hard_differences(asked, contrary)[0]
    if not is_broad and any(hardly_differs(asked, row, others) for row in rows):
        hard.append(_CONTRARY)
    elif passed:
        return ""
    if not hard and all(kind_of(each) == _WORDS for found in soft for each in found) and is_broad:
        return _WORDING
    hard += (each for found in soft for each in found if kind_of(each) not in LIFTABLE)
    if hard:
        return hard[0]
    least = min(soft, key=len)
    return least[0] if len(least) == 1 else _SEVERAL


def _is_broad(rows: Sequence[Reading]) -> bool:
    """Whether the answer's own questions differ among each other by exchanged words."""
    exchanged = (other for other in rows[1:] if exchanged_content(rows[0], other))
    return sum(1 for _ in islice(exchanged, BROAD_MIN)) >= BROAD_MIN
