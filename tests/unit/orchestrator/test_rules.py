"""Static rules: each condition, and what the trial says when it does not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.orchestrator.policy.facts import Facts
from services.orchestrator.policy.rules import find_rule
from spillway.chat import ChatRequest, ImagePart, Message, Role, ToolDefinition
from spillway.routing import CompletionRequest, Complexity, TaskType
from spillway.settings import Rule
from tests.unit.orchestrator.ladder import judged, request_of

PICTURE = CompletionRequest(ChatRequest((Message(Role.USER, (ImagePart(url="https://example.org/a.png"),)),)))
TOOLS = CompletionRequest(ChatRequest((Message.of(Role.USER, "Hi"),), tools=(ToolDefinition("t"),)))
TWO_TURNS = CompletionRequest(ChatRequest((Message.of(Role.USER, "one"), Message.of(Role.USER, "two"))))
CODE = request_of("What does this do?\n```python\nprint(1)\n```")
AT_S = 1_700_000_000.0  # Tuesday, 14 November 2023, 22:13:20 UTC
ENGLISH = replace(judged(), language="en")

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
    ({"language": ["de", "en"]}, request_of()),
    ({"input_tokens_min": 2}, request_of("abcde")),
    ({"input_tokens_max": 1}, request_of("abcd")),
    ({"has_code": True}, CODE),
    ({"has_code": False}, request_of()),
    ({"time": {"days": ["tue"], "start": "22:00", "end": "23:00"}}, request_of()),
    ({"any_of": [{"tags": ["a"]}, {"has_tools": False}]}, request_of()),
    ({"none_of": [{"tags": ["a"]}, {"task_type": ["math"]}]}, request_of()),
    ({"none_of": [{"any_of": [{"tags": ["a"]}, {"none_of": [{"tags": ["a"]}], "has_images": True}]}]}, request_of()),
    ({"none_of": [{"language": ["fr"]}]}, request_of()),
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
    ({"language": ["fr"]}, request_of()),
    ({"input_tokens_min": 3}, request_of("abcdefgh")),
    ({"input_tokens_max": 1}, request_of("abcde")),
    ({"has_code": True}, request_of()),
    ({"has_code": False}, CODE),
    ({"time": {"days": ["wed"]}}, request_of()),
    ({"time": {"end": "22:13"}}, request_of()),
    ({"any_of": [{"tags": ["a"]}, {"has_tools": True}, {"complexity": ["complex"]}]}, request_of()),
    ({"none_of": [{"tags": ["a"]}, {"complexity": ["simple"]}]}, request_of()),
]


def rule(name: str, when: dict[str, Any]) -> Rule:
    return Rule.model_validate({"name": name, "when": when, "then": {}})


@pytest.mark.parametrize(("when", "request_"), HOLD)
def test_a_condition_that_holds_matches(when: dict[str, Any], request_: CompletionRequest) -> None:
    search = find_rule([rule("r", when)], Facts(request_, AT_S), ENGLISH)
    assert search.matched is not None
    assert search.trials[-1].matched


@pytest.mark.parametrize(("when", "request_"), FAIL)
def test_a_condition_that_fails_is_named_in_the_trial(when: dict[str, Any], request_: CompletionRequest) -> None:
    search = find_rule([rule("r", when)], Facts(request_, AT_S), ENGLISH)
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


def test_a_language_that_is_not_known_is_none_of_those_named() -> None:
    german = rule("german", {"language": ["de"]})
    search = find_rule([german], Facts(request_of()), judged())
    assert search.trials[0].reason == "language: not known, and so is not one of those named"
    assert find_rule([rule("r", {"none_of": [{"language": ["de"]}]})], Facts(request_of()), judged()).matched


def test_what_nested_conditions_leave_open_only_the_judgement_decides() -> None:
    either = rule("either", {"any_of": [{"tags": ["a"]}, {"complexity": ["complex"]}]})
    neither = rule("neither", {"none_of": [{"tags": ["a"]}, {"task_type": ["math"]}]})
    open_search = find_rule([either, neither], Facts(request_of()), None)
    assert open_search.open_rules == (either, neither)
    tagged = Facts(request_of(tags=("a",)))
    assert find_rule([either], tagged, None).matched is either
    failed = find_rule([neither], tagged, None)
    assert (failed.matched, failed.open_rules) == (None, ())
    assert failed.trials[0].reason == "none_of: number 1 holds"
    assert find_rule([either], Facts(request_of()), judged()).trials[0].reason == (
        "any_of: none of 2 holds (the first: tags: none of those named)"
    )
