"""CONFIDENCE: N, found and taken out wherever the model put it."""

from __future__ import annotations

import pytest

from services.executor.gates import self_confidence
from spillway.routing import SelfConfidenceSpec, Verdict


@pytest.mark.parametrize(
    ("text", "rest", "said"),
    [
        ("Paris.\nCONFIDENCE: 4", "Paris.", 4),
        ("Paris.\n\nCONFIDENCE: 4\n", "Paris.", 4),
        ("Paris.\n**CONFIDENCE: 5**", "Paris.", 5),
        ("Paris.\n**CONFIDENCE:** 5", "Paris.", 5),
        ("Paris.\n**Confidence**: 3/5", "Paris.", 3),
        ("Paris.\n- Confidence: 2 out of 5.", "Paris.", 2),
        ("CONFIDENCE: 1\nParis.", "Paris.", 1),
        ("Paris. CONFIDENCE: 4", "Paris.", 4),
        ("Paris. (CONFIDENCE: 4)", "Paris.", 4),
        ("Paris.\n`CONFIDENCE: 2`", "Paris.", 2),
        ("Paris.\nConfidence level: 4", "Paris.", 4),
        ("Paris.\nCONFIDENCE: [3]", "Paris.", 3),
        ("Paris.\r\nCONFIDENCE: 3\r\n", "Paris.", 3),
        ("CONFIDENCE: 2\nno\nCONFIDENCE: 4", "no", 4),
        ("His confidence: 3 wins in a row.", "His confidence: 3 wins in a row.", None),
        ("CONFIDENCE: 9", "CONFIDENCE: 9", None),
        ("CONFIDENCE: 0.95", "CONFIDENCE: 0.95", None),
        ("CONFIDENCE: 35", "CONFIDENCE: 35", None),
        ("Paris.", "Paris.", None),
        ("", "", None),
    ],
)
def test_the_line_is_read_and_stripped(text: str, rest: str, said: int | None) -> None:
    assert self_confidence.strip(text) == (rest, said)


def test_missing_counts_as_one() -> None:
    assert self_confidence.check(None, SelfConfidenceSpec(1)).verdict is Verdict.PASS
    assert self_confidence.check(None, SelfConfidenceSpec(2)).verdict is Verdict.FAIL


def test_the_threshold_itself_passes() -> None:
    assert self_confidence.check(3, SelfConfidenceSpec(3)).verdict is Verdict.PASS
    assert self_confidence.check(2, SelfConfidenceSpec(3)).verdict is Verdict.FAIL


def test_more_confidence_is_a_higher_score() -> None:
    scores = [self_confidence.check(said, SelfConfidenceSpec()).score or 0.0 for said in range(1, 6)]
    assert scores == sorted(set(scores))


def test_long_runs_of_markup_take_no_time() -> None:
    assert self_confidence.strip("* " * 100_000 + "CONFIDENCE 3")[1] is None
