"""Whether a proposed answer may be served at all: the hard guards, over the stored questions that stand for it.

Promises: pure; a refusal is a constant sentence that quotes no question. It is the exact-token guard against crafted
neighbours: however probable an answer is made to look, another order number never gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.cache.matching.differences import exchanged_content, grammar_difference, hard_difference, opposed_words
from services.cache.matching.reading import Reading

__all__ = ["ALIASES_PROVEN", "LIFTABLE", "ROWS_READ", "kind_of", "proposal_refusal"]

ROWS_COMPARED: Final = 4
"""Of a proposal's near questions, so many are held against the asked one; one without a difference is enough."""

ROWS_READ: Final = 16
"""So many of them say which words were shown to stand in each other's place."""

ALIASES_PROVEN: Final = 3
"""Stored questions that were shown to share an answer: from so many on, words that were exchanged among them may be."""

_SHOWN: Final = " among aliases"
_SHOWABLE: Final = ("numbers", "units", "negation")
"""Differences that an answer's own questions may show to be of no matter to it. Of opposites, directions, quoted texts,
code and names, one exchange says nothing of another."""

LIFTABLE: Final = ("case", "order", "question", "roles", "words", *(kind + _SHOWN for kind in _SHOWABLE))
"""Kinds of refusals that a class may learn to overrule (`risk_control`); all others are for ever."""


def kind_of(refusal: str) -> str:
    """The guard that speaks: what stands before the colon."""
    return refusal.partition(":")[0]


def proposal_refusal(asked: Reading, stored: Sequence[Reading], *, aliases: int) -> str:
    """Why the answer to `stored` (questions of one entry, nearest first) is not for `asked`; empty when it may be.

    `aliases` is how many stored questions the entry has in all. Of several reasons one that may be overruled.
    """
    found: list[str] = []
    opposed: frozenset[str] = frozenset()
    others = stored[:ROWS_READ] if aliases >= ALIASES_PROVEN else ()
    for reading in stored[:ROWS_COMPARED]:
        hard = hard_difference(asked, reading)
        if hard:
            found.append(_shown(hard, reading, others))
            opposed |= opposed_words(asked, reading)
            continue
        if not opposed.issubset(reading.words):  # what says neither "on" nor "off" proves nothing of "off"
            continue
        refusal = exchanged_content(asked, reading, others) or grammar_difference(asked, reading)
        if not refusal:
            return ""
        found.append(refusal)
    if not found:
        return "nothing comparable is stored"
    return next((refusal for refusal in found if kind_of(refusal) in LIFTABLE), found[0])


def _shown(hard: str, stored: Reading, others: Sequence[Reading]) -> str:
    """Whether at least ALIASES_PROVEN of the answer's own questions differ from this one in the same way."""
    kind = kind_of(hard)
    if kind not in _SHOWABLE:
        return hard
    same_kind = sum(hard_difference(stored, other) == hard for other in others)
    return f"{kind}{_SHOWN}: such differences are of no matter to this answer" if same_kind >= ALIASES_PROVEN else hard
