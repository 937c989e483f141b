"""The gate on agreement: cheap models, asked independently, say the same.

Promises: pure; never raises on any text. It compares final answers, not the way to them. An opinion that is missing,
or that has no answer to compare, agrees with nothing and differs from nothing: the gate abstains when the others leave
it open. Free text agrees only when it is the same text after folding, so the gate is of use for questions with one
short answer. Overlap of words is no measure for prose: of pairs that differ in what matters (a negation, a number, a
name) most share more words than true paraphrases do (docs/adr/0009-agreement-of-prose.md has the figures), so prose
is left open, never called equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from services.executor.gates import canonical
from services.executor.gates.final_answer import final_answer, last_number, nesting_depth, unfenced
from spillway.chat import Message
from spillway.routing import AgreementSpec, GateVerdict, Normalizer, TaskType, Verdict

__all__ = ["GATE", "agree", "check"]

GATE: Final = "agreement"
_SCORE_AGREED: Final = 0.95  # a prior, not calibrated
_SCORE_DIFFERENT: Final = 0.3
_SHORT_CHARS_MAX: Final = 80  # a whole text of this length may itself be the answer
_MARKUP: Final = re.compile(r"\A(\*\*|\*|`+)(?=\S)(.*)(?<=\S)\1\Z", re.DOTALL)  # **bold**, `code`, around the whole
_JSON_DEPTH_MAX: Final = 64
_JSON_CHARS_MAX: Final = 200_000


def check(
    answer: Message, opinions: Sequence[Message | None], spec: AgreementSpec, task_type: TaskType | None
) -> GateVerdict:
    """PASS when enough opinions say the same, FAIL when enough differ, ABSTAIN while it is open.

    `opinions` has one entry for everyone who is asked, None while there is no answer, and one for everything that
    earlier rungs said, if that counts: what is decided then remains so whatever the missing ones say.
    """
    needed = min(spec.agreeing_min, len(opinions)) or len(opinions)
    found = [None if opinion is None else _same_message(answer, opinion, spec, task_type) for opinion in opinions]
    agreeing, undecided = found.count(True), found.count(None)
    if opinions and agreeing >= needed:
        return GateVerdict(GATE, Verdict.PASS, _in_words(agreeing, len(opinions), "agree"), _SCORE_AGREED)
    if agreeing + undecided < needed:
        differing = found.count(False)
        return GateVerdict(GATE, Verdict.FAIL, _in_words(differing, len(opinions), "differ"), _SCORE_DIFFERENT)
    missing = not opinions or None in opinions
    reason = "no second opinion" if missing else "no final answer to compare"
    return GateVerdict(GATE, Verdict.ABSTAIN, reason)


def _same_message(answer: Message, opinion: Message, spec: AgreementSpec, task_type: TaskType | None) -> bool | None:
    if answer.tool_calls or opinion.tool_calls:
        return _tools(answer) == _tools(opinion)
    return agree(answer.text, opinion.text, spec.normalizer, task_type)


def _in_words(count: int, asked: int, verb: str) -> str:
    return f"two answers {verb}" if asked == 1 else f"{count} of {asked} opinions {verb}"


def agree(
    first: str, second: str, normalizer: Normalizer = Normalizer.AUTO, task_type: TaskType | None = None
) -> bool | None:
    """Whether two answers say the same; None when one of them has nothing to compare."""
    if normalizer is Normalizer.JSON:
        return _equal_json(first, second)
    if normalizer is Normalizer.TEXT:
        return canonical.text(first) == canonical.text(second) if first.strip() and second.strip() else None
    one = _extract(first, normalizer, task_type)
    other = _extract(second, normalizer, task_type)
    if one is None or other is None:
        # Neither marks an answer: whole documents, if they are JSON, can still be compared by value.
        return _equal_json(first, second) if normalizer is Normalizer.AUTO and one is other else None
    return _same(one, other, normalizer, task_type)


def _extract(text: str, normalizer: Normalizer, task_type: TaskType | None) -> str | None:
    found = final_answer(text)
    if found is not None:
        return found
    whole = unfenced(text)
    if whole and len(whole) <= _SHORT_CHARS_MAX and "\n" not in whole:
        return whole
    if normalizer is Normalizer.NUMBER or (normalizer is Normalizer.AUTO and task_type is TaskType.MATH):
        return last_number(text)
    return None


def _same(one: str, other: str, normalizer: Normalizer, task_type: TaskType | None) -> bool | None:
    if normalizer is Normalizer.NUMBER:
        numbers = [_number(a) or _inner_number(a) for a in (one, other)]
        return None if numbers[0] is None or numbers[1] is None else numbers[0].same(numbers[1])
    if normalizer is Normalizer.CHOICE:
        letters = [canonical.choice(a) for a in (one, other)]
        return None if None in letters else letters[0] == letters[1]
    if normalizer is Normalizer.LITERAL or task_type is TaskType.CODE:
        return _same_literal(one, other)
    return _same_auto(one, other)


def _same_auto(one: str, other: str) -> bool:
    """By the form of both: numbers, choices, literals, else text."""
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return first.same(second)
    letters = canonical.choice(one), canonical.choice(other)
    if letters[0] is not None and letters[1] is not None:
        return letters[0] == letters[1]
    return _same_literal(one, other) or canonical.text(one) == canonical.text(other)


def _same_literal(one: str, other: str) -> bool:
    """Equal as values; or equal as text, when quotes were left out."""
    values = canonical.literal(one), canonical.literal(other)
    if values[0] is not None and values[0] == values[1]:
        return True
    return _as_text(one) == _as_text(other)


def _as_text(raw: str) -> str:
    """The text that a quoted literal stands for, to the last space; anything else without markup around it."""
    bare = _MARKUP.sub(r"\2", raw.strip())
    value = canonical.literal(bare)
    if isinstance(value, tuple) and value[0] == "str":
        return str(value[1])
    return bare


def _number(text: str) -> canonical.Number | None:
    """The number that `text` is, or that one equation in it ends with ("3 + 4 = 7")."""
    found = canonical.number(text)
    if found is None and "=" in text and not re.search(r",\s|;|\band\b|\bor\b", text):
        found = canonical.number(text.rsplit("=", 1)[1])
    return found


def _inner_number(text: str) -> canonical.Number | None:
    found = last_number(text)
    return None if found is None else canonical.number(found)


def _equal_json(first: str, second: str) -> bool | None:
    try:
        return bool(_json(first) == _json(second))
    except (ValueError, RecursionError):
        return None


def _json(text: str) -> object:
    """A hashable stand-in for the document; raises ValueError when it is none."""
    raw = unfenced(text)
    if len(raw) > _JSON_CHARS_MAX or nesting_depth(raw) > _JSON_DEPTH_MAX:
        raise ValueError
    value = json.loads(raw)
    return json.dumps(value, sort_keys=True, allow_nan=False)  # 1e400 and 1e500 would both be infinite


def _tools(message: Message) -> list[tuple[str, str]]:
    """Names and arguments, arguments by value where they are JSON; ids are the provider's and differ."""
    calls = []
    for call in message.tool_calls:
        try:
            arguments = str(_json(call.arguments_json))
        except (ValueError, RecursionError):
            arguments = call.arguments_json
        calls.append((call.name, arguments))
    return sorted(calls)
