"""What the messages around the last user turn say about it. Pure.

Promises: the last user turn decides; before it at most TURNS_BACK_MAX turns are looked at, and SYSTEM_CHARACTERS_MAX of
the system prompt. A system prompt that sets one task for whatever comes ("Extract the invoice number as JSON.") makes
the turn the material of that task.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.classifier.lexicon import CONTINUING, GREETING, TASK_WORDS
from services.classifier.turn import Turn, split_turn
from spillway.chat import ImagePart, Message, Role
from spillway.routing import TaskType

__all__ = ["Conversation", "judged_text", "read_conversation", "word_count"]

TURNS_BACK_MAX = 20
# A turn of so few words after a longer one means little by itself.
BARE_WORDS_MAX = 4
# ... or of so many, if its first words say that it goes on.
CONTINUING_WORDS_MAX = 12
# "Thanks!" ends a matter and asks for nothing.
GREETING_CHARACTERS_MAX = 120
SYSTEM_CHARACTERS_MAX = 2_000
SYSTEM_SENTENCES_MAX = 3
# What a standing task begins with stands within so many characters.
TASK_CHARACTERS_MAX = 48

# Kinds of work that are done to a given text.
_GIVEN_TEXT = (
    TaskType.TRANSLATION,
    TaskType.SUMMARIZATION,
    TaskType.EXTRACTION,
    TaskType.CLASSIFICATION,
    TaskType.REWRITING,
)
_SENTENCE_END = re.compile(r"[.!?:।]\s|[\n。！？：]")
# "Your task is to extract ..." says no more than "Extract ...".
_PREAMBLE = re.compile(
    r"(?:you (?:will |must |should |always |only )?(?:are to )?|your (?:only )?(?:task|job) is to |please |always |"
    r"deine aufgabe ist es,? |du |ta tâche est (?:de |d')|tu tarea es |a sua tarefa é |il tuo compito è |"
    r"你的任务是|请|твоя задача ?[-—–:]? )"
)
# What is done only now and then is no standing task.
_CONDITION = re.compile(r"(?<!\w)(?:when|if|unless|can|may|able|helpful|wenn|falls|kannst|si|quand|cuando|se)(?!\w)")
# Vowel signs belong to the word; without them Hindi would have thrice as many.
_WORD = re.compile(r"[\w\u0300-\u036f\u064b-\u0655\u0900-\u0963\u0966-\u0dff]+")
# About the size of one character of Chinese or Japanese, counted in English words.
CJK_WORDS_PER_CHARACTER = 0.6
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")


def word_count(text: str) -> int:
    """Words, or what stands for as much in a language that writes no spaces."""
    ideographs = len(_CJK.findall(text))
    return len(_WORD.findall(_CJK.sub(" ", text))) + round(CJK_WORDS_PER_CHARACTER * ideographs)


@dataclass(frozen=True, slots=True)
class Conversation:
    """`turn`: what to judge. `earlier`: the last turn before it that said something, None when there is none.

    `continues`: the turn goes on with it; `is_bare`: in a few words. `standing_task`: what the system prompt makes of
    every turn. `answered_with_code`: the last answer holds a code block.
    """

    turn: Turn
    earlier: Turn | None = None
    continues: bool = False
    is_bare: bool = False
    standing_task: TaskType | None = None
    has_pictures: bool = False
    answered_with_code: bool = False


def _composed(turn: Turn) -> Turn:
    """Letters and their accents as one character, as the lexicon writes them."""
    return replace(turn, question=unicodedata.normalize("NFC", turn.question))


def _user_turns(messages: Sequence[Message]) -> list[Message]:
    """The last user turns, latest first."""
    turns: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            turns.append(message)
            if len(turns) > TURNS_BACK_MAX:
                break
    return turns


def _earlier(turns: Sequence[Message]) -> Turn | None:
    for message in turns[1:]:
        turn = split_turn(message.text)
        if word_count(turn.question) > BARE_WORDS_MAX:
            return _composed(turn)
    return None


def _standing_task(messages: Sequence[Message]) -> tuple[TaskType, str] | None:
    """The task that the system prompt sets for whatever comes, and the sentence that does."""
    system = next((message.text for message in messages if message.role is Role.SYSTEM), "")[:SYSTEM_CHARACTERS_MAX]
    sentences = [part.strip() for part in _SENTENCE_END.split(unicodedata.normalize("NFC", system)) if part.strip()]
    for sentence in sentences[:SYSTEM_SENTENCES_MAX]:
        lowered = sentence.lower()
        preamble = _PREAMBLE.match(lowered)
        begins = preamble.end() if preamble else 0
        if _CONDITION.search(lowered):
            continue
        for kind in _GIVEN_TEXT:
            # In the first word, in languages that put the verb first; a little later in those that put it last.
            found = TASK_WORDS[kind].search(lowered, begins, begins + TASK_CHARACTERS_MAX)
            if found and (found.start() == begins or not lowered.isascii()):
                return kind, sentence
    return None


def read_conversation(messages: Sequence[Message]) -> Conversation:
    """Any messages are accepted; none are read like one empty turn."""
    turns = _user_turns(messages)
    text = turns[0].text if turns else ""
    turn = _composed(split_turn(text))
    pictures = bool(turns) and any(isinstance(part, ImagePart) for part in turns[0].parts)
    standing = _standing_task(messages)
    if standing is not None and text.strip():
        kind, sentence = standing
        material = Turn(sentence, text, len(text), has_code_block=False)
        return Conversation(material, standing_task=kind, has_pictures=pictures)
    earlier = _earlier(turns)
    question = turn.question.lower().strip()
    words = word_count(question)
    ends = len(question) <= GREETING_CHARACTERS_MAX and GREETING.fullmatch(question) is not None
    is_bare = words <= BARE_WORDS_MAX
    goes_on = is_bare or (words <= CONTINUING_WORDS_MAX and CONTINUING.match(question) is not None)
    answer = next((message.text for message in reversed(messages) if message.role is Role.ASSISTANT), "")
    return Conversation(
        turn,
        earlier=earlier,
        continues=earlier is not None and goes_on and not ends,
        is_bare=is_bare,
        has_pictures=pictures,
        answered_with_code="```" in answer,
    )


def judged_text(messages: Sequence[Message]) -> str:
    """What a trained head judges, and is trained on: the last user turn, whole; one that goes on with an earlier turn
    after the question of that, for "and why?" alone says nothing of what an answer takes. Empty without a user turn.
    """
    text = next((message.text for message in reversed(messages) if message.role is Role.USER), "")
    if not text.strip():
        return ""
    found = read_conversation(messages)
    return f"{found.earlier.question}\n{text}" if found.continues and found.earlier is not None else text
