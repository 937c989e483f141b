"""The gate on self-evaluation: a second call in which a model looks at the answer again and grades it, 0 to 1.

Promises: pure; the call is made elsewhere. A model is a poor judge of its own work, but a better one when it reads the
answer as somebody else's: the prompt does not say whose it is. How a grade is read, and why the answer cannot set it,
stands in `grading`. The score is the grader's word, not a calibrated probability.
"""

from __future__ import annotations

from typing import Final

from services.executor.gates import grading
from spillway.chat import ChatRequest, Message
from spillway.routing import GateVerdict

__all__ = ["GATE", "check", "prompt"]

GATE: Final = "self_evaluation"
_TASK: Final = (
    "You check an answer before it is used. Solve the question yourself first, then compare: is the answer right, "
    "complete, and what was asked for?"
)


def prompt(chat: ChatRequest, answer: Message) -> ChatRequest:
    """The second call."""
    return grading.grading_chat(_TASK, chat, answer)


def check(grade: grading.Grade | None, answer: Message, confidence_min: float) -> GateVerdict:
    """The verdict on the grade. `confidence_min` is what the request asked for, 0 when nothing."""
    return grading.check(GATE, grade, answer, confidence_min)
