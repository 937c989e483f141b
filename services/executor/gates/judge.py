"""The gate of the LLM judge: another model, usually of another tier, grades the answer against a rubric, 0 to 1.

Promises: pure; the call is made elsewhere. The rubric is part of the operator's configuration: it reaches the judge's
system message and nothing else, no reason, no note to the next model. How a grade is read, and why the answer cannot
set it, stands in `grading`. The score is the judge's word, not a calibrated probability.
"""

from __future__ import annotations

from typing import Final

from services.executor.gates import grading
from spillway.chat import ChatRequest, Message
from spillway.routing import GateVerdict, JudgeSpec

__all__ = ["GATE", "RUBRIC", "check", "prompt"]

GATE: Final = "judge"
RUBRIC: Final = (
    "The answer is correct in every fact and every step. It answers the whole question, in the form that was asked "
    "for. It adds nothing that is made up."
)
_TASK: Final = "You are a strict and fair judge of an answer that a model gave. A good answer meets this rubric:"


def prompt(spec: JudgeSpec, chat: ChatRequest, answer: Message) -> ChatRequest:
    """What the judge is asked."""
    return grading.grading_chat(f"{_TASK}\n{spec.rubric or RUBRIC}\n", chat, answer)


def check(grade: grading.Grade | None, answer: Message, confidence_min: float) -> GateVerdict:
    """The verdict on the grade. `confidence_min` is what the request asked for, 0 when nothing."""
    return grading.check(GATE, grade, answer, confidence_min)
