"""Any text, any length, any conversation: an answer with probabilities, never a crash."""

from __future__ import annotations

import asyncio
import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.classifier.batched_embedder import BatchedEmbedder, ThreadedEncoder
from services.classifier.complexity import Classifier
from services.classifier.embedder import HashEmbedder
from services.classifier.encoder import CHARACTERS_MAX, TOKENS_MAX, cut_text
from services.classifier.head import parse_head
from services.classifier.heuristics import TASK_TYPES, judge
from services.classifier.startup import BUILTIN_HEAD
from services.classifier.turn import split_turn
from spillway.chat import Message, Role
from tests.support.embedding_model import real_encoder

# Lone surrogates included: they can stand in a Python string, if not on the wire.
ANY_TEXT = st.text(alphabet=st.characters(), max_size=400)
PIECES = st.sampled_from(
    ["```", "> ", "\n\n", "? ", ": ", "\0", "\ud800", "prove ", "((((", "$", "a^", "....", "ok ", "字", "-"]
)
# Up to 200,000 characters, the awkward ones many times over: what a pattern that backtracks would choke on.
LONG_TEXT = st.builds(
    lambda piece, count: (piece * count)[:200_000],
    st.lists(PIECES, min_size=1, max_size=3).map("".join),
    st.integers(0, 200_000),
)
MESSAGES = st.lists(st.builds(Message.of, st.sampled_from(Role), ANY_TEXT), max_size=30)
HEAD = replace(parse_head(BUILTIN_HEAD.read_bytes()), embedding_model=HashEmbedder.model_id)


def _is_distribution(values: tuple[float, ...]) -> bool:
    return all(0.0 <= value <= 1.0 for value in values) and math.isclose(sum(values), 1.0, abs_tol=1e-6)


@given(MESSAGES, st.booleans(), st.booleans())
@settings(max_examples=80)
def test_any_conversation_is_judged(messages: list[Message], has_tools: bool, want_embedding: bool) -> None:
    classifier = Classifier(heuristics_confidence_min=0.9)
    classifier.attach(HashEmbedder(), HEAD)
    judgement = asyncio.run(classifier.classify(messages, has_tools=has_tools, want_embedding=want_embedding))
    found = judgement.classification
    assert _is_distribution(found.probabilities)
    assert 0.0 <= found.confidence <= 1.0
    assert all(math.isfinite(signal.contribution) and 0.0 <= signal.value <= 1.0 for signal in found.signals)
    assert found.out_of_domain is None or 0.0 <= found.out_of_domain <= 1.0


@given(LONG_TEXT)
@example("")
@example("x" * 200_000)
@example("1 + " * 50_000)
@example("function " * 20_000)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_length_is_judged(text: str) -> None:
    judgement = judge((Message.of(Role.USER, text),), has_tools=False)
    assert _is_distribution(judgement.probabilities)
    assert _is_distribution(judgement.task_probabilities)
    assert len(judgement.task_probabilities) == len(TASK_TYPES)
    turn = split_turn(text)
    assert turn.context_characters >= len(turn.context) or turn.context == ""


@given(ANY_TEXT | LONG_TEXT)
@example("e\u0301\u0302" * 100_000)
@example("\u202e\u200f\u2067שלום مرحبا" * 2_000)
@example("👩‍👩‍👧‍👦🏴󠁧󠁢󠁷󠁬󠁳󠁿" * 5_000)
@example("\ud800" * 300_000)
@example("\0" * 1_000_000)
@example("字" * 1_000_000)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_text_has_a_finite_unit_vector(text: str) -> None:
    assert len(cut_text(text)) <= CHARACTERS_MAX
    (vector,) = real_encoder().encode([text])
    assert math.isclose(float((vector * vector).sum()), 1.0, abs_tol=1e-3)


class _Watched:
    """A tokenizer that notes the longest text it was given, and how many tokens came of it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.characters = 0

    def encode(self, text: str) -> Any:
        self.characters = max(self.characters, len(text))
        return self._tokenizer.encode(text)


class _WatchedSession:
    """A session that notes how many tokens of a text reached the model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.tokens = 0

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> Any:
        self.tokens = max(self.tokens, feeds["input_ids"].shape[1])
        return self._session.run(outputs, feeds)


@pytest.mark.parametrize(
    "text", ["a " * 500_000, "x" * 1_000_000, "字" * 1_000_000, "\ud83d" * 1_000_000, "😀" * 500_000]
)
def test_long_input_is_cut_before_the_tokenizer_and_again_before_the_model(text: str) -> None:
    encoder = copy.copy(real_encoder())
    tokenizer, session = _Watched(encoder._tokenizer), _WatchedSession(encoder._session)
    inside: Any = encoder
    inside._tokenizer, inside._session = tokenizer, session
    vectors = encoder.encode([text, "short"])
    assert np.isfinite(vectors).all()
    assert 0 < tokenizer.characters <= CHARACTERS_MAX
    assert 0 < session.tokens <= TOKENS_MAX


@pytest.mark.parametrize("turns", [0, 1, 2, 199, 2_000])
@pytest.mark.parametrize("text", ["", "ok", "\ud800\0", "why? " * 2_000, "```\n" * 500])
async def test_any_count_of_turns_is_judged(turns: int, text: str) -> None:
    roles = [Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL]
    messages = [Message.of(roles[number % 4 if number < turns - 1 else 0], text) for number in range(turns)]
    classifier = Classifier(heuristics_confidence_min=0.9)
    classifier.attach(HashEmbedder(), HEAD)
    judgement = await classifier.classify(messages, has_tools=False, want_embedding=True)
    found = judgement.classification
    assert _is_distribution(found.probabilities)
    assert math.isfinite(found.confidence)
    assert judgement.vector is None or np.isfinite(judgement.vector).all()


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
@example(["", "a", "why? " * 40, "\ud800" * 3_000, "字" * 5_000])
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_texts_of_any_kind_together_have_the_vectors_that_they_have_alone(texts: list[str]) -> None:
    async def embedded() -> np.ndarray[Any, np.dtype[np.float32]]:
        embedder = BatchedEmbedder(ThreadedEncoder(real_encoder(), workers=1), workers=1)
        try:
            return await embedder.embed(texts)
        finally:
            await embedder.close()

    together = asyncio.run(embedded())
    alone = np.concatenate([real_encoder().encode([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-5)
