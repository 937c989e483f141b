"""A rough judgement of a prompt, for when the classifier does not answer.

Promises: pure; linear in the text, of which only a bounded part is read; always the same confidence, which lies below
every sensible bump threshold, so that a rough judgement starts one tier higher than it names. It is no classifier:
three marks (length, program code, mathematics) decide, and the reason says so.
"""

from __future__ import annotations

import re

from spillway.chat import ChatRequest
from spillway.routing import Classification, Complexity, Layer, TaskType

__all__ = ["ROUGH_CONFIDENCE", "has_code_marks", "rough_classification"]

ROUGH_CONFIDENCE = 0.5
VERSION = "rough-1"

# Only so much of the last user turn is searched for marks: enough to see what it is.
_SEARCHED_CHARS_MAX = 4_000
# Up to here a turn without marks is short talk; above the second, there is much to read and to weigh.
_SHORT_CHARS_MAX = 200
_LONG_CHARS_MIN = 2_000

_CODE_MARKS = re.compile(
    r"```|^[ \t]*(?:def \w+\(|class \w+[:({]|import \w+[;\n]|from [\w.]+ import |(?:func|fn) \w+\(|#include\b)"
    r"|\bSELECT\s.{1,200}?\sFROM\b|\bTraceback\b|\breturn \w+[;(]|[=!]= |=>|\{[ \t]*$",
    re.MULTILINE,
)
_MATH_MARKS = re.compile(
    r"\\(?:frac|int|sum|sqrt|boxed|begin)\b|\$[^$\n]{1,200}\$|\d\s*[-+*/^=]\s*\d|[∑∫√≤≥]"
    r"|\b(?:prove|integral|derivative|equation|theorem|probability)\b",
    re.IGNORECASE,
)


def has_code_marks(text: str) -> bool:
    """Whether source code seems to stand in `text`: a fence anywhere, or other marks near the beginning."""
    return "```" in text or _CODE_MARKS.search(text[:_SEARCHED_CHARS_MAX]) is not None


def rough_classification(chat: ChatRequest) -> Classification:
    """The complexity of the last user turn by length and marks, with `ROUGH_CONFIDENCE`."""
    text = chat.last_user_text
    head = text[:_SEARCHED_CHARS_MAX]
    task_type, mark = TaskType.OTHER, "no marks of code or mathematics"
    if _CODE_MARKS.search(head):
        task_type, mark = TaskType.CODE, "marks of program code"
    elif _MATH_MARKS.search(head):
        task_type, mark = TaskType.MATH, "marks of mathematics"
    marked = task_type is not TaskType.OTHER
    if len(text) >= _LONG_CHARS_MIN and marked:
        complexity = Complexity.COMPLEX
    elif len(text) > _SHORT_CHARS_MAX or marked:
        complexity = Complexity.MEDIUM
    else:
        complexity = Complexity.SIMPLE
    rest = (1 - ROUGH_CONFIDENCE) / 2
    simple, medium, hard = (
        ROUGH_CONFIDENCE if complexity is each else rest
        for each in (Complexity.SIMPLE, Complexity.MEDIUM, Complexity.COMPLEX)
    )
    return Classification(
        task_type=task_type,
        complexity=complexity,
        probabilities=(simple, medium, hard),
        confidence=ROUGH_CONFIDENCE,
        layer=Layer.HEURISTICS,
        reason=f"a rough guess without the classifier: {len(text)} characters, {mark}",
        version=VERSION,
    )
