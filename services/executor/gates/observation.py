"""Reads the signals of an answer without asking anybody.

Promises: pure; never raises on any text; bounded: at most `TEXT_CHARS_MAX` characters of the answer and of the question
are read, at most `OPINIONS_MAX` opinions compared; every pattern is linear. None means "not observed", never "no".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from services.executor.gates import canonical
from services.executor.gates.agreement import agree
from services.executor.gates.arithmetic import Sums, check_sums
from services.executor.gates.final_answer import final_answer, last_number
from services.executor.gates.signals import NAMES, Signals
from spillway.routing import Normalizer, TaskType

__all__ = ["OPINIONS_MAX", "TEXT_CHARS_MAX", "Observed", "compare", "observe", "with_opinions"]

TEXT_CHARS_MAX: Final = 12_000
OPINIONS_MAX: Final = 4
_HALF: Final = TEXT_CHARS_MAX // 2
_LINES_MAX: Final = 400
_SHORT_ANSWER_CHARS: Final = 200

_NUMBER: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_STEP: Final = re.compile(r"\\n|\n")
_HEDGE: Final = re.compile(
    r"\b(?:assum\w{0,6}|approximat\w{0,6}|probably|perhaps|maybe|might|possibly|seems?|likely|unclear|not sure|unsure|"
    r"i think|i believe|estimat\w{0,6}|guess\w{0,4}|ambiguous|not enough information|cannot be determined|"
    r"does(?:n't| not) (?:say|specify|mention)|without (?:more|further|additional))\b",
    re.IGNORECASE,
)
_CORRECTION: Final = re.compile(
    r"\b(?:wait|actually|however|mistake\w{0,2}|incorrect\w{0,2}|error|re-?check\w{0,3}|re-?evaluat\w{0,4}|"
    r"re-?consider\w{0,3}|apologi\w{0,4}|correction|let me (?:try|redo|fix|correct)|not (?:correct|possible)|"
    r"contradict\w{0,5}|but (?:this|that) is)\b",
    re.IGNORECASE,
)
_CHECK: Final = re.compile(r"\b(?:verif\w{0,8}|check\w{0,3}|confirm\w{0,3}|indeed)\b", re.IGNORECASE)
_RESULT: Final = re.compile(r"=\s{0,4}<{0,2}\s{0,4}[$€£]?\s?(-?\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,12})?)")
_SENTENCE: Final = re.compile(r"[.!?](?=\s|\Z)")
_PARTS: Final = re.compile(
    r"\b(?:half|third|quarter|twice|double|triple|times as|fraction|percent\w{0,3})\b|%", re.IGNORECASE
)
_RATES: Final = re.compile(r"\b(?:each|every|per)\b", re.IGNORECASE)
_COMPARISONS: Final = re.compile(r"\b(?:more|less|fewer|than|remaining|left|rest|after|before|if)\b", re.IGNORECASE)
_QUANTITIES: Final = re.compile(
    r"\b(?:average|total|altogether|difference|profit|ratio|speed|age|old|hours?|minutes?|days?|weeks?|months?|years?)\b",
    re.IGNORECASE,
)
_OPTIONS: Final = re.compile(r"^[ \t]{0,8}\(?[A-E][).:][ \t]", re.MULTILINE)
_CODE: Final = re.compile(
    r"```|\b(?:def|return|import|lambda|const|function|SELECT|assert|class)\b|==|!=|\[PYTHON\]|\{\s*$", re.MULTILINE
)
_TEX: Final = re.compile(r"\\[a-zA-Z]{2,}|\$[^$\n]{1,80}\$")
_LITERAL_START: Final = re.compile(r"[\[({'\"]|True|False|None|-?\d")


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of an answer. `opinions`: other cheap answers to the same question, strongest model first.

    `self_confidence` is 1 to 5; log-probabilities are natural logarithms.
    """

    question: str
    answer: str
    task_type: TaskType | None = None
    opinions: tuple[str, ...] = ()
    normalizer: Normalizer = Normalizer.AUTO
    self_confidence: int | None = None
    logprob_mean: float | None = None
    logprob_min: float | None = None
    is_cut: bool = False


def observe(observed: Observed) -> Signals:
    """The signals of an answer."""
    matrix = compare((observed.answer, *observed.opinions), observed.normalizer, observed.task_type)
    return with_opinions(_alone(observed), matrix)


def compare(
    answers: Sequence[str], normalizer: Normalizer, task_type: TaskType | None
) -> tuple[tuple[bool | None, ...], ...]:
    """Which of the answers say the same; the first is the one in question. None: cannot be compared."""
    texts = [_bounded(text) for text in answers[: OPINIONS_MAX + 1]]
    size = len(texts)
    found: list[list[bool | None]] = [[True] * size for _ in range(size)]
    for one in range(size):
        for other in range(one):
            found[one][other] = found[other][one] = agree(texts[one], texts[other], normalizer, task_type)
    return tuple(tuple(row) for row in found)


def with_opinions(alone: Signals, matrix: Sequence[Sequence[bool | None]]) -> Signals:
    """`alone` with the signals of agreement, from a comparison whose first row is the answer's."""
    opinions = len(matrix) - 1
    if opinions < 1:
        return alone
    row = [None if same is None else float(same) for same in matrix[0][1:]]
    row += [None] * (OPINIONS_MAX - opinions)
    against = [index for index in range(1, opinions + 1) if matrix[0][index] is not True]
    rivals = max((sum(matrix[one][other] is True for other in against) for one in against), default=0)
    values = dict(zip(NAMES, alone.values(), strict=True))
    values.update(
        agrees_first=row[0],
        agrees_second=row[1],
        agrees_third=row[2],
        agrees_fourth=row[3],
        agreeing_share=sum(same is True for same in matrix[0][1:]) / opinions,
        rivals_share=rivals / opinions if opinions > 1 else None,
    )
    return Signals(**values)


def _alone(observed: Observed) -> Signals:
    answer, question = _bounded(observed.answer), _bounded(observed.question)
    final = final_answer(answer)
    said = final if final is not None else last_number(answer)
    number = None if said is None else canonical.number(said)
    body = _reasoning(answer, final)
    sums = check_sums(body)
    words = max(1, answer.count(" "))
    asked = _NUMBER.findall(question)
    numbers = [n.replace(",", "") for n in _NUMBER.findall(body)]
    used = set(numbers)
    values = sorted({n.replace(",", "") for n in asked})
    value = None if number is None else _as_float(number.value)
    results = [float(found.replace(",", "")) for found in _RESULT.findall(answer)]
    lines = 1 + sum(1 for _ in _STEP.finditer(answer))
    sentences = max(1, sum(1 for _ in _SENTENCE.finditer(question)))
    question_words = max(1, question.count(" ") + 1)
    return Signals(
        has_final_answer=float(final is not None),
        has_expected_form=_expected_form(said, observed.task_type, question),
        is_whole_number=None if number is None else float(number.value.denominator == 1),
        is_negative=None if number is None else float(number.value < 0),
        log_answer_chars=None if said is None else _log(len(said)),
        log_magnitude=None if value is None else _log(abs(value)),
        recurs_in_reasoning=None if said is None else _recurs(said, body),
        is_last_number=_last_number_is(said, numbers),
        log_numbers=_log(len(numbers)),
        log_distinct_numbers=_log(len(used)),
        log_sums=_log(sums.read),
        sums_wrong_share=sums.wrong / sums.read if sums.read else None,
        any_sum_wrong=float(sums.wrong > 0) if sums.read else None,
        sums_fractional_share=sums.fractional / sums.read if sums.read else None,
        results_used_share=_results_used(sums, numbers),
        results_distinct_share=len(set(sums.results)) / len(sums.results) if sums.results else None,
        products_share=sums.products / sums.read if sums.read else None,
        quotients_share=sums.quotients / sums.read if sums.read else None,
        last_result_is_answer=None if value is None or not results else float(value == results[-1]),
        answer_is_a_result=None if value is None or not results else float(value in results),
        answer_is_in_question=None if value is None or not asked else float(value in map(float, values)),
        question_numbers_used=sum(v in used for v in values) / len(values) if values else None,
        log_sums_per_number=_log(10.0 * sums.read / len(asked)) if asked else None,
        words_per_line=_log(words / lines),
        log_text_chars=_log(len(observed.answer)),
        log_length_ratio=_log(len(observed.answer) / max(1, len(observed.question))),
        log_steps=_log(lines - 1),
        repetition=_repetition(answer),
        hedges=_rate(_HEDGE, answer, words),
        corrections=_rate(_CORRECTION, answer, words),
        checks=_rate(_CHECK, answer, words),
        is_json_broken=_json_broken(answer),
        seems_cut=float(observed.is_cut or _seems_cut(answer)),
        tex_in_answer=None if said is None else float("\\" in said),
        log_question_chars=_log(len(observed.question)),
        log_question_numbers=_log(len(asked)),
        log_question_sentences=_log(sentences),
        words_per_sentence=_log(question_words / sentences),
        part_words=_some(_PARTS, question),
        rate_words=_some(_RATES, question),
        comparison_words=_some(_COMPARISONS, question),
        quantity_words=_some(_QUANTITIES, question),
        question_has_code=float(_CODE.search(question) is not None),
        question_has_tex=float(_TEX.search(question) is not None),
        question_has_options=float(sum(1 for _ in _OPTIONS.finditer(question)) >= 2),
        self_confidence=None if observed.self_confidence is None else (observed.self_confidence - 1) / 4,
        logprob_mean=_logprob(observed.logprob_mean),
        logprob_min=_logprob(observed.logprob_min),
    )


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[:_HALF] + "\n" + text[-_HALF:]


def _log(count: float) -> float:
    return min(2.0, math.log2(1.0 + count) / 10.0)


def _as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _results_used(sums: Sums, numbers: Sequence[str]) -> float | None:
    """Share of the results, but the last, that are written again: a result that nothing uses led nowhere."""
    if len(sums.results) < 2:
        return None
    written = Counter(float(number) for number in numbers)
    before = sums.results[:-1]
    return sum(written[abs(result)] >= 2 for result in before) / len(before)


def _logprob(value: float | None) -> float | None:
    """exp(value), the probability, which is bounded."""
    return None if value is None or math.isnan(value) else math.exp(min(0.0, value))


def _rate(pattern: re.Pattern[str], text: str, words: int) -> float:
    """How often, dampened: a root of hits per hundred words, at most 2."""
    hits = sum(1 for _ in pattern.finditer(text))
    return min(2.0, math.sqrt(100.0 * hits / (words + 50)))


def _some(pattern: re.Pattern[str], text: str) -> float:
    """How many, in tens, at most 2."""
    return min(2.0, sum(1 for _ in pattern.finditer(text)) / 10.0)


def _reasoning(answer: str, final: str | None) -> str:
    """What stands before the final answer; all of it when that is not found."""
    if not final:
        return answer
    at = answer.rfind(final)
    return answer[:at] if at > 0 else answer


def _recurs(said: str, body: str) -> float:
    """Whether the final answer is also what the reasoning arrives at, by its text."""
    wanted = said.strip().strip("\"'$`*").strip()
    if not wanted or len(wanted) > _SHORT_ANSWER_CHARS:
        return 0.0
    return float(wanted in body or wanted.replace(",", "") in body.replace(",", ""))


def _last_number_is(said: str | None, numbers: Sequence[str]) -> float | None:
    """Whether the last number of the reasoning is the final answer's last number."""
    found = _NUMBER.findall(said) if said else []
    if not found or not numbers:
        return None
    return float(found[-1].replace(",", "") == numbers[-1])


def _expected_form(said: str | None, task_type: TaskType | None, question: str) -> float | None:
    if said is None:
        return 0.0 if task_type in (TaskType.MATH, TaskType.CODE) else None
    if sum(1 for _ in _OPTIONS.finditer(question)) >= 2:
        return float(canonical.choice(said) is not None)
    if task_type is TaskType.MATH:
        return float(canonical.number(said) is not None)
    if task_type is TaskType.CODE:
        return float(_LITERAL_START.match(said.strip("` ")) is not None)
    return None


def _repetition(answer: str) -> float:
    """Share of lines or sentences that were said before: a model that goes round in circles."""
    parts = [part.strip() for part in re.split(r"\\n|\n|\. ", answer)[:_LINES_MAX]]
    parts = [part for part in parts if len(part) > 20]
    return 1.0 - len(set(parts)) / len(parts) if parts else 0.0


def _json_broken(answer: str) -> float | None:
    """1 when the text begins as a JSON object, fenced or bare, and does not end as one."""
    head = answer.lstrip()
    if not head.startswith(("{", "```json")):
        return None
    tail = answer.rstrip().removesuffix("```").rstrip()
    return float(not tail.endswith("}") or tail.count("{") < 1)


def _seems_cut(answer: str) -> bool:
    """Whether it stops in the middle: an open fence, an open calculator mark, or a last character that ends nothing."""
    tail = answer.rstrip()
    if not tail or tail.count("```") % 2 or tail.rfind("<<") > tail.rfind(">>"):
        return True
    return tail[-1] in ",:;=+-*/<([{\\" or (len(tail) > 300 and tail[-1].isalpha() and "\n" not in tail[-80:])
