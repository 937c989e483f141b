"""What the cache's benchmark stores and asks: drawn, seeded, the same for the same numbers.

Clusters of unit vectors in 384 dimensions, so that neighbours are near, as questions' are. Every row's question has a
name of its own, in letters: in names with digits nothing is forgiven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.entry import Answer, Entry, Scope
from services.cache.partition import entry_key, partition_id
from spillway import wire
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import TaskType
from spillway.v1 import cache_pb2, chat_pb2

__all__ = [
    "ANSWER_TEXT",
    "MODEL",
    "SCOPE",
    "Vectors",
    "Workload",
    "draw",
    "lookup_request",
    "store_request",
    "stored_entries",
]

DIMENSIONS: Final = 384
MODEL: Final = "bench/1"
SCOPE: Final = Scope("bench")
ANSWER_TEXT: Final = "An answer of some length, as they are: " + "word " * 150
SEED: Final = 5
NAME_LETTERS_MIN: Final = 5
TTL_S: Final = 86_400.0

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Workload:
    """Stored questions' vectors, and what is asked: (text, vector)."""

    vectors: Vectors
    exact: list[tuple[str, Vectors]]
    hit: list[tuple[str, Vectors]]
    miss: list[tuple[str, Vectors]]


def draw(entries: int, lookups: int) -> Workload:
    """The same for the same numbers."""
    rng = np.random.default_rng((SEED, entries))
    centres = rng.standard_normal((max(1, entries // 20), DIMENSIONS), dtype=np.float32)
    vectors = np.empty((entries, DIMENSIONS), np.float32)
    for begin in range(0, entries, 10_000):
        part = vectors[begin : begin + 10_000]
        part[:] = centres[rng.integers(len(centres), size=len(part))]
        part += 0.8 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    rows = rng.integers(entries, size=lookups)
    near = vectors[rows] + 0.007 * rng.standard_normal((lookups, DIMENSIONS), dtype=np.float32)
    far = centres[rng.integers(len(centres), size=lookups)] + 0.8 * rng.standard_normal(
        (lookups, DIMENSIONS), dtype=np.float32
    )
    return Workload(
        vectors,
        [(question(int(row)), vectors[row]) for row in rows],
        [(reworded(int(row)), unit(vector)) for row, vector in zip(rows, near, strict=True)],
        [(f"Who wrote the book called novel{at}", unit(vector)) for at, vector in enumerate(far)],
    )


def question(row: int) -> str:
    return f"Which river flows through the town of {name(row)}"


def name(row: int) -> str:
    """A name of its own for each row, in letters: in names with digits nothing is forgiven."""
    letters = ""
    while row or len(letters) < NAME_LETTERS_MIN:
        row, letter = divmod(row, 26)
        letters += chr(ord("a") + letter)
    return letters.capitalize()


def reworded(row: int) -> str:
    """The question in the same words: another first letter, another space, a mark."""
    text = question(row)
    return f"{text[0].lower()}{text[1:].replace(' ', '  ', 1)}?"


def unit(vector: Vectors) -> Vectors:
    made: Vectors = vector / np.linalg.norm(vector)
    return made


def chat(text: str) -> ChatRequest:
    return ChatRequest((Message.of(Role.USER, text),))


def answer() -> Answer:
    return Answer(
        Message.of(Role.ASSISTANT, ANSWER_TEXT),
        FinishReason.STOP,
        True,
        "simple",
        "m",
        "m",
        Usage(20, 150),
        50_000,
        0.9,
    )


def stored_entries(vectors: Vectors, *, begin: int, end: int, now_unix_s: float) -> Iterator[Entry]:
    """Those rows as the store keeps them."""
    partition = partition_id(SCOPE, chat(question(0)), MODEL)
    for at in range(begin, min(end, len(vectors))):
        asked, expires_at = question(at), now_unix_s + TTL_S
        yield Entry(
            entry_key(SCOPE, chat(asked)),
            SCOPE,
            answer(),
            now_unix_s,
            expires_at,
            partition,
            vectors[at].astype("<f4").tobytes(),
            MODEL,
            asked,
        )


def lookup_request(text: str, vector: Vectors) -> cache_pb2.LookupRequest:
    return cache_pb2.LookupRequest(
        scope=cache_pb2.CacheScope(tenant=SCOPE.tenant),
        chat=wire.chat_request_to_proto(chat(text)),
        embedding=chat_pb2.Embedding(values=vector.astype("<f4").tobytes(), model=MODEL),
        task_type=wire.task_type_to_proto(TaskType.FACTUAL_QA),
    )


def store_request(text: str, vector: Vectors) -> cache_pb2.StoreRequest:
    made = answer()
    request = lookup_request(text, vector)
    return cache_pb2.StoreRequest(
        scope=request.scope,
        chat=request.chat,
        embedding=request.embedding,
        task_type=request.task_type,
        answer=cache_pb2.CachedAnswer(
            message=wire.message_to_proto(made.message),
            finish_reason=wire.finish_reason_to_proto(made.finish_reason),
            accepted=True,
            cost_nanousd=made.cost_nanousd,
        ),
    )
