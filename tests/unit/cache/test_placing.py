"""What stands before the same word may say another time, another place, or another of the kind."""

from __future__ import annotations

import pytest

from services.cache.matching.contraries import clears
from services.cache.matching.placing import placed_in, placed_otherwise
from services.cache.matching.reading import read
from tests.support.cache_parts import refused_by


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I get into a lease?", "How do I get out of a lease?"),
        ("What should I eat during a marathon?", "What should I eat after a marathon?"),
        ("What should I eat during a marathon?", "What should I eat before the marathon?"),
        ("What changed since the war?", "What changed during the war?"),
        ("Are there any branches in Leeds?", "Are there other branches in Leeds?"),
        ("Is any card accepted?", "Is another card accepted?"),
        ("Can I talk to my doctor?", "Can I talk about my doctor?"),
    ],
)
def test_the_same_at_another_time_or_place_or_another_of_the_kind_is_refused(a: str, b: str) -> None:
    assert refused_by(a, b) == refused_by(b, a) == "opposites"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I get into the garage?", "How do I get in the garage?"),
        ("How do I move files into the archive?", "How do I move files to the archive?"),
        ("Is any document needed?", "Are any documents needed?"),
        ("Can I speak to my doctor?", "Can I speak with my doctor?"),
        ("How do I take a stain out of wool?", "How can I take a stain out of wool?"),
    ],
)
def test_classes_that_do_not_stand_against_each_other_refuse_nothing(a: str, b: str) -> None:
    assert refused_by(a, b) == refused_by(b, a) == ""


def test_classes_stand_against_each_other_only_before_the_same_word() -> None:
    flight, landing = placed_in(["phones", "during", "the", "flight"]), placed_in(["phones", "after", "the", "landing"])
    assert flight == {"flight": frozenset({"during"})}
    assert landing == {"landing": frozenset({"after"})}
    assert placed_otherwise(flight, landing) == []
    assert placed_otherwise(flight, placed_in(["after", "my", "flight"])) == ["flight"]


def test_only_a_question_that_says_the_very_place_clears_what_another_one_says_of_it() -> None:
    asked, against = read("What should I eat during a marathon?"), read("What should I eat after a marathon?")
    assert clears(asked, against, read("What do I eat during a marathon?"))
    assert not clears(asked, against, read("What do I eat at a marathon?"))
