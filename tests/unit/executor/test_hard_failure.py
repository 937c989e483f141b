"""What is no answer at all, and what only looks like it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.executor.gates import hard_failure
from spillway.chat import FinishReason, Message, Role, ToolCall
from spillway.routing import TaskType, Verdict
from tests.unit.executor.builders import answer, chat

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
    "I can't help with that request.",
    "I'm really sorry, but I can't help you with this.",
    "I apologize, but I am not able to assist with creating that kind of material.",
    "Unfortunately, I won't be able to help with this.",
    "I'm not able to provide medical dosages for that.",
    "I can't create that image.",
    "I won't write that.",
    "I cannot fulfill this request.",
    "I can’t comply with that.",
    "I'm sorry, I can't answer that.",
    "I'm afraid I can't help with that.",
    "I'm afraid I cannot do that.",
    "I am unable to provide assistance with this.",
    "Sorry, but that's not something I can help with.",
    "I cannot and will not help with this.",
    "I can't in good conscience help with that.",
    "My apologies, but I cannot assist with this.",
    "I don't feel comfortable writing that.",
    "I'm not comfortable helping with this.",
    "This request violates my guidelines, so I can't help.",
    "No, I can't help with that.",
    "Thanks for asking, but I can't help with that.",
    "Es tut mir leid, dabei kann ich nicht helfen.",
    "Ich kann dir dabei leider nicht helfen.",
    "Das kann ich leider nicht beantworten.",
    "Je regrette, mais je ne peux pas vous fournir ces informations.",
    "Je ne peux pas vous aider.",
    "Lamentablemente no puedo proporcionar esa información.",
    "No puedo ayudarte con esto.",
    "Non posso aiutarti.",
    "Mi spiace, ma non posso fornire queste informazioni.",
    "Não posso fornecer essas informações.",
    "Infelizmente, não consigo ajudar com isso.",
    "Helaas kan ik je hier niet mee helpen.",
    "Niestety nie mogę pomóc w tej sprawie.",
    "Я не могу помочь с этим.",
    "抱歉，我无法回答这个问题。",
    "我无法提供该信息。",
    "すみませんが、お手伝いできません。",
    "죄송합니다. 해당 요청을 도와드릴 수 없습니다.",
    "Maalesef bu isteği yerine getiremem.",
    "Tyvärr kan jag inte hjälpa till med det.",
    "Jag kan inte hjälpa dig med det.",
    "Beklager, men jeg kan ikke hjelpe med det.",
    "Beklager, men det kan jeg ikke hjælpe med.",
    "Valitettavasti en voi auttaa tässä.",
    "Omlouvám se, ale s tím vám nemohu pomoci.",
    "Rất tiếc, tôi không thể giúp bạn việc này.",
    "Maaf, saya tidak dapat membantu permintaan itu.",
    "माफ़ कीजिए, मैं इसमें आपकी मदद नहीं कर सकता।",
    "מצטער, אני לא יכול לעזור בזה.",
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
    "I can't help but smile when the morning comes.",
    "I can't help falling in love with you.",
    "I cannot help thinking that the second draft is stronger.",
    "I can't help it, said the fox; it is my nature.",
    "I can't share your optimism, but the numbers support a cautious yes: revenue grew 4 %.",
    "I can't write without coffee, so I get up early. (A diary entry.)",
    "I won't create any suspense: the answer is 42.",
    "I can't answer this with certainty, but the most likely year is 1912.",
    "I can't provide an exact figure, but it is about 3,000 km.",
    "I cannot give you a single answer, because it depends on n: for even n it is 0, for odd n it is 1.",
    "I'm sorry for your loss. Here is a short text for the card: ...",
    "I'm sorry, Dave. I'm afraid I can't do that. These are HAL's words in 2001.",
    "\"I'm sorry, but I can't help you,\" the clerk said, and closed the window.",
    "'Es tut mir leid, aber ich kann dir nicht helfen' heißt auf Englisch: I'm sorry, but I can't help you.",
    "German: Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Translation:\nJe suis désolé, mais je ne peux pas vous aider.",
    "The assistant refused: I'm sorry, but I can't assist with that.",
    "```python\nprint(\"I'm sorry, but I can't help with that.\")\n```",
    '{"reply": "I\'m sorry, I can\'t help with that."}',
    "Label: refusal. The message says it cannot help.",
    "I am unable to find a counterexample, so the claim is probably true.",
    "I'm unable to swim, wrote the boy.",
    "Unfortunately, I can't tell from the log which process failed; check line 40.",
    "I can't complete the square here without dividing by 2 first: x^2 + 4x = (x+2)^2 - 4.",
    "I won't discuss the proof in full; the key step is Hölder's inequality, which gives the bound.",
    "I do not support that view. The evidence says otherwise: ...",
    "I must decline the noun first: der Mann, des Mannes, dem Mann, den Mann.",
    "I have to decline 'puella': puella, puellae, puellae, puellam, puella.",
    "Unfortunately I will not be at the office on Monday. Best regards, Ann",
    "Ich kann nicht mehr, sagte sie.",
    "Leider kann ich am Montag nicht kommen, kann dir aber am Dienstag helfen.",
    "Je ne peux pas venir demain.",
    "Je ne peux pas créer de fichier : erreur de droits. Utilisez sudo.",
    "No puedo crear el archivo significa 'I cannot create the file'.",
    "Non posso scrivere: la penna è vuota. (frase di esempio)",
    "すみません、駅はどこですか。は Excuse me, where is the station? です。",
    "죄송합니다 is the formal way to say sorry.",
    "对不起的英文是 sorry。",
    "К сожалению, завтра дождь.",
    "Я не могу спать по ночам — так начинается стихотворение.",
    "Sorry! Your package cannot be delivered: wrong address. (The customer's e-mail, shortened.)",
    "As an AI, I don't have feelings, but here is a poem about joy:\nMorning light...",
    "As an AI language model I do not have personal opinions, but the main arguments are these: ...",
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


@pytest.mark.parametrize("text", ["[Escalate]", "`[ESCALATE]`", '"[ESCALATE]".', " [ ESCALATE ] "])
def test_the_way_out_is_understood_however_it_is_dressed(text: str) -> None:
    assert hard_failure.check(answer(text)).reason == "the model asked to escalate"
    assert hard_failure.without_mark(text) == ""


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Too hard for me.\n[ESCALATE]", "Too hard for me."),
        ("[ESCALATE]\nPerhaps 42.", "Perhaps 42."),
        ("Perhaps 42. **[ESCALATE]**", "Perhaps 42."),
        ("Write [ESCALATE] when you are stuck.", "Write [ESCALATE] when you are stuck."),
    ],
)
def test_the_mark_can_be_taken_out(text: str, rest: str) -> None:
    assert hard_failure.without_mark(text) == rest


@pytest.mark.parametrize("task_type", [TaskType.TRANSLATION, TaskType.REWRITING])
def test_a_translated_refusal_is_what_was_asked_for(task_type: TaskType) -> None:
    said = answer("Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.")
    request = chat("Translate into German: I'm sorry, but I can't help you with that.")
    assert hard_failure.check(said, request, task_type).verdict is Verdict.PASS
    assert hard_failure.check(said, request, TaskType.FACTUAL_QA).verdict is Verdict.FAIL
    assert hard_failure.check(said, chat("Translate into German: How are you?"), task_type).verdict is Verdict.FAIL


def test_text_about_the_marker_is_an_answer() -> None:
    assert hard_failure.check(answer("Write [ESCALATE] when you are stuck.")).verdict is Verdict.PASS


def test_a_refusal_that_the_provider_marks_fails() -> None:
    assert hard_failure.check(replace(answer("No."), refused=True)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "piece", ["\n", "```\n", "> ", "[ESCALATE", "sorry, ", "désolé, ", "es tut mir leid ", "i know, but ", "thanks, "]
)
def test_long_runs_take_no_time(piece: str) -> None:
    hard_failure.check(answer(piece * 100_000 + "x"))
    hard_failure.check(answer((piece * 100_000)[:1_000] + "x"))
