"""What the cache's benchmark stores and asks: drawn, seeded, the same for the same numbers.

Twenty stored questions at a time are wordings of one topic, with one answer: a verb, a thing that only this topic has
(its name is of letters: in names with digits nothing is forgiven), one of six openings and one of nine closings. Their
vectors are unit vectors in 384 dimensions around the topic's centre, at a cosine of .61 to each other. A paraphrase is
a wording that is not stored, with a vector of its own; a miss asks something else of the topic's thing, from somewhat
farther away (a cosine of .54 to the topic's questions).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.entry import Answer, Entry, Scope
from services.cache.matching import pair_model
from services.cache.matching.pair_model import parse_pair_model
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
    "Warming",
    "Workload",
    "draw",
    "lookup_request",
    "store_request",
    "stored_entries",
]

DIMENSIONS: Final = 384
SCOPE: Final = Scope("bench")
ANSWER_TEXT: Final = "An answer of some length, as they are: " + "word " * 150
SEED: Final = 5
NAME_LETTERS_MIN: Final = 5
TTL_S: Final = 86_400.0
NOISE: Final = 0.8
MISS_NOISE: Final = 1.05

WORDINGS_STORED: Final = 20
WARMING_BELOW: Final = 37
"""A topic's wordings from 20 on are not stored; those below this one warm the class up, the others are asked."""

WARMING: Final = 1_000
WRONG_EVERY: Final = 8
"""Of the questions that warm the class up: one in so many has another answer than what is near it."""

_OPENINGS: Final = (
    "How do I", "how can I", "What is the way to", "Please explain how to", "In what way do I", "how should I"
)  # fmt: skip
_CLOSINGS: Final = (
    "", " please", " quickly", " at home", " now", " by myself", " as a beginner", " properly", " safely"
)  # fmt: skip
_VERBS: Final = ("clean", "repair", "choose", "store", "paint", "carry")
_WORDINGS: Final = len(_OPENINGS) * len(_CLOSINGS)
_STEP: Final = 7
"""Prime to the number of wordings: every topic has another twenty of them."""

Vectors = npt.NDArray[np.float32]
Asked = tuple[str, Vectors]


@dataclass(frozen=True, slots=True)
class Warming:
    """A question whose answer the cache is told, so that it learns when near ones share one."""

    text: str
    vector: Vectors
    answer: str


@dataclass(frozen=True, slots=True)
class Workload:
    """Stored questions' vectors, and what is asked: (text, vector). `hit`: a stored question in the same words, but not
    the same letters, and a vector of similarity about 0.99. `warming` comes before all others."""

    vectors: Vectors
    exact: list[Asked]
    hit: list[Asked]
    paraphrase: list[Asked]
    miss: list[Asked]
    warming: list[Warming]


def embedding_model() -> str:
    """The one whose vectors the built-in pair model reads, as it does by default."""
    return parse_pair_model((Path(pair_model.__file__).parent / "data" / "pair_model.npz").read_bytes()).embedding_model


MODEL: Final = embedding_model()


def draw(entries: int, lookups: int) -> Workload:
    """The same for the same numbers."""
    rng = np.random.default_rng((SEED, entries))
    topics = max(1, -(-entries // WORDINGS_STORED))
    centres = rng.standard_normal((topics, DIMENSIONS), dtype=np.float32)
    vectors = np.empty((entries, DIMENSIONS), np.float32)
    for begin in range(0, entries, 10_000):
        part = vectors[begin : begin + 10_000]
        part[:] = centres[np.arange(begin, begin + len(part)) // WORDINGS_STORED]
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    rows = rng.integers(entries, size=lookups)
    near = vectors[rows] + 0.007 * rng.standard_normal((lookups, DIMENSIONS), dtype=np.float32)

    def around(topic: int, noise: float = NOISE) -> Vectors:
        return unit(centres[topic] + noise * rng.standard_normal(DIMENSIONS, dtype=np.float32))

    def other_wording(topic: int, begin: int, end: int) -> str:
        return wording(topic, int(rng.integers(begin, end)))

    drawn = rng.integers(topics, size=(3, max(lookups, WARMING))).tolist()
    return Workload(
        vectors,
        [(question(int(row)), vectors[row]) for row in rows],
        [(reworded(int(row)), unit(vector)) for row, vector in zip(rows, near, strict=True)],
        [(other_wording(topic, WARMING_BELOW, _WORDINGS), around(topic)) for topic in drawn[0][:lookups]],
        [(other_question(topic, at), around(topic, MISS_NOISE)) for at, topic in enumerate(drawn[1][:lookups])],
        [
            Warming(other_question(topic, lookups + at), around(topic, MISS_NOISE), answer_text(-topic))
            if at % WRONG_EVERY == 0
            else Warming(other_wording(topic, WORDINGS_STORED, WARMING_BELOW), around(topic), answer_text(topic))
            for at, topic in enumerate(drawn[2][:WARMING])
        ],
    )


def question(row: int) -> str:
    """The stored one of that row."""
    return wording(row // WORDINGS_STORED, row % WORDINGS_STORED)


def wording(topic: int, number: int) -> str:
    """The topic's wordings of a number below WORDINGS_STORED are stored."""
    at = (number * _STEP + topic) % _WORDINGS
    opening, closing = _OPENINGS[at % len(_OPENINGS)], _CLOSINGS[at // len(_OPENINGS)]
    return f"{opening} {_VERBS[topic % len(_VERBS)]} the {thing(topic)}{closing}"


def other_question(topic: int, number: int) -> str:
    """Something else about the topic's thing, by somebody else each time."""
    return f"Who told {name(number + 26**NAME_LETTERS_MIN)} what the {thing(topic)} had cost"


def answer_text(topic: int) -> str:
    """A number at its end tells it from others'."""
    return f"{ANSWER_TEXT}The answer is {topic}."


def thing(topic: int) -> str:
    """Far from the next topic's in its letters: neighbours in spelling are taken for typing errors."""
    return name(topic * 7_919 + 26 ** (NAME_LETTERS_MIN - 1)).lower()


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
    mark = "?" if text.lower().startswith(("how", "what")) else "."
    return f"{text[0].swapcase()}{text[1:].replace(' ', '  ', 1)}{mark}"


def unit(vector: Vectors) -> Vectors:
    made: Vectors = vector / np.linalg.norm(vector)
    return made


def chat(text: str) -> ChatRequest:
    return ChatRequest((Message.of(Role.USER, text),))


def answer(text: str) -> Answer:
    return Answer(
        Message.of(Role.ASSISTANT, text),
        FinishReason.STOP,
        "simple",
        "m",
        "m",
        Usage(20, 150),
        50_000,
        accepted=True,
        score=0.9,
    )


def stored_entries(vectors: Vectors, *, begin: int, end: int, now_unix_s: float) -> Iterator[Entry]:
    """Those rows as the store keeps them: what was found to have one answer is one group."""
    partition = partition_id(SCOPE, chat(question(0)), MODEL)
    for at in range(begin, min(end, len(vectors))):
        topic, number = divmod(at, WORDINGS_STORED)
        yield Entry(
            entry_key(SCOPE, chat(question(at))),
            SCOPE,
            answer(answer_text(topic)),
            now_unix_s,
            now_unix_s + TTL_S,
            partition,
            vectors[at].astype("<f4").tobytes(),
            MODEL,
            question(at),
            group=entry_key(SCOPE, chat(wording(topic, 0))),
            aliases=number + 1,
        )


def lookup_request(text: str, vector: Vectors) -> cache_pb2.LookupRequest:
    return cache_pb2.LookupRequest(
        scope=cache_pb2.CacheScope(tenant=SCOPE.tenant),
        chat=wire.chat_request_to_proto(chat(text)),
        embedding=chat_pb2.Embedding(values=vector.astype("<f4").tobytes(), model=MODEL),
        task_type=wire.task_type_to_proto(TaskType.FACTUAL_QA),
    )


def store_request(text: str, vector: Vectors, said: str = ANSWER_TEXT) -> cache_pb2.StoreRequest:
    made = answer(said)
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
