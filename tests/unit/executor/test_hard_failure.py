"""What is no answer at all, and what only looks like it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.executor.gates import hard_failure
from spillway.chat import FinishReason, Message, Role, ToolCall
from spillway.routing import Verdict
from tests.unit.executor.builders import answer

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I cannot provide instructions for that.",
    "Sorry, I can't do that.",
    "As an AI language model, I cannot create such content.",
    "**I'm unable to help** with this.",
    "I must respectfully decline to take part in this.",
    "Es tut mir leid, aber ich kann dir dabei nicht helfen.",
    "Leider kann ich diese Anfrage nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider avec cette demande.",
    "Désolé, je ne peux pas répondre à cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Desculpe, mas não posso ajudar com isso.",
    "Het spijt me, maar ik kan je daar niet bij helpen.",
    "Przykro mi, ale nie mogę ci w tym pomóc.",
    "Извините, но я не могу помочь с этим запросом.",
    "К сожалению, я не могу вам помочь.",
    "На жаль, я не можу допомогти з цим.",
    "很抱歉,我无法提供这方面的帮助。",
    "对不起,我不能协助完成这个请求。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "عذراً، لكن لا أستطيع مساعدتك في ذلك.",
]
ANSWERS = [
    "The capital of France is Paris.",
    "A polite refusal reads: \"I'm sorry, but I can't help with that.\"",
    "\"I'm sorry, but I can't help with that\" is what assistants say when a request is against their rules.",
    "I'm sorry to hear that. Here are three things you could try.",
    "I can't find any mistake in your code; it is correct.",
    "I cannot recommend this film highly enough.",
    "Sorry for the confusion! The answer is 42.",
    "I'm sorry, but I can't attend your wedding. I wish you both every happiness.",
    "Ich kann nicht schwimmen heißt auf Englisch: I cannot swim.",
    "Lo siento significa 'I am sorry'.",
    "No puedo ir al cine hoy.",
    "抱歉在英语里是 sorry。",
    "I can't provide a single number, but here is the range. " + "It depends on the season and the place. " * 40,
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_recognised(text: str) -> None:
    assert hard_failure.check(answer(text)).verdict is Verdict.FAIL


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_mentions_or_resembles_a_refusal_is_none(text: str) -> None:
    assert hard_failure.check(answer(text)).verdict is Verdict.PASS


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_answer_fails(text: str) -> None:
    assert hard_failure.check(answer(text)).reason == "empty"


def test_a_tool_call_without_text_is_not_empty() -> None:
    given = answer("")
    called = replace(given, message=Message(Role.ASSISTANT, (), (ToolCall("1", "f", "{}"),)))
    assert hard_failure.check(called).verdict is Verdict.PASS


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
def test_an_answer_that_was_stopped_fails(reason: FinishReason) -> None:
    assert hard_failure.check(answer("Half of an", reason)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "text", ["[ESCALATE]", "Too hard for me.\n[ESCALATE]", "**[ESCALATE]**", "I am not sure. [ESCALATE]"]
)
def test_the_model_may_ask_to_escalate(text: str) -> None:
    assert hard_failure.check(answer(text)).verdict is Verdict.FAIL


def test_text_about_the_marker_is_an_answer() -> None:
    assert hard_failure.check(answer("Write [ESCALATE] when you are stuck.")).verdict is Verdict.PASS


def test_a_refusal_that_the_provider_marks_fails() -> None:
    assert hard_failure.check(replace(answer("No."), refused=True)).verdict is Verdict.FAIL


@pytest.mark.parametrize("piece", ["\n", "```\n", "> ", "[ESCALATE", "sorry, ", "désolé, ", "es tut mir leid "])
def test_long_runs_take_no_time(piece: str) -> None:
    hard_failure.check(answer(piece * 100_000 + "x"))
    hard_failure.check(answer((piece * 100_000)[:1_000] + "x"))
