"""How hard a conversation looks by its words alone: weighted signals, each with its evidence. Pure.

Promises: no count decides on its own - every signal saturates, and pasted material is set aside, so that a long text
with a simple question stays simple. The last user turn decides, the rest informs. Evidence names the matched keyword,
never more of the prompt. Probabilities are those of an ordered logistic model: P(simple) = s((t1 - score) / w),
P(complex) = s((score - t2) / w), and medium is the rest; w widens where the words say little.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.classifier import lexicon
from services.classifier.conversation import Conversation, read_conversation, word_count
from services.classifier.prompt_language import turn_language
from services.classifier.turn import Turn
from spillway.chat import Message
from spillway.routing import Signal, TaskType

__all__ = ["HEURISTICS_VERSION", "TASK_TYPES", "HeuristicJudgement", "judge"]

HEURISTICS_VERSION = "heuristics-2"
TASK_TYPES = tuple(TaskType)

# The thresholds and width of the ordered logistic model, in units of the score.
SIMPLE_BELOW = -0.45
COMPLEX_ABOVE = 0.60
WIDTH = 0.42
# Words of another language are only partly in the lexicon: what was not found says less, what was found says as much.
WIDTH_FOREIGN = 0.75
WIDTH_FOREIGN_WITH_WORDS = 0.58
# The score of a turn with no signal at all.
BASE_SCORE = -0.35

# What each signal adds to the score at value 1.
WEIGHTS = {
    "greeting": -3.2,
    "no_words": -1.4,
    "plain_arithmetic": -2.4,
    "direct_question": -1.1,
    "brief_question": -0.9,
    "easy_words": -0.55,
    "worded_length": 1.5,
    "deep_work_words": 1.5,
    "expert_words": 0.9,
    "hard_words": 0.6,
    "constraints": 0.7,
    "several_parts": 0.7,
    "code_forms": 0.45,
    "mathematics": 0.45,
    "numbers_in_prose": 0.3,
    "long_material": 0.25,
    "images": 0.4,
    "tools_offered": 0.1,
    "follow_up": 1.0,
    "other_language": 0.0,
    "material_set_aside": 0.0,
    "standing_task": 0.0,
}
# A single keyword gives 0.5 of a signal, two 0.75: 1 - 0.5 ** n.
KEYWORD_HALVING = 0.5
KEYWORDS_SHOWN_MAX = 3
KEYWORD_MATCHES_MAX = 64
# Beyond this a question has said what it wants; it bounds the work.
KEYWORD_SCAN_CHARACTERS = 8_000
GREETING_CHARACTERS_MAX = 120
ARITHMETIC_CHARACTERS_MAX = 80
DIRECT_QUESTION_WORDS_MAX = 14
BRIEF_QUESTION_WORDS = 13
# The number of words at which "worded_length" is one half.
WORDED_LENGTH_WORDS = 55
# What a turn that goes on takes over of the score of the one before, in a few words and in some more.
FOLLOW_UP_SHARE_BARE = 0.5
FOLLOW_UP_SHARE = 0.25
LONG_MATERIAL_CHARACTERS = 20_000
FOREIGN_SHARE_MIN = 0.12
NON_LATIN_SHARE_MIN = 0.2

# Task types: keywords anywhere, keywords at the start (the first words say what is to be done, the later ones with
# what), and the form of the question.
TASK_KEYWORD_WEIGHT = 3.2
TASK_OPENING_CHARACTERS = 40
TASK_OPENING_WEIGHT = 1.2
# A turn whose own best score is below this does not say what kind of work it is; then what was before it says more.
TASK_TOLD_MIN = 1.0
TASK_INHERITED_CONTINUING = 0.6
TASK_INHERITED_UNTOLD = 0.5
TASK_INHERITED_CODE = 1.0
TASK_STANDING = 3.0
# Where nothing is said at all, the kind is open.
TASK_OPEN_OTHER = 0.05
TASK_OPEN_QUESTION = 0.3
TASK_SHAPE_WEIGHTS = (
    ("code_forms", TaskType.CODE, 2.0),
    ("mathematics", TaskType.MATH, 1.5),
    ("numbers_in_prose", TaskType.MATH, 1.0),
    ("plain_arithmetic", TaskType.MATH, 6.0),
    ("greeting", TaskType.CHITCHAT, 6.0),
    ("no_words", TaskType.CHITCHAT, 1.5),
    ("direct_question", TaskType.FACTUAL_QA, 0.8),
)

_NUMBER = re.compile(r"(?<![\w.])\d[\d.,]{0,20}")
_PART = re.compile(r"[;?？;]|\d\) |(?:^|\n)\s{0,8}(?:[-*•]|\d{1,2}[.)]) |\b(?:then|also|and then|finally|as well as)\b")


@dataclass(frozen=True, slots=True)
class HeuristicJudgement:
    """What the words say. `probabilities`: simple, medium, complex; `task_probabilities` in the order of TASK_TYPES.

    `language` is that of the last user turn, ISO 639-1, empty when it cannot be told.
    """

    probabilities: tuple[float, float, float]
    task_probabilities: tuple[float, ...]
    signals: tuple[Signal, ...]
    score: float
    language: str = ""

    @property
    def confidence(self) -> float:
        """The probability of the most probable complexity."""
        return max(self.probabilities)

    @property
    def task_confidence(self) -> float:
        """The probability of the most probable task type."""
        return max(self.task_probabilities)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, value))))


def _signal(name: str, value: float, evidence: str) -> Signal:
    return Signal(name=name, value=value, contribution=WEIGHTS[name] * value, evidence=evidence)


def _keywords(pattern: re.Pattern[str], text: str) -> list[str]:
    """Distinct matches in order of appearance, at most KEYWORD_MATCHES_MAX."""
    found: dict[str, None] = {}
    for match in pattern.finditer(text):
        found[match.group()] = None
        if len(found) >= KEYWORD_MATCHES_MAX:
            break
    return list(found)


def _keyword_signal(name: str, found: Sequence[str]) -> Signal:
    shown = ", ".join(f'"{word.strip()}"' for word in found[:KEYWORDS_SHOWN_MAX])
    more = f" and {len(found) - KEYWORDS_SHOWN_MAX} more" if len(found) > KEYWORDS_SHOWN_MAX else ""
    return _signal(name, 1.0 - KEYWORD_HALVING ** len(found), shown + more)


def _is_foreign(text: str, words: int) -> bool:
    if not text.isascii():
        letters = sum(character.isalpha() for character in text)
        non_latin = sum(character.isalpha() and character > "\u024f" for character in text)
        if letters and non_latin / letters >= NON_LATIN_SHARE_MIN:
            return True
    return words > 0 and len(lexicon.FOREIGN.findall(text)) / words >= FOREIGN_SHARE_MIN


def _shape_signals(question: str, words: int) -> list[Signal]:
    """What the form of the question says, apart from its keywords."""
    signals: list[Signal] = []
    if not words:
        return [_signal("no_words", 1.0, "signs alone")] if question else []
    if len(question) <= GREETING_CHARACTERS_MAX and lexicon.GREETING.fullmatch(question):
        return [_signal("greeting", 1.0, "the whole turn is a greeting or thanks")]
    if len(question) <= ARITHMETIC_CHARACTERS_MAX and lexicon.PLAIN_ARITHMETIC.fullmatch(question):
        return [_signal("plain_arithmetic", 1.0, "two numbers and one operation")]
    if words <= DIRECT_QUESTION_WORDS_MAX and lexicon.DIRECT_QUESTION.match(question):
        signals.append(_signal("direct_question", 1.0, f"asks directly, in {words} words"))
    if words <= BRIEF_QUESTION_WORDS:
        signals.append(_signal("brief_question", 1.0 - words / (BRIEF_QUESTION_WORDS + 1), f"{words} words"))
    signals.append(_signal("worded_length", words / (words + WORDED_LENGTH_WORDS), f"{words} words of instruction"))
    parts = len(_PART.findall(question[:KEYWORD_SCAN_CHARACTERS]))
    if parts > 1:
        signals.append(_signal("several_parts", 1.0 - KEYWORD_HALVING ** (parts - 1), f"{parts} parts"))
    numbers = len(_NUMBER.findall(question[:KEYWORD_SCAN_CHARACTERS]))
    if numbers > 2 and words > 3 * numbers:
        signals.append(_signal("numbers_in_prose", 1.0 - KEYWORD_HALVING ** (numbers - 2), f"{numbers} numbers"))
    return signals


def _keyword_signals(question: str) -> list[Signal]:
    negated = _keywords(lexicon.NEGATED_EASY, question)
    easy = [word for word in _keywords(lexicon.EASY, question) if not any(word in phrase for phrase in negated)]
    candidates = (
        ("easy_words", easy),
        ("hard_words", [*_keywords(lexicon.HARD, question), *negated]),
        ("deep_work_words", _keywords(lexicon.DEEP_WORK, question)),
        ("expert_words", _keywords(lexicon.EXPERT, question)),
        ("constraints", _keywords(lexicon.CONSTRAINTS, question)),
    )
    signals = [_keyword_signal(name, found) for name, found in candidates if found]
    for name, pattern, evidence in (
        ("code_forms", lexicon.CODE_FORMS, "program text in the question"),
        ("mathematics", lexicon.MATH_FORMS, "formulas in the question"),
    ):
        count = len(_keywords(pattern, question))
        if count:
            signals.append(_signal(name, 1.0 - KEYWORD_HALVING**count, evidence))
    return signals


# Forms of a whole turn beside which keywords say nothing.
_DECIDING = frozenset({"greeting", "plain_arithmetic", "no_words"})
_KEYWORD_SIGNALS = frozenset({"easy_words", "hard_words", "deep_work_words", "expert_words", "constraints"})


def _turn_signals(turn: Turn) -> list[Signal]:
    question = turn.question.lower()[:KEYWORD_SCAN_CHARACTERS]
    words = word_count(question)
    signals = _shape_signals(question.strip(), words)
    if signals and signals[0].name in _DECIDING:
        return signals
    signals += _keyword_signals(question)
    if turn.has_code_block and not any(signal.name == "code_forms" for signal in signals):
        signals.append(_signal("code_forms", 1.0, "a code block"))
    if turn.context_characters:
        evidence = f"{turn.context_characters} characters of pasted material"
        signals.append(_signal("material_set_aside", 1.0, evidence))
        signals.append(_signal("long_material", min(1.0, turn.context_characters / LONG_MATERIAL_CHARACTERS), evidence))
    if _is_foreign(question, words):
        signals.append(_signal("other_language", 1.0, "not English; fewer keywords are known"))
    return signals


def _score(signals: Sequence[Signal]) -> float:
    return BASE_SCORE + sum(signal.contribution for signal in signals)


def _follow_up(conversation: Conversation, score: float) -> list[Signal]:
    """ "Why?" or "and in French?" asks for more of the last turn that said something: it takes over some score."""
    if not conversation.continues or conversation.earlier is None:
        return []
    share = FOLLOW_UP_SHARE_BARE if conversation.is_bare else FOLLOW_UP_SHARE
    inherited = max(-1.0, min(1.0, (_score(_turn_signals(conversation.earlier)) - score) * share))
    evidence = "goes on with the turn before" if not conversation.is_bare else "a few words after a longer turn"
    return [Signal(name="follow_up", value=abs(inherited), contribution=inherited, evidence=evidence)]


def _task_scores(turn: Turn, signals: Sequence[Signal]) -> dict[TaskType, float]:
    question = turn.question.lower()[:KEYWORD_SCAN_CHARACTERS]
    names = {signal.name for signal in signals}
    opening = question.lstrip()[:TASK_OPENING_CHARACTERS]
    scores: dict[TaskType, float] = {}
    for kind, pattern in lexicon.TASK_WORDS.items():
        scores[kind] = TASK_KEYWORD_WEIGHT * (1.0 - KEYWORD_HALVING ** len(_keywords(pattern, question)))
        if pattern.search(opening):
            scores[kind] += TASK_OPENING_WEIGHT
    for name, kind, weight in TASK_SHAPE_WEIGHTS:
        if name in names:
            scores[kind] += weight
    return scores


def _task_probabilities(conversation: Conversation, signals: Sequence[Signal]) -> tuple[float, ...]:
    scores = _task_scores(conversation.turn, signals)
    untold = max(scores.values()) < TASK_TOLD_MIN
    if conversation.standing_task is not None:
        scores[conversation.standing_task] += TASK_STANDING
    elif conversation.earlier is not None and (conversation.continues or untold):
        share = TASK_INHERITED_CONTINUING if conversation.continues else TASK_INHERITED_UNTOLD
        inherited = _task_scores(conversation.earlier, _turn_signals(conversation.earlier))
        for kind, score in inherited.items():
            scores[kind] += share * score
        scores[TaskType.CODE] += TASK_INHERITED_CODE if conversation.answered_with_code else 0.0
    elif untold:
        scores[TaskType.OTHER] += TASK_OPEN_OTHER
        if any(sign in conversation.turn.question for sign in "?？؟"):
            scores[TaskType.FACTUAL_QA] += TASK_OPEN_QUESTION
    exponents = [math.exp(scores[kind]) for kind in TASK_TYPES]
    total = sum(exponents)
    return tuple(value / total for value in exponents)


def judge(messages: Sequence[Message], *, has_tools: bool) -> HeuristicJudgement:
    """Judges a conversation; no messages at all are judged like an empty turn. Any text is accepted."""
    conversation = read_conversation(messages)
    signals = _turn_signals(conversation.turn)
    if conversation.standing_task is not None:
        evidence = f"the system prompt sets the task: {conversation.standing_task}"
        signals.append(_signal("standing_task", 1.0, evidence))
    signals += _follow_up(conversation, _score(signals))
    names = {signal.name for signal in signals}
    if conversation.has_pictures:
        signals.append(_signal("images", 1.0, "a picture"))
    if has_tools:
        signals.append(_signal("tools_offered", 1.0, "tools may be called"))
    score = _score(signals)
    width = WIDTH
    if "other_language" in names:
        width = WIDTH_FOREIGN_WITH_WORDS if names & _KEYWORD_SIGNALS else WIDTH_FOREIGN
    simple = _sigmoid((SIMPLE_BELOW - score) / width)
    complex_ = _sigmoid((score - COMPLEX_ABOVE) / width)
    return HeuristicJudgement(
        probabilities=(simple, max(0.0, 1.0 - simple - complex_), complex_),
        task_probabilities=_task_probabilities(conversation, signals),
        signals=tuple(sorted(signals, key=lambda signal: -abs(signal.contribution))),
        score=score,
        language=turn_language(conversation.turn),
    )
