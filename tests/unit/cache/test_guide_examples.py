"""What docs/cache-guide.md says is not served by meaning, and what a class may learn of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cache.matching.proposal_guard import LIFTABLE, OVERRULED
from tests.support.cache_parts import refused_by

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "cache-guide.md"
ROWS = re.findall(r"^\| (`[^|]*) \| ([^|]*\?) \| ([^|]*\?) \| (\w+) \|$", GUIDE.read_text(), re.MULTILINE)


def test_there_are_ten_rows() -> None:
    assert len(ROWS) == 10


@pytest.mark.parametrize(("kinds", "stored", "asked", "lifted"), ROWS)
def test_each_example_is_refused_by_a_guard_of_its_row_and_lifted_as_it_says(
    kinds: str, stored: str, asked: str, lifted: str
) -> None:
    named = re.findall(r"`(\w+)`", kinds)
    assert refused_by(asked, stored) in named
    for kind in named:
        assert lifted == ("yes" if kind in LIFTABLE else "broad" if kind in OVERRULED else "no")
