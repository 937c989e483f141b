"""What the words of a prompt say, for tests of the heuristics."""

from __future__ import annotations

from services.classifier.heuristics import TASK_TYPES, HeuristicJudgement, judge
from spillway.chat import Message, Role
from spillway.routing import TaskType

__all__ = ["kind", "of"]


def of(text: str) -> HeuristicJudgement:
    """Of a prompt that is nothing but this text."""
    return judge((Message.of(Role.USER, text),), has_tools=False)


def kind(judgement: HeuristicJudgement) -> TaskType:
    """The most probable one."""
    return TASK_TYPES[judgement.task_probabilities.index(max(judgement.task_probabilities))]
