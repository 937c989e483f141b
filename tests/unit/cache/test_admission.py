"""Which answers are kept, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.cache.admission import (
    TTL_S_MAX,
    Allowances,
    lifetime_s,
    only_exact_reason,
    refusal_reason,
    unfit_question,
)
from services.cache.entry import Answer
from spillway.chat import ChatRequest, FinishReason, GenerationParams, ImagePart, Message, Role, ToolCall
from tests.support.cache_parts import TTL, answer, chat


def test_an_accepted_complete_answer_is_kept() -> None:
    assert refusal_reason(answer(), size_bytes_max=100) == ""


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (answer(accepted=False), "not_accepted"),
        (replace(answer(), finish_reason=FinishReason.LENGTH), "finish_reason_length"),
        (replace(answer(), finish_reason=FinishReason.UNKNOWN), "finish_reason_unknown"),
        (replace(answer(), finish_reason=FinishReason.CONTENT_FILTER), "finish_reason_content_filter"),
        (replace(answer(), message=Message.of(Role.USER, "Paris.")), "not_an_answer"),
        (replace(answer(), message=Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "f", "{}"),))), "tool_calls"),
        (answer(" \n\t"), "empty"),
        (replace(answer(), message=Message(Role.ASSISTANT)), "empty"),
        (answer("ü" * 51), "too_large"),
    ],
)
def test_anything_else_is_refused_with_its_rule(refused: Answer, reason: str) -> None:
    assert refusal_reason(refused, size_bytes_max=100) == reason


def test_pictures_count_towards_the_size() -> None:
    message = Message(Role.ASSISTANT, (*answer().message.parts, ImagePart(data=b"x" * 100, media_type="image/png")))
    assert refusal_reason(replace(answer(), message=message), size_bytes_max=100) == "too_large"


@pytest.mark.parametrize(
    ("explicit_s", "tags", "expected_s"),
    [
        (None, (), TTL.default_s),
        (5.0, ("freshness:static",), 5.0),
        (None, ("red", "freshness:static"), TTL.static_s),
        (None, ("freshness:business",), TTL.business_s),
        (None, ("freshness:default",), TTL.default_s),
        (None, ("freshness:unheard of",), TTL.default_s),
        (None, ("freshness:static", "freshness:business"), TTL.business_s),
        (1e12, (), TTL_S_MAX),
        (float("inf"), (), TTL_S_MAX),
    ],
)
def test_the_lifetime_is_the_callers_or_that_of_the_freshness_class(
    explicit_s: float | None, tags: tuple[str, ...], expected_s: float
) -> None:
    assert lifetime_s(explicit_s, tags, TTL) == expected_s


def test_questions_of_today_or_of_ones_own_are_unfit_unless_they_are_allowed() -> None:
    today, mine = chat("What is the weather today?"), chat("Where is my order?")
    assert [unfit_question(asked, Allowances()) for asked in (today, mine)] == ["time_sensitive", "personal"]
    assert unfit_question(today, Allowances(time_sensitive=True)) == ""
    assert unfit_question(mine, Allowances(personal=True)) == ""
    assert unfit_question(chat("What is the capital of France?"), Allowances()) == ""


def test_only_the_last_turn_makes_a_question_unfit() -> None:
    earlier = (Message.of(Role.USER, "What is the weather today?"), Message.of(Role.ASSISTANT, "Fine."))
    assert unfit_question(ChatRequest((*earlier, Message.of(Role.USER, "What is rain?"))), Allowances()) == ""


def test_pictures_and_high_temperatures_are_only_found_exactly() -> None:
    asked = chat("What is this?")
    picture = replace(
        asked, messages=(Message(Role.USER, (ImagePart(data=b"x", media_type="image/png"),)), *asked.messages)
    )
    assert only_exact_reason(asked, Allowances()) == ""
    assert only_exact_reason(picture, Allowances())
    for temperature, limit, is_exact_only in ((1.0, 1.0, False), (1.1, 1.0, True), (0.5, 0.2, True)):
        warm = replace(asked, generation=GenerationParams(temperature=temperature))
        assert bool(only_exact_reason(warm, Allowances(semantic_temperature_max=limit))) is is_exact_only
