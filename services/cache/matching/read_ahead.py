"""Reads stored questions ahead of the lookups that will hold theirs against them: a little in each idle turn.

Promises: the newest first, as many as `known` has room for, each once; the event loop is taken for a quarter of a
millisecond at a time, a tenth of it in all; a store that is away ends it. Nothing depends on it but time: whoever comes
first reads for itself. For stores whose entries are in this process; others would be asked for all that they have.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.cache.index.vector_index import VectorIndex
from services.cache.matching.known_questions import KnownQuestions
from services.cache.store.answer_store import AnswerStore, StoreUnavailableError

__all__ = ["read_ahead"]

QUESTIONS_PER_TURN: Final = 8
"""Some 30 microseconds each."""

PAUSE_S: Final = 0.002


async def read_ahead(store: AnswerStore, index: VectorIndex, known: KnownQuestions, *, pause_s: float = PAUSE_S) -> int:
    """How many were read, when there are no more or no more can be known. May be cancelled at any time."""
    keys, count = index.newest(known.entries_max), 0
    for begin in range(0, len(keys), QUESTIONS_PER_TURN):
        try:
            questions = await store.get_questions(keys[begin : begin + QUESTIONS_PER_TURN])
        except StoreUnavailableError:
            return count
        for question in questions:
            if question is not None and question.question:
                if not known.read_ahead(question):
                    return count
                count += 1
        await asyncio.sleep(pause_s)
    return count
