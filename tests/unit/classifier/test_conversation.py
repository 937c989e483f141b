"""The last turn decides; what was said before it and the system prompt inform."""

from __future__ import annotations

import pytest

from services.classifier.conversation import TURNS_BACK_MAX, judged_text, read_conversation, word_count
from services.classifier.heuristics import HeuristicJudgement, judge
from spillway.chat import Message, Role
from spillway.routing import TaskType
from tests.unit.classifier.words import kind

CODE = "Write a JavaScript function that merges two sorted arrays and removes duplicates."
PROOF = "Prove that every bounded sequence of real numbers has a convergent subsequence, and analyse where it fails."
ANSWER = Message.of(Role.ASSISTANT, "Here it is.\n```js\nconst merge = (a, b) => [...new Set([...a, ...b])]\n```")
INVOICE = "Acme Ltd, 14 March, 12 boxes of nails, 48.20 EUR, payable in thirty days to the account below."


def user(text: str) -> Message:
    return Message.of(Role.USER, text)


def system(text: str) -> Message:
    return Message.of(Role.SYSTEM, text)


def of(*messages: Message) -> HeuristicJudgement:
    return judge(messages, has_tools=False)


def names(judgement: HeuristicJudgement) -> set[str]:
    return {signal.name for signal in judgement.signals}


@pytest.mark.parametrize(
    "text",
    [
        "why?",
        "and in Go?",
        "shorter",
        "und warum?",
        "what about inputs that are empty on both sides?",
        "now the same but without any copies at all",
        "et maintenant la même chose sans copier les deux listes",
    ],
)
def test_a_turn_that_goes_on_with_code_is_about_code(text: str) -> None:
    judgement = of(user(CODE), ANSWER, user(text))
    assert kind(judgement) is TaskType.CODE
    assert "follow_up" in names(judgement)


def test_a_complaint_about_code_that_names_none_is_about_code() -> None:
    assert kind(of(user("It prints three instead of four"))) is not TaskType.CODE
    assert kind(of(user(CODE), ANSWER, user("It prints three instead of four"))) is TaskType.CODE


def test_a_turn_that_goes_on_with_hard_work_is_harder_than_alone() -> None:
    for text in ("why?", "and for unbounded ones?", "continue", "por qué?", "为什么？"):
        alone, after = of(user(text)), of(user(PROOF), Message.of(Role.ASSISTANT, "Proof."), user(text))
        assert after.score > alone.score
        assert after.score < of(user(PROOF)).score


@pytest.mark.parametrize("text", ["Thanks a lot!", "ok great", "merci beaucoup !", "谢谢你", "спасибо"])
def test_thanks_after_hard_work_are_simple_chitchat(text: str) -> None:
    judgement = of(user(PROOF), Message.of(Role.ASSISTANT, "Proof."), user(text))
    assert judgement.probabilities[0] > 0.9
    assert kind(judgement) is TaskType.CHITCHAT
    assert "follow_up" not in names(judgement)


def test_a_new_question_after_hard_work_is_judged_by_itself() -> None:
    text = "What is the capital of Uruguay?"
    alone, after = of(user(text)), of(user(PROOF), Message.of(Role.ASSISTANT, "Proof."), user(text))
    assert after.probabilities == alone.probabilities
    assert kind(after) is TaskType.FACTUAL_QA


def test_hard_work_after_small_talk_is_judged_by_itself() -> None:
    alone, after = of(user(PROOF)), of(user("hi, how are you?"), Message.of(Role.ASSISTANT, "Fine!"), user(PROOF))
    assert after.probabilities == alone.probabilities


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Extract vendor, date and total from the user's message. Answer with JSON only.", TaskType.EXTRACTION),
        ("You will extract every amount as JSON.", TaskType.EXTRACTION),
        ("Your task is to classify the message as invoice, reminder or other.", TaskType.CLASSIFICATION),
        ("Translate whatever the user writes into French.", TaskType.TRANSLATION),
        ("You are an accountant's assistant. Summarize each document in one sentence.", TaskType.SUMMARIZATION),
        ("Übersetze alles, was der Nutzer schreibt, ins Englische.", TaskType.TRANSLATION),
        ("请把用户的话翻译成英文。", TaskType.TRANSLATION),
        ("Extrais le montant et la date en JSON.", TaskType.EXTRACTION),
    ],
)
def test_a_system_prompt_that_sets_one_task_makes_the_turn_its_material(prompt: str, expected: TaskType) -> None:
    judgement = of(system(prompt), user(INVOICE))
    assert kind(judgement) is expected
    assert {"standing_task", "material_set_aside"} <= names(judgement)


def test_hard_words_in_the_material_of_a_standing_task_do_not_count() -> None:
    judgement = of(system("Translate the user's text into Italian."), user(PROOF))
    assert kind(judgement) is TaskType.TRANSLATION
    assert max(judgement.probabilities) == judgement.probabilities[0]


@pytest.mark.parametrize(
    "prompt",
    [
        "You are a helpful assistant.",
        "You are a helpful assistant that can translate, summarize and extract.",
        "Summarize when asked to. Be kind.",
        "You are a tutor of mathematics. Never give the solution away. Answer in the user's language.",
        "",
    ],
)
def test_a_system_prompt_that_sets_no_task_leaves_the_turn_as_it_is(prompt: str) -> None:
    assert of(system(prompt), user(PROOF)).probabilities == of(user(PROOF)).probabilities


@pytest.mark.parametrize("text", ["🙂", "👍👍👍", "...", "???", "🎉 🎉"])
def test_signs_alone_are_simple(text: str) -> None:
    judgement = of(user(text))
    assert max(judgement.probabilities) == judgement.probabilities[0]
    assert kind(judgement) is TaskType.CHITCHAT


def test_emoji_beside_words_change_little() -> None:
    assert of(user("Who wrote Hamlet? 🎭🎭🎭")).score == pytest.approx(of(user("Who wrote Hamlet?")).score, abs=0.3)


@pytest.mark.parametrize("text", ["photosynthesis", "Integral", "héllo", "翻译", "why"])
def test_one_word_is_not_complex(text: str) -> None:
    judgement = of(user(text))
    assert max(judgement.probabilities) != judgement.probabilities[2]


@pytest.mark.parametrize("filler", ["lorem ipsum dolor ", "字", "🙂", "def f(x): return x\n", "? ", "и ", "\0"])
def test_a_hundred_thousand_characters_are_judged(filler: str) -> None:
    text = (filler * 100_000)[:100_000]
    assert sum(of(user(text)).probabilities) == pytest.approx(1.0)
    asked = of(user(text + "\n\nWho is the author?"))
    assert max(asked.probabilities) != asked.probabilities[2]


def test_turns_far_back_are_not_read() -> None:
    messages = [user(PROOF), *[user("why?")] * (TURNS_BACK_MAX + 1)]
    assert read_conversation(messages).earlier is None
    assert read_conversation(messages[:3]).earlier is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three", 3),
        ("", 0),
        ("🙂 !", 0),
        ("यह किताब मेरी है", 4),
        ("e\u0301cole", 1),
        ("今天天气很好", 4),
        ("東京に行く", 3),
    ],
)
def test_words_are_counted_alike_in_scripts_with_and_without_spaces(text: str, words: int) -> None:
    assert word_count(text) == words


def test_what_was_said_before_is_in_no_evidence() -> None:
    judgement = of(system("Extract zanzibar-1 as JSON."), user("zanzibar-2 " + CODE), ANSWER, user("zanzibar-3"))
    assert not any("zanzibar" in signal.evidence for signal in judgement.signals)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([user(PROOF)], PROOF),
        ([user(PROOF), ANSWER, user("And why?")], f"{PROOF}\nAnd why?"),
        ([user(PROOF), ANSWER, user("why?"), ANSWER, user("and in short?")], f"{PROOF}\nand in short?"),
        ([user(PROOF), ANSWER, user("Thanks!")], "Thanks!"),
        ([user(PROOF), ANSWER, user(INVOICE)], INVOICE),
        ([user(PROOF), ANSWER, user("  ")], ""),
        ([ANSWER], ""),
        ([], ""),
    ],
)
def test_a_trained_head_reads_a_turn_that_goes_on_after_what_it_goes_on_with(
    messages: list[Message], text: str
) -> None:
    assert judged_text(messages) == text
