"""The language of the last user turn, in every layer's answer."""

from __future__ import annotations

import pytest

from services.classifier.head import HeadJudgement
from services.classifier.heuristics import judge
from services.classifier.prompt_language import turn_language
from services.classifier.small_llm import Opinion
from services.classifier.turn import split_turn
from services.classifier.verdicts import by_embedding, by_heuristics, by_small_llm
from spillway.chat import Message, Role
from spillway.routing import Complexity, TaskType

REPORT = "Der Zug fährt um neun ab, und man sollte ein wenig früher am Bahnhof sein. " * 4


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Wie komme ich von hier in die Stadt und zurück?", "de"),
        ("¿Cuál es la capital de Francia y por qué?", "es"),
        ("请把下面的句子翻译成英文", "zh"),
        ("この記事を三行で要約してください", "ja"),
        ("لخص هذا المقال في ثلاث جمل", "ar"),
        ("इस लेख का सारांश लिखिए", "hi"),
        ("این مقاله را در سه جمله خلاصه کنید", ""),
        ("Paris", ""),
        ("2 + 2", ""),
        ("", ""),
        (f"What is this about, and who wrote it?\n\n{REPORT}", "en"),
        (f"TL;DR:\n\n{REPORT}", "de"),
    ],
)
def test_what_is_asked_tells_the_language_before_what_is_pasted(text: str, language: str) -> None:
    assert turn_language(split_turn(text)) == language


def test_every_layer_says_the_language_of_the_last_turn() -> None:
    messages = [
        Message.of(Role.USER, "What is the capital of France?"),
        Message.of(Role.ASSISTANT, "Paris."),
        Message.of(Role.USER, "Und wie komme ich von hier in die Stadt?"),
    ]
    words = judge(messages, has_tools=False)
    verdict = by_heuristics(words, "alone")
    assert verdict.classification.language == "de"
    opinion = Opinion(Complexity.SIMPLE, TaskType.FACTUAL_QA, 0.9)
    assert by_small_llm(verdict, opinion).classification.language == "de"


def test_the_embedding_layer_says_it_too() -> None:
    words = judge([Message.of(Role.USER, "Und wie komme ich von hier in die Stadt?")], has_tools=False)
    learned = HeadJudgement((0.8, 0.1, 0.1), (1.0, *[0.0] * (len(TaskType) - 1)), 0.1, 0.9)
    assert by_embedding(words, learned, "head-1").classification.language == "de"
