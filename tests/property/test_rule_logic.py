"""What is proven of conditions is true of every request, and what is said before a judgement stays true after it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from services.orchestrator.policy.conditions import examine
from services.orchestrator.policy.facts import Facts
from spillway.chat import ChatRequest, ToolDefinition
from spillway.routing import Classification, CompletionRequest, Complexity, TaskType
from spillway.settings import RuleCondition
from spillway.settings.rule_logic import Reasoner
from tests.support.hypothesis_profiles import examples
from tests.unit.orchestrator.ladder import judged, request_of

MONDAY = dt.datetime(2026, 3, 2, tzinfo=dt.UTC).timestamp()

plain = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.sampled_from([["a"], ["b"], ["a", "b"]]),
        "user_tier": st.sampled_from([["x"], ["y"], ["x", "y"]]),
        "complexity": st.sampled_from([["simple"], ["medium", "complex"], ["simple", "medium", "complex"]]),
        "task_type": st.sampled_from([["math"], ["math", "code"]]),
        "language": st.sampled_from([["de"], ["de", "en"]]),
        "has_tools": st.booleans(),
        "has_code": st.booleans(),
        "input_chars_min": st.sampled_from([3, 8, 9]),
        "input_chars_max": st.sampled_from([4, 8, 12]),
        "input_tokens_min": st.sampled_from([1, 2, 3]),
        "input_tokens_max": st.sampled_from([1, 2, 3]),
        "keywords": st.sampled_from([["one"], ["One", "ß"], ["ﬃ"]]),
        "endpoint": st.sampled_from([["s/*"], ["s/a"], ["s/a", "t"]]),
        "time": st.sampled_from([{"start": "22:00", "end": "06:00"}, {"days": ["mon"]}, {"end": "12:00"}]),
    },
)
# Few parts at a time: of many, hardly any request meets all.
small = plain.map(lambda parts: dict(list(parts.items())[-2:]))


@st.composite
def families(draw: st.DrawFn, count: int = 3) -> list[RuleCondition]:
    """Conditions that are made of the same few parts, so that some follow from others."""
    parts = draw(st.lists(small, min_size=2, max_size=3))
    part = st.sampled_from([*parts, {}])

    def nested(depth: int) -> dict[str, Any]:
        made = dict(draw(part))
        for key in ("any_of", "none_of") if depth else ():
            if draw(st.integers(0, 3)) == 0:
                made[key] = [nested(depth - 1) for _ in range(draw(st.integers(1, 2)))]
        return made

    return [RuleCondition.model_validate(nested(2)) for _ in range(count)]


requests = st.builds(
    lambda text, tools, **fields: request_of(
        chat=replace(request_of(text).chat, tools=(ToolDefinition("t"),) if tools else ()), **fields
    ),
    st.sampled_from(["abc", "one", "one ß x", "ffi ffi", "x = ```", "twelve chars", "much more than twelve"]),
    st.booleans(),
    tags=st.sampled_from([(), ("a",), ("b",), ("a", "b")]),
    user_tier=st.sampled_from(["x", "y", "z"]),
    endpoint=st.sampled_from(["s/a", "s/b", "t", ""]),
)
judgements = st.builds(
    lambda complexity, kind, language: replace(judged(complexity, task_type=kind), language=language),
    st.sampled_from(list(Complexity)),
    st.sampled_from([TaskType.MATH, TaskType.CODE, TaskType.OTHER]),
    st.sampled_from(["", "de", "en", "fr"]),
)
moments = st.integers(0, 7 * 24 - 1).map(lambda hour: MONDAY + 3_600.0 * hour)
worlds = st.lists(st.tuples(requests, judgements, moments), min_size=8, max_size=8)


def holds(when: RuleCondition, world: tuple[CompletionRequest, Classification, float]) -> bool | None:
    request, judgement, moment = world
    return examine(when, Facts(request, moment), judgement).holds


@settings(max_examples=examples(250, 4_000))
@given(families(), worlds)
def test_what_is_proven_of_conditions_is_true_of_every_request(family: list[RuleCondition], some: list[Any]) -> None:
    first, second, third = family
    implied = Reasoner().implies(first, second)
    impossible = Reasoner().is_impossible(first, second)
    covered = Reasoner().is_covered(first, [second, third])
    for claim, name in ((implied, "implied"), (impossible, "impossible"), (covered, "covered")):
        event(f"{name}: {claim}")
    for world in some:
        of_first, of_second, of_third = holds(first, world), holds(second, world), holds(third, world)
        assert not (implied and of_first and not of_second)
        assert not (impossible and of_first and of_second)
        assert not (covered and of_first and not (of_second or of_third))


@settings(max_examples=examples(100, 1_000))
@given(families(1))
def test_every_condition_is_known_to_follow_from_itself(family: list[RuleCondition]) -> None:
    assert Reasoner().implies(family[0], family[0])


@settings(max_examples=examples(200, 2_500))
@given(families(1), requests, st.lists(judgements, min_size=4, max_size=4), moments)
def test_what_holds_or_fails_without_a_judgement_does_so_with_every_one(
    family: list[RuleCondition], request: CompletionRequest, some: list[Classification], moment: float
) -> None:
    when, facts = family[0], Facts(request, moment)
    before = examine(when, facts, None)
    event(f"without a judgement: {before.holds}")
    for judgement in some:
        after = examine(when, facts, judgement)
        assert after.holds is not None
        assert before.holds in {None, after.holds}
        assert bool(after.reason) is not after.holds


def test_a_search_that_is_out_of_steps_claims_nothing() -> None:
    when = RuleCondition.model_validate({"any_of": [{"tags": ["a"]}, {"has_tools": True}]})
    assert Reasoner().implies(when, when)
    assert not Reasoner(steps_max=2).implies(when, when)
    assert not Reasoner(steps_max=0).is_impossible(RuleCondition(input_chars_min=2, input_chars_max=1))


def test_words_that_fold_to_more_letters_are_no_contradiction() -> None:
    short = RuleCondition(keywords=["ffi"], input_chars_max=1)
    assert not Reasoner().is_impossible(short)
    assert examine(short, Facts(CompletionRequest(ChatRequest(request_of("ﬃ").chat.messages))), None).holds
