"""What the words alone say."""

from __future__ import annotations

import pytest

from services.classifier.heuristics import HeuristicJudgement, judge
from spillway.chat import ImagePart, Message, Role, TextPart
from spillway.routing import Signal, TaskType
from tests.unit.classifier.words import kind, of

HARD = (
    "Design a consensus protocol that survives the loss of two regions, prove that it is safe, analyse its behaviour "
    "under clock skew, and compare it with Raft; justify every trade-off and quantify the cost."
)


def named(judgement: HeuristicJudgement, name: str) -> Signal:
    return next(signal for signal in judgement.signals if signal.name == name)


@pytest.mark.parametrize(
    "text", ["hi", "Thanks a lot!", "ok great", "Hello there, how are you?", "你好", "¡Hola! ¿qué tal?"]
)
def test_a_greeting_is_surely_simple_chitchat(text: str) -> None:
    judgement = of(text)
    assert judgement.probabilities[0] > 0.9
    assert kind(judgement) is TaskType.CHITCHAT


@pytest.mark.parametrize("text", ["What is 17 + 26?", "15% of 80?", "12*12", "Was ist 100 geteilt durch 8?"])
def test_one_operation_on_two_numbers_is_surely_simple_mathematics(text: str) -> None:
    judgement = of(text)
    assert judgement.probabilities[0] > 0.9
    assert kind(judgement) is TaskType.MATH


def test_work_in_several_demanding_steps_is_complex() -> None:
    judgement = of(HARD)
    assert judgement.probabilities[2] > 0.8
    assert "deep_work_words" in {signal.name for signal in judgement.signals[:3]}


@pytest.mark.parametrize("characters", [2_000, 15_000, 200_000])
def test_a_long_pasted_context_with_a_simple_question_is_still_simple(characters: int) -> None:
    material = "We analyse the causal mechanism, prove the theorem and compare all strategies under the protocol. "
    pasted = (material * (characters // len(material) + 1))[:characters]
    judgement = of(f"{pasted}\n\nWhat is the author's name?")
    assert max(judgement.probabilities) == judgement.probabilities[0]
    assert named(judgement, "material_set_aside").contribution == 0.0


def test_a_repeated_keyword_counts_once() -> None:
    assert of("please prove it " * 50).score <= of("please prove it").score + 2.0
    assert named(of("prove prove prove prove"), "deep_work_words").value == 0.5


def test_easy_words_lower_the_score_and_their_negation_raises_it() -> None:
    plain = of("Explain how a heat pump warms a house").score
    assert of("Just briefly explain how a heat pump warms a house").score < plain
    negated = of("Not just briefly explain how a heat pump warms a house")
    assert named(negated, "hard_words").contribution > 0
    assert "just" not in "".join(signal.evidence for signal in negated.signals if signal.name == "easy_words")


def test_the_last_user_turn_decides() -> None:
    messages = (
        Message.of(Role.USER, HARD),
        Message.of(Role.ASSISTANT, "Here is the design. " * 100),
        Message.of(Role.USER, "thanks!"),
    )
    assert judge(messages, has_tools=False).probabilities[0] > 0.9


def test_a_follow_up_of_few_words_takes_over_some_of_the_turn_before() -> None:
    alone = of("and why?")
    after = judge(
        (Message.of(Role.USER, HARD), Message.of(Role.ASSISTANT, "So."), Message.of(Role.USER, "and why?")),
        has_tools=False,
    )
    assert after.score > alone.score
    assert named(after, "follow_up").contribution > 0


def test_pictures_and_tools_raise_the_score_a_little() -> None:
    text = Message.of(Role.USER, "What is on this?")
    picture = Message(Role.USER, (TextPart("What is on this?"), ImagePart(url="https://example.org/a.png")))
    assert judge((picture,), has_tools=False).score > judge((text,), has_tools=False).score
    assert judge((text,), has_tools=True).score > judge((text,), has_tools=False).score


def test_other_languages_are_judged_with_less_confidence() -> None:
    foreign = of("Explica por qué la inflación sube cuando el banco central baja los tipos de interés para los hogares")
    assert "other_language" in {signal.name for signal in foreign.signals}
    english = of("Explain why inflation rises when the central bank lowers the interest rates for the households there")
    assert foreign.confidence < max(english.confidence, 0.6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Summarize the text: " + "The bridge was closed again. " * 5, TaskType.SUMMARIZATION),
        ("把这句话翻译成英文：今天天气很好。", TaskType.TRANSLATION),
        ("Write a Python function that reverses a list", TaskType.CODE),
        ("Rewrite this so that it sounds polite: send me the file now, I am waiting", TaskType.REWRITING),
        ("Is this review positive or negative? 'Loved it'", TaskType.CLASSIFICATION),
        ("Write a haiku about coffee", TaskType.CREATIVE),
        ("Remind me to call mum at six", TaskType.OTHER),
        ("Who wrote Don Quixote?", TaskType.FACTUAL_QA),
        ("Extract all email addresses from this text", TaskType.EXTRACTION),
    ],
)
def test_the_kind_of_work_is_read_from_what_is_asked(text: str, expected: TaskType) -> None:
    assert kind(of(text)) is expected


def test_evidence_holds_no_more_of_the_prompt_than_the_keyword() -> None:
    secret = "zanzibar-4711"
    judgement = of(f"Compare {secret} with {secret}2, without haste, and prove that {secret} must win")
    assert judgement.signals
    assert not any("zanzibar" in signal.evidence for signal in judgement.signals)


def test_no_messages_and_empty_turns_are_judged() -> None:
    for messages in ((), (Message.of(Role.USER, ""),), (Message.of(Role.SYSTEM, "be brief"),)):
        assert sum(judge(messages, has_tools=False).probabilities) == pytest.approx(1.0)


def test_signals_come_strongest_first() -> None:
    sizes = [abs(signal.contribution) for signal in of(HARD).signals]
    assert sizes == sorted(sizes, reverse=True)
