"""What a question asks for that none of an answer's own questions does, though in their words."""

from __future__ import annotations

import pytest

from services.cache.matching.reading import read
from services.cache.matching.unheard import asks_unheard

ROWS = [
    "when will my order arrive",
    "the courier has not come yet",
    "is the price of delivery on the bill",
]


@pytest.mark.parametrize("asked", ["What happens to my order?", "what happens with the bill"])
def test_what_happens_is_unheard_unless_a_question_of_the_answer_asks_it(asked: str) -> None:
    rows = [read(row) for row in ROWS]
    assert "what happens" in asks_unheard(read(asked), rows)
    assert asks_unheard(read(asked), [*rows, read("what happens when the courier comes")]) == ""


@pytest.mark.parametrize("asked", ["what is the price of delivery", "how much does delivery cost"])
def test_a_measure_is_heard_of_where_a_question_of_the_answer_names_it_without_asking_for_it(asked: str) -> None:
    assert asks_unheard(read(asked), [read(row) for row in ROWS]) == ""
    assert "measure" in asks_unheard(read(asked), [read(row) for row in ROWS[:2]])
