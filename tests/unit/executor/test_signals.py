"""Signals: each observes what its name says, a missing one is None, and no text breaks or overwhelms them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.gates.observation import OPINIONS_MAX, TEXT_CHARS_MAX, Observed, compare, observe
from services.executor.gates.signals import NAMES, Signals
from spillway.routing import Normalizer, TaskType


def signals(answer: str, question: str = "How many are 3 boxes of 4?", **more: object) -> Signals:
    task_type = more.pop("task_type", TaskType.MATH)
    return observe(Observed(question, answer, task_type, **more))  # type: ignore[arg-type]


def test_agreement_is_missing_without_opinions() -> None:
    found = signals("#### 12")
    assert found.agrees_first is None
    assert found.agreeing_share is None
    assert found.rivals_share is None


def test_opinions_count_in_their_order() -> None:
    found = signals("#### 12", opinions=("#### 12", "#### 13", "#### 12.0"))
    assert (found.agrees_first, found.agrees_second, found.agrees_third, found.agrees_fourth) == (1, 0, 1, None)
    assert found.agreeing_share == pytest.approx(2 / 3)
    assert found.rivals_share == pytest.approx(1 / 3)


def test_rivals_are_the_largest_group_that_agrees_on_something_else() -> None:
    found = signals("#### 12", opinions=("#### 13", "#### 13", "#### 14"))
    assert found.rivals_share == pytest.approx(2 / 3)


def test_an_opinion_without_an_answer_is_neither_agreement_nor_rival() -> None:
    found = signals(
        "#### 12", opinions=("no idea at all, this text is long enough to be no short answer by itself, " * 2,)
    )
    assert found.agrees_first in (None, 0.0)
    assert found.agreeing_share == 0


def test_more_opinions_than_can_be_used_are_left_out() -> None:
    found = signals("#### 12", opinions=("#### 12",) * (OPINIONS_MAX + 3))
    assert found.agreeing_share == 1
    assert len(compare(["1"] * 20, Normalizer.AUTO, None)) == OPINIONS_MAX + 1


def test_sums_are_checked_and_missing_when_there_are_none() -> None:
    wrong = signals("3 * 4 = 13\n12 + 1 = 13\n#### 13")
    assert wrong.any_sum_wrong == 1
    assert wrong.sums_wrong_share == pytest.approx(0.5)
    none = signals("It is twelve. #### 12")
    assert none.any_sum_wrong is None
    assert none.log_sums == 0


def test_the_final_answer_is_looked_for_in_the_reasoning() -> None:
    assert signals("3 * 4 = 12.\n#### 12").recurs_in_reasoning == 1
    assert signals("3 * 4 = 12.\n#### 15").recurs_in_reasoning == 0
    assert signals("3 * 4 = 12.\n#### 12").is_last_number == 1
    assert signals("3 * 4 = 12.\n#### 15").is_last_number == 0


@pytest.mark.parametrize(
    ("answer", "task_type", "question", "expected"),
    [
        ("#### 12", TaskType.MATH, "q", 1.0),
        ("The final answer is: a lot", TaskType.MATH, "q", 0.0),
        ("no number here", TaskType.MATH, "q", 0.0),
        ('{"answer": "[1, 2]"}', TaskType.CODE, "q", 1.0),
        ('{"answer": "it raises"}', TaskType.CODE, "q", 0.0),
        ("The answer is B", TaskType.OTHER, "Which?\nA. one\nB. two", 1.0),
        ("hello", TaskType.CHITCHAT, "hi", None),
    ],
)
def test_the_form_that_is_expected_follows_the_task(
    answer: str, task_type: TaskType, question: str, expected: float | None
) -> None:
    assert signals(answer, question, task_type=task_type).has_expected_form == expected


def test_numbers_of_the_question_that_are_not_used_show() -> None:
    assert signals("3 + 3 = 6 #### 6").question_numbers_used == pytest.approx(0.5)
    assert signals("#### 6", "How many?").question_numbers_used is None


@pytest.mark.parametrize("answer", ["", "15 + 2 = <<15+2", "```json\n{", "So the total is the sum of 3 and,"])
def test_an_answer_that_stops_in_the_middle_seems_cut(answer: str) -> None:
    assert signals(answer).seems_cut == 1


def test_a_whole_answer_does_not_seem_cut() -> None:
    assert signals("They are 12.\n#### 12").seems_cut == 0
    assert signals("#### 12", is_cut=True).seems_cut == 1


def test_broken_json_is_told_from_whole_and_from_none() -> None:
    assert signals('{"answer": 12}').is_json_broken == 0
    assert signals('```json\n{"answer": 12}\n```').is_json_broken == 0
    assert signals('{"answer": 12').is_json_broken == 1
    assert signals("12").is_json_broken is None


def test_words_of_doubt_and_repetition_show() -> None:
    assert signals("Perhaps 12? Wait, that is a mistake.").hedges > 0  # type: ignore[operator]
    assert signals("Perhaps 12? Wait, that is a mistake.").corrections > 0  # type: ignore[operator]
    assert signals("12").corrections == 0
    line = "we should also consider that the value of k is determined\n"
    assert signals(line * 10).repetition == pytest.approx(0.9)


def test_what_the_model_and_the_provider_say_is_put_on_a_scale() -> None:
    found = signals("12", self_confidence=5, logprob_mean=math.log(0.9), logprob_min=-1000.0)
    assert found.self_confidence == 1
    assert found.logprob_mean == pytest.approx(0.9)
    assert found.logprob_min == pytest.approx(0)
    assert signals("12").self_confidence is None


def test_a_question_is_described() -> None:
    assert signals("x", r"Find $\frac{1}{2}$ of 3").question_has_tex == 1
    assert signals("x", "def f(n):\n    return n").question_has_code == 1
    assert signals("x", "Which?\nA. one\nB. two").question_has_options == 1
    plain = signals("x", "How many are there?")
    assert (plain.question_has_tex, plain.question_has_code, plain.question_has_options) == (0, 0, 0)


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from([None, *TaskType]), st.lists(st.text(max_size=50)))
def test_any_text_gives_bounded_numbers(
    question: str, answer: str, task_type: TaskType | None, opinions: list[str]
) -> None:
    found = observe(Observed(question, answer, task_type, tuple(opinions)))
    assert len(found.values()) == len(NAMES)
    assert all(value is None or 0 <= value <= 2 for value in found.values())


@pytest.mark.parametrize(
    "piece", ["1", "1+", "=", "(", "{", "\\", "`", "<<", "$", '"answer": ', "a ", "A. ", "\n", "not ", "1,000 ", "-"]
)
def test_long_hostile_texts_are_read_in_bounded_pieces(piece: str) -> None:
    hostile = piece * (TEXT_CHARS_MAX // len(piece) * 3)
    found = signals(hostile, hostile, opinions=(hostile,))
    assert all(value is None or math.isfinite(value) for value in found.values())
