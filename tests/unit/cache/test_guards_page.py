"""What docs/cache-guards.md says of every kind of guard: what it refuses, what it lets pass, what lifts it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cache.matching.proposal_guard import ALIASES_KNOWN, LIFTABLE, OVERRULED
from tests.support.cache_parts import refused_by

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "cache-guards.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (\w+) \|$", PAGE, re.MULTILINE)
ANSWERS = {
    name: (re.split(r"\s*/\s+", " ".join(questions.split())), int(size))
    for name, size, questions in re.findall(
        r"^\*\*(\w+)\*\* \(an answer of (\d+) [^)]*\):((?:.|\n)+?)\n\n", PAGE, re.MULTILINE
    )
}
EXAMPLES = [row for row in ROWS if row[1] != "–"]


def kinds_in_the_code() -> Iterator[str]:
    """Of each sentence in the code, no docstring, that begins with a word and a colon."""
    for path in (REPOSITORY / "services" / "cache" / "matching").glob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield from re.findall(r"^([a-z]+): ", node.value)


def test_every_kind_of_guard_has_a_row_and_every_row_is_a_kind() -> None:
    named = [kind for kind, *_ in ROWS]
    assert len(named) == len(set(named)) > 30
    assert set(named) == set(kinds_in_the_code())
    assert set(named) >= {*LIFTABLE, *OVERRULED}


def test_the_answers_of_several_questions_are_read_off_the_page() -> None:
    assert {name: (len(questions), size) for name, (questions, size) in ANSWERS.items()} == {
        "few": (6, 6),
        "many": (6, ALIASES_KNOWN),
        "mixed": (9, ALIASES_KNOWN),
    }


@pytest.mark.parametrize(("kind", "stored", "refused", "passing", "lifted"), EXAMPLES)
def test_each_kind_refuses_and_lets_pass_what_its_row_says(
    kind: str, stored: str, refused: str, passing: str, lifted: str
) -> None:
    questions, aliases = ANSWERS.get(stored, ([stored], 1))
    assert refused_by(refused, *questions, aliases=aliases) == kind
    assert refused_by(passing, *questions, aliases=aliases) == ""


@pytest.mark.parametrize(("kind", "lifted"), [(row[0], row[-1]) for row in ROWS])
def test_each_kind_is_lifted_as_its_row_says(kind: str, lifted: str) -> None:
    assert lifted == ("learned" if kind in LIFTABLE else "broad" if kind in OVERRULED else "never")
