"""Whether a proposed answer may be served at all: the hard guards, over the stored questions that stand for it.

Promises: pure; a refusal is a constant sentence that quotes no question. It is the exact-token guard against crafted
neighbours: however probable an answer is made to look, another order number never gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.cache.matching.differences import certain_difference, exchanged_content
from services.cache.matching.reading import Reading

__all__ = ["ALIASES_PROVEN", "ROWS_READ", "proposal_refusal"]

ROWS_COMPARED: Final = 4
"""Of a proposal's near questions, so many are held against the asked one; one without a difference is enough."""

ROWS_READ: Final = 16
"""So many of them say which words were shown to stand in each other's place."""

ALIASES_PROVEN: Final = 3
"""Stored questions that were shown to share an answer: from so many on, words that were exchanged among them may be."""


def proposal_refusal(asked: Reading, stored: Sequence[Reading], *, aliases: int) -> str:
    """Why the answer to `stored` (questions of one entry, nearest first) is not for `asked`; empty when it may be.

    `aliases` is how many stored questions the entry has in all.
    """
    refusal = "nothing comparable is stored"
    others = stored[:ROWS_READ] if aliases >= ALIASES_PROVEN else ()
    for index, reading in enumerate(stored[:ROWS_COMPARED]):
        found = certain_difference(asked, reading) or exchanged_content(asked, reading, others)
        if not found:
            return ""
        if index == 0:
            refusal = found
    return refusal
