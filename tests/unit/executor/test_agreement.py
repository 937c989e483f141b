"""When two answers say the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.gates import agreement
from services.executor.gates.agreement import agree
from services.executor.gates.final_answer import final_answer, last_number
from spillway.chat import Message, Role, ToolCall
from spillway.routing import AgreementSpec, Normalizer, TaskType, Verdict


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"reasoning": "6 * 7", "answer": "42"}', "42"),
        ('```json\n{"reasoning": "x", "answer": 42}\n```', "42"),
        ('Sure!\n```json\n{"answer": "a \\"b\\""}\n```\nHope it helps.', 'a "b"'),
        ('{"reasoning": "...", "answer": "42"', "42"),
        ('{"reasoning": "...", "answer": "42', "42"),
        ('{"reasoning": "cost is \\$5", "answer": "\\frac{3}{4}"}', "\\frac{3}{4}"),
        ('{"answer": ["a", 1]}', '["a", 1]'),
        ('{"answer": 3/4}', "3/4"),
        ('{"answer": "say "hi" to all"}', 'say "hi" to all'),
        ("{'answer': 'abc'}", "abc"),
        ('{"answer": "1"}\nWait, I was wrong.\n{"answer": "2"}', "2"),
        ("So it is 6 * 7 = 42.\n#### 42", "42"),
        ("So it is #### 42\n", "42"),
        ("#### Step 1\nMultiply.\n#### Result\nThe answer is 42.", "42"),
        ("Thus $\\boxed{\\frac{3}{4}}$.", "\\frac{3}{4}"),
        ("\\boxed{1} and then \\boxed{2^{10}}", "2^{10}"),
        ("\\boxed{unclosed {1}", "unclosed {1}"),
        ("The final answer is: **42**.", "42"),
        ("The answer is 3.14. I am sure.", "3.14"),
        ("**Answer:** B", "B"),
        ("Die Antwort lautet: 7", "7"),
        ("答案是:5", "5"),
        ("Final answer: \\(x = 5\\)", "\\(x = 5\\)"),
    ],
)
def test_the_marked_answer_is_found(text: str, found: str) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    "text", ["", "Once upon a time there were 3 bears.", '{"other": 1}', "the output of f is long"]
)
def test_without_a_mark_there_is_no_marked_answer(text: str) -> None:
    assert final_answer(text) is None


@pytest.mark.parametrize(
    ("text", "found"), [("3 cats and 12 dogs", "12"), ("$1,200.50!", "$1,200.50"), ("none", None), ("-5 °C", "-5")]
)
def test_the_last_number_is_found(text: str, found: str | None) -> None:
    assert last_number(text) == found


SAME = [
    ("42", "42.0"),
    ("1,200", "1200"),
    ("$12", "12 dollars"),
    ("\\$12.50", "12.5"),
    ("12 apples", "12"),
    ("50%", "50 percent"),
    ("50\\%", "50"),
    ("3/4", "\\frac{3}{4}"),
    ("\\dfrac34", "0.75"),
    ("1 1/2", "1.5"),
    ("x = 5", "5"),
    ("$x=5$", "5"),
    ("3 + 4 = 7", "7"),
    ("-3", "−3"),
    (".5", "0.5"),
    ("2e3", "2000"),
    ("90^\\circ", "90°"),
    ("(B)", "b)"),
    ("B. Paris", "B"),
    ("'abc'", "abc"),
    ('"abc"', "'abc'"),
    ("[1, 2]", "[1,2]"),
    ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"),
    ("true", "True"),
    ("null", "None"),
    ("`abc`", "abc"),
    ("3\\sqrt{2}", "3√2"),
    ("\\left(3, \\frac{\\pi}{2}\\right)", "(3, \\frac{\\pi}{2})"),
    ("Paris.", "paris"),
    ("\\text{Evelyn}", "Evelyn"),
    ("1\\frac{1}{2}", "\\frac{3}{2}"),
    ("3\\frac12", "3.5"),
    ("-1 \\tfrac{1}{2}", "-1.5"),
    ("2 1/2 hours", "2.5 hours"),
    ("5!", "5!"),
    ("Paris!", "Paris"),
    ("$5", "5"),
    ("$5", "5 dollars"),
    ("50 cents", "$0.50"),
    ("50 cents", "50"),
    ("50%", "50"),
    ("5 km", "5"),
    ("5 KM", "5 km"),
    ("$5 million", "5,000,000 dollars"),
    ("9 AM", "9 am"),
]
DIFFERENT = [
    ("42", "43"),
    ("-3", "3"),
    ("5 cm", "5 m"),
    ("0.3", "30%"),
    ("1/3", "0.33"),
    ("B", "C"),
    ("[1, 2]", "[2, 1]"),
    ("(1, 2)", "[1, 2]"),
    ("1", "True"),
    ("yes", "no"),
    ("2 and 3", "3"),
    ("x = 2 or x = 3", "3"),
    ("3\\sqrt{2}", "2\\sqrt{3}"),
    ("1 2/0", "1"),
    ("$5", "5 cents"),
    ("$5", "€5"),
    ("$5", "5 apples"),
    ("$5", "5%"),
    ("5!", "5"),
    ("n!", "n"),
    ("(n+1)!", "(n+1)"),
    ("1\\frac{1}{2}", "\\frac{11}{2}"),
    ("3\\frac12", "31/2"),
    ("\\frac{1}{2}5", "1/25"),
    ("5 m", "5 M"),
    ("5 mW", "5 MW"),
    ("5 km", "5 miles"),
    ("5 square feet", "5 square metres"),
    ("5 million", "5"),
    ("1e400", "1e500"),
    ("\\boxed{5!}", "\\boxed{5}"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_answers_agree_in_both_directions(one: str, other: str) -> None:
    assert agree(f"The answer is: {one}", f"#### {other}") is True
    assert agree(f"#### {other}", f"The answer is: {one}") is True
    assert agree(one, other) is True


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_answers_do_not_agree(one: str, other: str) -> None:
    assert agree(f"#### {one}", f"#### {other}") is False


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("'abc'", "abc", True),
        ("'Abc'", "'abc'", False),
        ("' a'", "'a'", False),
        ("'*a'", "*a", True),
        ("{1, 2}", "{2, 1}", True),
        ("[True]", "[1]", False),
        ("1", "1.0", True),
        ("b'a'", "'a'", False),
        ("[" * 5000, "[" * 5000, True),
        ("1e400", "1e500", False),
        ("[1e400]", "[1e500]", False),
        ("-1e400", "-1e400", True),
        ("1e400j", "1e500j", False),
    ],
)
def test_code_is_compared_as_literals(one: str, other: str, same: bool) -> None:
    assert agree(f"#### {one}", f"#### {other}", Normalizer.AUTO, TaskType.CODE) is same


def test_in_maths_the_last_number_will_do() -> None:
    long = "First we add, then we multiply, and so on, which takes a while to write down in full. "
    assert agree(f"{long}We get 42 apples.", f"{long}That makes 42", task_type=TaskType.MATH) is True
    assert agree(f"{long}We get 42 apples.", f"{long}That makes 41", task_type=TaskType.MATH) is False
    assert agree(f"{long}We get 42 apples.", f"{long}That makes 42") is None


def test_json_documents_are_compared_by_value() -> None:
    one, other = '{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1}\n```'
    assert agree(one, other, Normalizer.JSON) is True
    assert agree(one, '{"a": 1, "b": [3]}', Normalizer.JSON) is False
    assert agree(one, "no json", Normalizer.JSON) is None


def test_each_normalizer_abstains_on_what_is_not_its_form() -> None:
    assert agree("#### abc", "#### 5", Normalizer.NUMBER) is None
    assert agree("#### 12", "#### 5", Normalizer.CHOICE) is None
    assert agree("", "x", Normalizer.TEXT) is None


@pytest.mark.parametrize(
    "text", ["{" * 100_000, '{"answer": ' + "[" * 100_000, "\\boxed{" * 20_000, '"answer": "' * 20_000]
)
def test_hostile_text_is_no_error(text: str) -> None:
    for normalizer in Normalizer:
        agree(text, text, normalizer)


def test_the_gate_abstains_without_a_second_answer() -> None:
    verdict = agreement.check(Message.of(Role.ASSISTANT, "42"), [None], AgreementSpec(), None)
    assert verdict.verdict is Verdict.ABSTAIN


@pytest.mark.parametrize(
    ("said", "needed", "expected"),
    [
        (["42", "42"], 0, Verdict.PASS),
        (["42", "41"], 0, Verdict.FAIL),
        (["42", "41"], 1, Verdict.PASS),
        (["41", "41"], 1, Verdict.FAIL),
        (["42", None], 1, Verdict.PASS),
        (["41", None], 1, Verdict.ABSTAIN),
        (["41", None], 2, Verdict.FAIL),
        (["42", None], 2, Verdict.ABSTAIN),
        ([None, None], 0, Verdict.ABSTAIN),
        (["42", "42", "41"], 2, Verdict.PASS),
        (["42", "41", "41"], 2, Verdict.FAIL),
        (["42"], 5, Verdict.PASS),  # no more can be asked for than there are
        ([], 0, Verdict.ABSTAIN),
    ],
)
def test_k_of_n_must_agree(said: list[str | None], needed: int, expected: Verdict) -> None:
    opinions = [None if text is None else Message.of(Role.ASSISTANT, f"#### {text}") for text in said]
    answer = Message.of(Role.ASSISTANT, "It is 42")
    given = agreement.check(answer, opinions, AgreementSpec(agreeing_min=needed, normalizer=Normalizer.NUMBER), None)
    assert given.verdict is expected


@given(st.lists(st.sampled_from(["42", "41", "", None]), min_size=1, max_size=5), st.integers(0, 5), st.data())
def test_what_is_decided_stays_decided(said: list[str | None], needed: int, data: st.DataObject) -> None:
    """Whatever the missing opinions turn out to be, a verdict that was there before them is the verdict after them."""

    def verdict(texts: list[str | None]) -> Verdict:
        opinions = [None if text is None else Message.of(Role.ASSISTANT, text) for text in texts]
        spec = AgreementSpec(agreeing_min=needed, normalizer=Normalizer.NUMBER)
        return agreement.check(Message.of(Role.ASSISTANT, "42"), opinions, spec, None).verdict

    later = [data.draw(st.sampled_from(["42", "41", "", None])) if text is None else text for text in said]
    if verdict(said) is not Verdict.ABSTAIN:
        assert verdict(later) is verdict(said)


def test_tool_calls_agree_by_name_and_arguments() -> None:
    def called(arguments: str, identity: str = "1") -> Message:
        return Message(Role.ASSISTANT, (), (ToolCall(identity, "f", arguments),))

    def verdict(one: Message, other: Message) -> Verdict:
        return agreement.check(one, [other], AgreementSpec(), None).verdict

    assert verdict(called('{"a": 1, "b": 2}'), called('{"b": 2, "a": 1}', "2")) is Verdict.PASS
    assert verdict(called('{"a": 1}'), called('{"a": 2}')) is Verdict.FAIL
    assert verdict(called('{"a": 1}'), Message.of(Role.ASSISTANT, "1")) is Verdict.FAIL


ANSWERS = st.one_of(
    st.text(),
    st.from_regex(r"[-$]?[0-9]{1,6}([.,/][0-9]{1,4})? ?[a-z%]{0,5}", fullmatch=True),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(repr),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(json.dumps),
    st.text("\\\\{}$frac()boxed#:answer is\"'`0123 \n", max_size=40),
)


@given(ANSWERS, ANSWERS, st.sampled_from(Normalizer), st.none() | st.sampled_from(TaskType))
def test_agreement_is_symmetric_and_raises_on_nothing(
    one: str, other: str, normalizer: Normalizer, task_type: TaskType | None
) -> None:
    assert agree(one, other, normalizer, task_type) is agree(other, one, normalizer, task_type)
    assert agree(one, one, normalizer, task_type) in {True, None}


@given(ANSWERS)
def test_marked_the_same_way_or_another_it_is_the_same_answer(value: str) -> None:
    marked = [f"\\boxed{{{value}}}", json.dumps({"reasoning": "because", "answer": value})]
    if not re.search(r"[\\\\{}#:\"\x00-\x1f]|answer|r.ponse", value, re.IGNORECASE) and value.strip():
        assert agree(marked[0], marked[1]) is True


@pytest.mark.parametrize("task_type", [None, TaskType.MATH, TaskType.CODE])
def test_numbers_beyond_what_a_float_holds_are_not_all_the_same(task_type: TaskType | None) -> None:
    assert agree('{"answer": 1e400}', '{"answer": 1e500}', task_type=task_type) is False
    assert agree('{"answer": [1e400]}', '{"answer": [1e500]}', task_type=task_type) is False
    assert agree('{"a": 1e400}', '{"a": 1e500}', task_type=task_type) is not True
    assert agree('{"a": 1e400}', '{"a": 1e500}', Normalizer.JSON) is None
