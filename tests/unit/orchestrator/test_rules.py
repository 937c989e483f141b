"""Static rules: each condition, and what the trial says when it does not hold."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.facts import Facts
from services.orchestrator.rules import find_rule
from spillway.chat import ChatRequest, ImagePart, Message, Role, ToolDefinition
from spillway.routing import CompletionRequest, Complexity, TaskType
from spillway.settings import Rule
from tests.unit.orchestrator.ladder import judged, request_of

PICTURE = CompletionRequest(ChatRequest((Message(Role.USER, (ImagePart(url="https://example.org/a.png"),)),)))
TOOLS = CompletionRequest(ChatRequest((Message.of(Role.USER, "Hi"),), tools=(ToolDefinition("t"),)))
TWO_TURNS = CompletionRequest(ChatRequest((Message.of(Role.USER, "one"), Message.of(Role.USER, "two"))))

HOLD: list[tuple[dict[str, Any], CompletionRequest]] = [
    ({}, request_of()),
    ({"input_chars_min": 3}, request_of("abc")),
    ({"input_chars_max": 3}, request_of("abc")),
    ({"messages_min": 2}, TWO_TURNS),
    ({"user_tier": ["free", "trial"]}, request_of(user_tier="trial")),
    ({"endpoint": ["support/*"]}, request_of(endpoint="support/chat")),
    ({"endpoint": ["support/chat"]}, request_of(endpoint="support/chat")),
    ({"tags": ["a", "b"]}, request_of(tags=("c", "b"))),
    ({"has_tools": True}, TOOLS),
    ({"has_tools": False}, request_of()),
    ({"has_images": True}, PICTURE),
    ({"has_images": False}, request_of()),
    ({"keywords": ["invoice"]}, request_of("Where is my INVOICE?")),
    ({"keywords": ["due date"]}, request_of("the due date, please")),
    ({"keywords": ["C++"]}, request_of("why is c++ so hard")),
    ({"keywords": ["straße"]}, request_of("In welcher STRASSE?")),
    ({"keywords": ["合同"]}, request_of("请看这份合同的条款")),
    ({"task_type": ["factual_qa"]}, request_of()),
    ({"complexity": ["simple", "medium"]}, request_of()),
]
FAIL: list[tuple[dict[str, Any], CompletionRequest]] = [
    ({"input_chars_min": 4}, request_of("abc")),
    ({"input_chars_max": 2}, request_of("abc")),
    ({"messages_min": 2}, request_of()),
    ({"user_tier": ["free"]}, request_of()),
    ({"endpoint": ["support"]}, request_of(endpoint="support/chat")),
    ({"tags": ["a"]}, request_of(tags=("b",))),
    ({"has_tools": True}, request_of()),
    ({"has_tools": False}, TOOLS),
    ({"has_images": True}, request_of()),
    ({"keywords": ["voice"]}, request_of("my invoice")),
    ({"keywords": ["one"]}, TWO_TURNS),
    ({"task_type": ["math"]}, request_of()),
    ({"complexity": ["complex"]}, request_of()),
]


def rule(name: str, when: dict[str, Any]) -> Rule:
    return Rule.model_validate({"name": name, "when": when, "then": {}})


@pytest.mark.parametrize(("when", "request_"), HOLD)
def test_a_condition_that_holds_matches(when: dict[str, Any], request_: CompletionRequest) -> None:
    search = find_rule([rule("r", when)], Facts(request_), judged())
    assert search.matched is not None
    assert search.trials[-1].matched


@pytest.mark.parametrize(("when", "request_"), FAIL)
def test_a_condition_that_fails_is_named_in_the_trial(when: dict[str, Any], request_: CompletionRequest) -> None:
    search = find_rule([rule("r", when)], Facts(request_), judged())
    assert search.matched is None
    (trial,) = search.trials
    assert trial.reason.startswith(f"{next(iter(when))}:")
    assert request_.chat.last_user_text not in trial.reason or not request_.chat.last_user_text


def test_the_first_rule_that_holds_is_the_one() -> None:
    rules = [rule("no", {"user_tier": ["vip"]}), rule("first", {}), rule("second", {})]
    search = find_rule(rules, Facts(request_of()), None)
    assert search.matched is rules[1]
    assert [trial.rule for trial in search.trials] == ["no", "first"]


def test_all_conditions_must_hold() -> None:
    both = rule("both", {"user_tier": ["vip"], "tags": ["a"]})
    assert find_rule([both], Facts(request_of(user_tier="vip")), None).matched is None
    assert find_rule([both], Facts(request_of(user_tier="vip", tags=("a",))), None).matched is both


def test_without_a_judgement_the_rules_that_may_match_stay_open_up_to_the_first_certain_one() -> None:
    maths = rule("maths", {"task_type": [TaskType.MATH.value]})
    never = rule("never", {"task_type": ["code"], "user_tier": ["vip"]})
    certain = rule("certain", {"input_chars_min": 1})
    after = rule("after", {"complexity": [Complexity.COMPLEX.value]})
    search = find_rule([never, maths, certain, after], Facts(request_of()), None)
    assert search.matched is None
    assert search.open_rules == (maths, certain)
    assert [trial.rule for trial in search.trials] == ["never"]
