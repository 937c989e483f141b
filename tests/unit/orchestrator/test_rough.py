"""The rough judgement that stands in for a classifier that does not answer."""

from __future__ import annotations

import pytest

from services.orchestrator.policy.policy import Policy
from services.orchestrator.policy.rough import ROUGH_CONFIDENCE, rough_classification
from spillway.routing import Complexity, TaskType
from tests.unit.orchestrator.ladder import request_of, settings_of


@pytest.mark.parametrize(
    ("text", "task_type", "complexity"),
    [
        ("", TaskType.OTHER, Complexity.SIMPLE),
        ("Hello there", TaskType.OTHER, Complexity.SIMPLE),
        ("import duties from Norway, and a class of 1999 wine", TaskType.OTHER, Complexity.SIMPLE),
        ("word " * 100, TaskType.OTHER, Complexity.MEDIUM),
        ("def f(x):\n    return x", TaskType.CODE, Complexity.MEDIUM),
        ("What is 12 * 7?", TaskType.MATH, Complexity.MEDIUM),
        (r"Evaluate \int_0^1 x dx", TaskType.MATH, Complexity.MEDIUM),
        ("```python\n" + "x = 1\n" * 500 + "```", TaskType.CODE, Complexity.COMPLEX),
        (" \n" * 100_000, TaskType.OTHER, Complexity.MEDIUM),
    ],
)
def test_length_and_marks_decide(text: str, task_type: TaskType, complexity: Complexity) -> None:
    judgement = rough_classification(request_of(text).chat)
    assert (judgement.task_type, judgement.complexity) == (task_type, complexity)
    assert judgement.confidence == ROUGH_CONFIDENCE == max(judgement.probabilities)
    assert sum(judgement.probabilities) == pytest.approx(1)


def test_a_rough_judgement_is_always_bumped_where_there_is_a_tier_above() -> None:
    request = request_of("Hello there")
    decision = Policy(settings_of()).decide(request, rough_classification(request.chat)).decision
    assert decision.policy_step == "confidence_bump"
    assert decision.plan is not None
    assert decision.plan.tiers[0].name == "medium"
