"""Any text, any length, any conversation: an answer with probabilities, never a crash."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.classifier.complexity import Classifier
from services.classifier.embedder import HashEmbedder
from services.classifier.encoder import CHARACTERS_MAX, cut_text
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
@settings(max_examples=150)
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
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_length_is_judged(text: str) -> None:
    judgement = judge((Message.of(Role.USER, text),), has_tools=False)
    assert _is_distribution(judgement.probabilities)
    assert _is_distribution(judgement.task_probabilities)
    assert len(judgement.task_probabilities) == len(TASK_TYPES)
    turn = split_turn(text)
    assert turn.context_characters >= len(turn.context) or turn.context == ""


@given(ANY_TEXT | LONG_TEXT)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_text_has_a_finite_unit_vector(text: str) -> None:
    assert len(cut_text(text)) <= CHARACTERS_MAX
    (vector,) = real_encoder().encode([text])
    assert math.isclose(float((vector * vector).sum()), 1.0, abs_tol=1e-3)
