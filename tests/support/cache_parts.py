"""Requests, answers, vectors and caches for tests of the cache."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from services.cache.admission import TtlByFreshness
from services.cache.cache_policy import CachePolicy
from services.cache.entry import Answer, Entry, Scope
from services.cache.index.vector_index import Vector, VectorIndex
from services.cache.matching import pair_model as pair_model_module
from services.cache.matching.answer_judge import AnswerJudge, TextEmbedder
from services.cache.matching.pair_model import PairModel, parse_pair_model
from services.cache.matching.partition_classes import PartitionClasses
from services.cache.matching.proposal_guard import ALIASES_KNOWN, kind_of, proposal_refusal
from services.cache.matching.reading import read
from services.cache.matching.risk_control import RiskPolicy
from services.cache.matching.semantic_search import SemanticSearch
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import AnswerStore, Change, Indexed, IndexedMany
from services.cache.store.answer_store_file import FileStore
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
    "indexed",
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


def indexed(changes: Iterable[Change]) -> list[Indexed]:
    """The entries that a follower was told of, alone or many at once."""
    told: list[Indexed] = []
    for change in changes:
        if isinstance(change, Indexed):
            told.append(change)
        elif isinstance(change, IndexedMany):
            told.extend(change.each())
    return told


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


def policy(*, lookup_s: float = 10.0) -> CachePolicy:
    return CachePolicy(
        ttl=TTL,
        semantic_task_types=frozenset({TaskType.FACTUAL_QA, TaskType.OTHER}),
        entry_bytes_max=10_000,
        lookup_s=lookup_s,
    )


@cache
def pair_model() -> PairModel:
    return parse_pair_model((Path(pair_model_module.__file__).parent / "data" / "pair_model.npz").read_bytes())


def cache_over(
    store: AnswerStore,
    clock: Clock,
    *,
    rules: CachePolicy | None = None,
    risk: RiskPolicy | None = None,
    embedder: TextEmbedder | None = None,
    directory: Path | None = None,
    seed: int = 1,
) -> SemanticCache:
    """A cache whose fits happen at once."""
    index = VectorIndex(entries_max=100_000)
    search = SemanticSearch(
        store,
        index,
        pair_model=pair_model(),
        classes=PartitionClasses(risk or RiskPolicy(), random=Random(seed), directory=directory),
        judge=AnswerJudge(embedder),
        clock=clock,
        similarity_min=0.5,
        known_max=100_000,
    )
    return SemanticCache(store, index, search=search, policy=rules or policy(), clock=clock)


@asynccontextmanager
async def file_store(
    path: Path, clock: Clock, *, entries_max: int = 1_000, bytes_max: int = 100_000_000
) -> AsyncIterator[FileStore]:
    store = await FileStore.open(path, entries_max=entries_max, bytes_max=bytes_max, clock=clock)
    try:
        yield store
    finally:
        await store.close()


def refused_by(asked: str, *stored: str, aliases: int = ALIASES_KNOWN) -> str:
    """The kind of guard that speaks against the answer to those questions, the nearest first."""
    return kind_of(proposal_refusal(read(asked), [read(each) for each in stored], aliases=aliases))
