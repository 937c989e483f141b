"""Same, different or unknown: by value where there is one, and unknown rather than a guess."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.matching import answer_comparison
from services.cache.matching.answer_comparison import (
    CHARS_MAX,
    SAME_COSINE_MIN,
    Comparison,
    compare,
    compare_prose,
    is_common_word,
)
from services.cache.matching.answer_judge import AnswerJudge

SAME, DIFFERENT, UNKNOWN = Comparison.SAME, Comparison.DIFFERENT, Comparison.UNKNOWN
PROSE = (
    "Open the settings, choose Security, and press the button that resets your password.",
    "Go to the Security page of the settings and press the button there to reset your password.",
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Paris.", "**paris**", SAME),
        ("42", "42.0", SAME),
        ("$1,200", "1200", SAME),
        ("50%", "0.5", SAME),
        ("1/2", "0.5", SAME),
        ("42", "43", DIFFERENT),
        ("1/0", "1", DIFFERENT),
        ("(B)", "b) because it is so", SAME),
        ("A", "B", DIFFERENT),
        ("card_arrival", "card_linking", DIFFERENT),
        ("card_arrival", "Card_arrival.", SAME),
        ('{"a": 1, "b": [2]}', '```json\n{"b":[2],"a":1}\n```', SAME),
        ('{"a": 1}', '{"a": 2}', DIFFERENT),
        ('{"why": "x", "answer": 7}', '{"why": "y", "answer": "7"}', SAME),
        ("Three and four make seven.\n#### 7", "It is seven. The answer is 7.", SAME),
        ('{"reasoning": "long", "answer": "7"}', r"So we get \boxed{8}", DIFFERENT),
        ("Yes, you can.", "No, you cannot.", DIFFERENT),
        ("Yes, you can do so in the app.", "Yes, but only at a branch.", UNKNOWN),
        ("Your code is sent by text within 5 minutes.", "Your code is sent by text within 2 days.", DIFFERENT),
        ("The capital is Paris.", "The capital is Lyon.", DIFFERENT),
        ("Paris.", "The capital of France is Paris.", UNKNOWN),
        (*PROSE, UNKNOWN),
        (PROSE[0], "Sunflowers grow towards the light because of a hormone in their stems.", DIFFERENT),
        ("", "", UNKNOWN),
        ("", "Paris.", UNKNOWN),
    ],
)
def test_answers_are_compared_by_what_they_say(one: str, other: str, expected: Comparison) -> None:
    assert compare(one, other) is expected
    assert compare(other, one) is expected


@pytest.mark.parametrize(
    ("one", "other", "cosine", "expected"),
    [
        (*PROSE, 0.95, SAME),
        (*PROSE, SAME_COSINE_MIN - 0.01, UNKNOWN),
        (*PROSE, 0.1, DIFFERENT),
        (*PROSE, float("nan"), UNKNOWN),
        (PROSE[0], f"Do not do this: {PROSE[1]}", 0.95, UNKNOWN),
        (PROSE[0], f"{PROSE[1]} It takes 3 days.", 0.95, UNKNOWN),
        (PROSE[0], f"{PROSE[1]} Ask Maria.", 0.95, UNKNOWN),
    ],
)
def test_prose_is_the_same_only_when_near_and_without_a_difference_that_matters(
    one: str, other: str, cosine: float, expected: Comparison
) -> None:
    assert compare_prose(one, other, cosine) is expected
    assert compare_prose(other, one, cosine) is expected


@pytest.mark.parametrize("text", ["Yes.", "no", "42", "$3.50", "B", "(c)", "True"])
def test_what_many_questions_have_for_an_answer_is_a_common_word(text: str) -> None:
    assert is_common_word(text)


@pytest.mark.parametrize("text", ["card_arrival", "Paris.", "Yes, in the app.", "A branch near you."])
def test_what_says_something_is_none(text: str) -> None:
    assert not is_common_word(text)


PIECES = st.lists(
    st.sampled_from(
        ["yes", "no", "42", '"answer":', "#### ", r"\boxed{", "{", "}", "[", "the answer is", "1/0", "```", "%"]
    )
    | st.text(max_size=8),
    max_size=12,
).map(" ".join)


@given(PIECES, PIECES, st.floats())
def test_any_texts_are_compared_without_a_fault_and_the_same_both_ways(one: str, other: str, cosine: float) -> None:
    assert compare(one, other) is compare(other, one)
    assert compare_prose(one, other, cosine) is compare_prose(other, one, cosine)
    assert compare(one, one) is not DIFFERENT


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"answer":' * 20_000, "#### " * 30_000, r"\boxed{" * 20_000, "9" * 100_000]
)
def test_long_and_nested_texts_are_compared(text: str) -> None:
    assert compare(text, text + "x") is not None


async def test_texts_are_compared_in_the_threads_that_are_given() -> None:
    used: list[str] = []

    class Threads(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
            used.append("")
            return super().submit(fn, *args, **kwargs)

    with Threads(1) as threads:
        judge = AnswerJudge(threads=threads)
        assert await judge.compare("42", ["42", "43"]) == [Comparison.SAME, Comparison.DIFFERENT]
    assert len(used) == 2


def test_what_grows_when_it_is_normalised_is_bounded_all_the_same() -> None:
    assert len(answer_comparison._folded("\ufdfa" * 20_000)) <= CHARS_MAX
