"""What is cached, for how long, and by what a request is found: the owner's rules, held against one request.

Promises: pure; the time that one request takes is bounded, however long its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.cache.admission import Allowances, TtlByFreshness, lifetime_s, only_exact_reason, unfit_question
from services.cache.entry import Answer, Entry, Scope
from services.cache.index.vector_rows import Vector
from services.cache.matching.nearby import Meaning
from services.cache.partition import entry_key, partition_id, semantic_question
from spillway.chat import ChatRequest, Embedding
from spillway.routing import TaskType

__all__ = ["QUESTION_CHARS_MAX", "UNFIT_CHARS_MAX", "CachePolicy"]

QUESTION_CHARS_MAX = 2_000
"""Longer questions are not compared: one vector says too little of them, and the guards' time stays bounded. What they
take of 16 stored questions of that length and an asked one, all read anew, is up to 60 ms of CPU (the most that was
found among 8,000 mixtures of words of the guards' own lists)."""

UNFIT_CHARS_MAX = 50_000
"""A longer last turn is neither looked up nor stored: telling whether it is personal would hold up everyone else."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """The rules. Only kinds of work in `semantic_task_types` are found by meaning, others exactly or not at all.
    No lookup takes longer than `lookup_s`."""

    ttl: TtlByFreshness
    semantic_task_types: frozenset[TaskType]
    entry_bytes_max: int
    lookup_s: float
    allowed: Allowances = field(default_factory=Allowances)

    def unfit(self, chat: ChatRequest) -> str:
        """Why no stored answer may serve the request, nor its own be stored; empty when it may."""
        if len(chat.last_user_text) > UNFIT_CHARS_MAX:
            return "too_long"
        return unfit_question(chat, self.allowed)

    def meaning(
        self,
        scope: Scope,
        chat: ChatRequest,
        embedding: Embedding | None,
        vector: Vector | None,
        task_type: TaskType | None,
    ) -> Meaning | str:
        """By what the request is found, or why it is only found exactly. `vector`: the embedding's, of unit length."""
        question = semantic_question(chat)
        if embedding is None or vector is None:
            return "the same request is not stored"
        if task_type is None or task_type not in self.semantic_task_types:
            return f"only found exactly: {'not classified' if task_type is None else task_type.value}"
        if reason := only_exact_reason(chat, self.allowed):
            return f"only found exactly: {reason}"
        if not question.strip():
            return "only found exactly: no text in the last user turn"
        if len(question) > QUESTION_CHARS_MAX:
            return "only found exactly: the last user turn is long"
        return Meaning(question, partition_id(scope, chat, embedding.model), embedding.model, vector, task_type)

    def entry(
        self,
        scope: Scope,
        chat: ChatRequest,
        answer: Answer,
        meaning: Meaning | str,
        *,
        ttl_s: float | None,
        tags: Sequence[str],
        group: str,
        aliases: int,
        now_unix_s: float,
    ) -> Entry:
        """The answer as it is stored. `meaning`: what `meaning` gave; `group` and `aliases` as Entry has them."""
        found_by = meaning if isinstance(meaning, Meaning) else None
        return Entry(
            key=entry_key(scope, chat),
            scope=scope,
            answer=answer,
            stored_at_unix_s=now_unix_s,
            expires_at_unix_s=now_unix_s + lifetime_s(ttl_s, tags, self.ttl),
            partition=found_by.partition if found_by else "",
            vector=found_by.vector.astype("<f4").tobytes() if found_by else b"",
            embedding_model=found_by.model if found_by else "",
            question=found_by.question if found_by else "",
            tags=tuple(tags),
            group=group,
            aliases=aliases,
        )
