"""What the guards say of proposals, remembered: the same questions are asked again and again.

Promises: says what `proposal_guard` says; memory is bounded, what was said longest ago is forgotten. What it is
remembered by is all that it depends on: a key stands for its text, which never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.proposal_guard import ROWS_READ, proposal_refusal
from services.cache.matching.reading import Reading

__all__ = ["REFUSALS_MAX", "Refusals"]

REFUSALS_MAX: Final = 4_096
"""Proposals, of under 2 KB each beside the text that was asked: 72 MB where all are of 2,000 of the widest letters."""

_Name = tuple[str, str, int, tuple[str, ...]]


class Refusals:
    """`known`: what stored questions ask. At most `refusals_max` are remembered."""

    def __init__(self, known: KnownQuestions, *, refusals_max: int = REFUSALS_MAX) -> None:
        self._known = known
        self._refusals_max = refusals_max
        self._said: dict[_Name, str] = {}

    def __len__(self) -> int:
        return len(self._said)

    def of(self, asked: Reading, keys: Sequence[str], *, aliases: int) -> str:
        """Why the answer that these stored questions have, nearest first, is not for `asked`; empty when it may be.
        What is not known of them any more is left out. `aliases` as `proposal_refusal` has it."""
        nearest = keys[:ROWS_READ]
        texts = {
            key: known.text
            for key, known in zip(nearest, self._known.get_many(nearest), strict=True)
            if known is not None
        }
        name = (asked.normal, asked.exact, aliases, tuple(texts))
        said = self._said.get(name)
        if said is None:
            rows = [self._known.sketch_of(key, text).reading for key, text in texts.items()]
            said = self._said[name] = proposal_refusal(asked, rows, aliases=aliases)
            if len(self._said) > self._refusals_max:
                del self._said[next(iter(self._said))]
        return said
