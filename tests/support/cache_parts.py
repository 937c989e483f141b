"""Requests, answers, vectors and caches for tests of the cache."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable

import numpy as np

from services.cache.admission import TtlByFreshness
from services.cache.answer_store import AnswerStore
from services.cache.entry import Answer, Entry, Scope
from services.cache.partition import entry_key
from services.cache.semantic_cache import CachePolicy, SemanticCache
from services.cache.vector_index import Vector, VectorIndex
from services.runtime.clock import Clock
from spillway.chat import ChatRequest, Embedding, FinishReason, Message, Role, Usage
from spillway.routing import TaskType

__all__ = [
    "MODEL",
    "TTL",
    "answer",
    "cache_over",
    "chat",
    "embedding",
    "entry",
    "eventually",
    "policy",
    "vector",
]

MODEL = "test-embedder/1"
DIMENSIONS = 8
TTL = TtlByFreshness(static_s=86_400.0, business_s=7_200.0, default_s=3_600.0)


def chat(text: str, *, system: str = "") -> ChatRequest:
    head = (Message.of(Role.SYSTEM, system),) if system else ()
    return ChatRequest((*head, Message.of(Role.USER, text)))


def answer(text: str = "Paris.", *, accepted: bool = True, score: float | None = 0.875) -> Answer:
    return Answer(
        message=Message.of(Role.ASSISTANT, text),
        finish_reason=FinishReason.STOP,
        accepted=accepted,
        tier="simple",
        target="small-1",
        model="gpt-4o-mini",
        usage=Usage(12, 3),
        cost_nanousd=3_600,
        score=score,
    )


def vector(name: str, dimensions: int = DIMENSIONS) -> Vector:
    """A unit vector that depends on nothing but the name; two names are not alike."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    values = np.random.default_rng(seed).standard_normal(dimensions)
    return (values / np.linalg.norm(values)).astype(np.float32)


def embedding(name: str = "a", *, dimensions: int = DIMENSIONS, model: str = MODEL) -> Embedding:
    return Embedding(vector(name, dimensions).astype("<f4").tobytes(), model)


def entry(
    name: str,
    *,
    scope: Scope | None = None,
    now_unix_s: float,
    ttl_s: float = 3_600.0,
    tags: tuple[str, ...] = (),
    partition: str = "p1",
    text: str = "Paris.",
) -> Entry:
    scope = Scope("acme") if scope is None else scope
    return Entry(
        key=entry_key(scope, chat(name)),
        scope=scope,
        answer=answer(text),
        stored_at_unix_s=now_unix_s,
        expires_at_unix_s=now_unix_s + ttl_s,
        partition=partition,
        vector=vector(name).astype("<f4").tobytes() if partition else b"",
        embedding_model=MODEL if partition else "",
        question=name if partition else "",
        tags=tags,
    )


def policy(*, lookup_s: float = 10.0, similarity_min: float = 0.9) -> CachePolicy:
    return CachePolicy(
        ttl=TTL,
        semantic_task_types=frozenset({TaskType.FACTUAL_QA, TaskType.OTHER}),
        similarity_min=similarity_min,
        entry_bytes_max=10_000,
        lookup_s=lookup_s,
    )


def cache_over(store: AnswerStore, clock: Clock, *, rules: CachePolicy | None = None) -> SemanticCache:
    return SemanticCache(store, VectorIndex(entries_max=1_000), policy=rules or policy(), clock=clock)


async def eventually(condition: Callable[[], Awaitable[bool]], *, what: str, within_s: float = 20.0) -> None:
    """Waits until the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.01)
