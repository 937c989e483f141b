"""Plain rules, and which patterns may be used."""

from __future__ import annotations

import pytest

from services.executor.gates import rules
from spillway.patterns import PatternError, compile_pattern
from spillway.routing import RulesSpec, Verdict

BLOCK = "```python\nprint(1)\n```"


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("abc", RulesSpec(chars_min=3), Verdict.PASS),
        ("ab  ", RulesSpec(chars_min=3), Verdict.FAIL),
        ("abc", RulesSpec(chars_max=3), Verdict.PASS),
        ("abcd", RulesSpec(chars_max=3), Verdict.FAIL),
        ("see [1]", RulesSpec(must_match=(r"\[\d+\]",)), Verdict.PASS),
        ("see", RulesSpec(must_match=(r"\[\d+\]",)), Verdict.FAIL),
        ("as an AI", RulesSpec(must_not_match=("(?i)as an ai",)), Verdict.FAIL),
        ("fine", RulesSpec(must_not_match=("(?i)as an ai",)), Verdict.PASS),
        (f"Here:\n{BLOCK}", RulesSpec(require_code_block=True), Verdict.PASS),
        ("```python\nprint(1)", RulesSpec(require_code_block=True), Verdict.FAIL),
        ("print(1)", RulesSpec(require_code_block=True), Verdict.FAIL),
        ("It is 5.", RulesSpec(number_min=5, number_max=5), Verdict.PASS),
        ("It is 4 or 6.", RulesSpec(number_max=5), Verdict.FAIL),
        ("The answer is -1.", RulesSpec(number_min=0), Verdict.FAIL),
        ("none", RulesSpec(number_min=0), Verdict.FAIL),
        ("x", RulesSpec(must_match=("(?=a)",)), Verdict.ABSTAIN),
    ],
)
def test_rules(text: str, spec: RulesSpec, expected: Verdict) -> None:
    assert rules.check(text, spec).verdict is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was first shown in 1974 [1].", Verdict.PASS),
        ("As others found [2, 5-7], it holds.", Verdict.PASS),
        ("See the note.[^3]", Verdict.PASS),
        ("It is the root of all evil (Knuth, 1974).", Verdict.PASS),
        ("Clocks drift (Lamport et al. 1978, p. 560).", Verdict.PASS),
        ("Transactions [Gray 1981] are old.", Verdict.PASS),
        ("Both agree (see Gray, 1981; Lamport, 1978b).", Verdict.PASS),
        ("Read https://example.org/paper for more.", Verdict.PASS),
        ("doi:10.1145/359545.359563", Verdict.PASS),
        ("It was in 1974 (a Tuesday).", Verdict.FAIL),
        ("The year (1974) was warm.", Verdict.FAIL),
        ("Take `items[1]` and leave the rest.", Verdict.FAIL),
        ("```python\nx = items[1]\n```\nThat is all.", Verdict.FAIL),
        ("The list is x = [1].", Verdict.PASS),  # told from a citation only by what it means
        ("Nobody knows.", Verdict.FAIL),
    ],
)
def test_what_a_citation_looks_like(text: str, expected: Verdict) -> None:
    assert rules.check(text, RulesSpec(require_citation=True)).verdict is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Der Zug fährt um neun ab, und man sollte früher da sein.", Verdict.PASS),
        ("The train leaves at nine, and you should be there before that.", Verdict.FAIL),
        ("Поезд отправляется в девять.", Verdict.FAIL),
        ("Paris", Verdict.ABSTAIN),
        ("42", Verdict.PASS),
    ],
)
def test_the_language_that_is_asked_for(text: str, expected: Verdict) -> None:
    assert rules.check(text, RulesSpec(language="de")).verdict is expected


@pytest.mark.parametrize("piece", ["[", "(a", "[1", "(a, ", "https://", "(x 19", "[^"])
def test_looking_for_citations_takes_no_time(piece: str) -> None:
    rules.check(piece * 50_000, RulesSpec(require_citation=True))


def test_only_the_beginning_of_a_long_answer_is_searched() -> None:
    text = "a" * 100_000 + "needle"
    assert rules.check(text, RulesSpec(must_match=("need+le",))).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        r"^\d{4}-\d{2}-\d{2}$",
        r"^[a-z0-9]+(-[a-z0-9]+)*$",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        r"^[^@\s]+@[^@\s]+\.[a-z]+$",
        r"(foo|bar)+",
        r"(?i)^(yes|no)$",
        r"^(?:\w+ )*\w+$",
        r"^\+?[1-9]\d{1,14}$",
        r"^([A-Z][a-z]+,)*$",
        r"\bword\b",
        "(a|ab)*c",
        r"a(?:b(?:c)?)?",
        "(a+)+$",
        "a*b*c*d*e*f*g*",
        r"^\w+\Z",
        r"[\u00e0-\u00ff]",
        r"^\p{Lu}\pL*$",
        "a" * 1_000,
    ],
)
def test_patterns_of_everyday_use_may_be_used(pattern: str) -> None:
    compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1",
        "(?=a)b",
        "(?<!a)b",
        "(?>a)",
        "(",
        "[z-a]",
        "a" * 1_001,
        "(" * 900 + ")" * 100,
        "a{1001}",
        "(?:\\pL{0,30}){30}x",
        "\ud800",
    ],
)
def test_what_is_no_pattern_or_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern",
    [
        r"^[a-z0-9]+(-[a-z0-9]+)*x$",
        r"^(\w+\s?)*x$",
        "^(a|a)*x$",
        "^" + "a?" * 40 + "b",
        "^" + "a{0,31}" * 20 + "b",
        "^" + "(?:a|aa)" * 40 + "b",
        "^(a*)(a*)(a*)(a*)(a*)y",
        "a[a-z]{900}x",
    ],
)
def test_a_pattern_ends_on_its_worst_text(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    for piece in ("a", "a-", "a ", "foobar", "-"):
        assert not compiled.found_in(piece * 100_000 + "!")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^\w+\Z", "abc", True),
        (r"\\Z", r"a\Z", True),
        (r"[\u00e0-\u00ff]", "é", True),
        ("(?i)ÉTÉ", "été", True),
        ("a$", "a\n", False),
        ("é", "\ud800é", True),
        (r"^\d$", "٣", False),
    ],
)
def test_the_dialect_of_patterns(pattern: str, text: str, found: bool) -> None:
    assert compile_pattern(pattern).found_in(text) is found
