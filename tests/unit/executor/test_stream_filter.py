"""What is meant for Spillway never leaves in a stream."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.executor.gates import self_confidence
from services.executor.gates.stream_filter import MARKER_CHARS_MAX, StreamFilter


def passed(*pieces: str, confidence: bool = True) -> list[str]:
    subject = StreamFilter(confidence=confidence)
    return [*(subject.feed(piece) for piece in pieces), subject.finish()]


def whole(*pieces: str, confidence: bool = True) -> str:
    return "".join(passed(*pieces, confidence=confidence))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42\nCONFIDENCE: 5", "42"),
        ("42\n\n**CONFIDENCE: 5**\n", "42"),
        ("CONFIDENCE: 4\n42", "42"),
        ("CONFIDENCE: 4\n\n42\n", "\n42"),
        ("It is 42. CONFIDENCE: 3", "It is 42."),
        ("It is 42.\nconfidence level: 3/5\n", "It is 42."),
        ("42\n```\nCONFIDENCE: 5\n```", "42"),
        ("42\n> CONFIDENCE\uff1a 2 out of 5.", "42"),
        ("Their confidence: 3 of them had it.", "Their confidence: 3 of them had it."),
        ("Confidence is a virtue.\nCONFIDENCE: 5", "Confidence is a virtue."),
        ("CONFIDENCE INTERVALS\nare wide", "CONFIDENCE INTERVALS\nare wide"),
        ("```python\nx = 1\n```\nCONFIDENCE: 5", "```python\nx = 1\n```"),
        ("[ESCALATE]", ""),
        ("**[ESCALATE]**", ""),
        ("I do not know.\n[ESCALATE]\n", "I do not know."),
        ("I do not know [ESCALATE].", "I do not know"),
        ("Write [ESCALATE] to give up.", "Write [ESCALATE] to give up."),
        ("a [list] of [ES] things [", "a [list] of [ES] things ["),
        ("  indented\n\n\n  text  \n", "  indented\n\n\n  text  \n"),
        ("", ""),
    ],
)
def test_markers_are_taken_out_however_the_text_is_cut(text: str, expected: str) -> None:
    assert whole(text) == expected
    assert whole(*text) == expected
    assert whole(*(text[n : n + 3] for n in range(0, len(text), 3))) == expected


PIECES = st.lists(
    st.sampled_from(
        ["CONFIDENCE", ": ", "5", "\n", "[ESCALATE]", "[", "```", "**", " ", "word", ".", "CONF", "_", "confidence: 2",
         "\nCONFIDENCE: 3", "-", "of 5", "\r", "\t", "ESCALATE]", "text\n"]
    )
    | st.text(max_size=8),
    max_size=14,
)  # fmt: skip


@given(PIECES, st.booleans(), st.data())
@settings(max_examples=400)
@example(["42. CONFIDENCE: 5"], True, None)
def test_the_cuts_change_nothing(pieces: list[str], confidence: bool, data: st.DataObject | None) -> None:
    text = "".join(pieces)
    expected = whole(text, confidence=confidence)
    assert whole(*pieces, confidence=confidence) == expected
    assert whole(*text, confidence=confidence) == expected
    if data is not None and text:
        cut = data.draw(st.integers(0, len(text)))
        assert whole(text[:cut], text[cut:], confidence=confidence) == expected


@given(PIECES)
@settings(max_examples=400)
def test_no_confidence_leaves(pieces: list[str]) -> None:
    pieces = [piece for piece in pieces if "ESCALATE" not in piece]
    out = whole(*pieces)
    for line in out.split("\n"):
        assert len(line) > MARKER_CHARS_MAX or not self_confidence.is_line(line) or line not in "".join(pieces)


def test_what_is_no_marker_leaves_at_once() -> None:
    assert passed("One ", "two", ", three.", confidence=False) == ["One", " two", ", three.", ""]
    assert passed("The answer", " is C", "arl.") == ["The answer", " is", " Carl.", ""]


def test_a_line_that_only_begins_like_a_marker_is_held_for_a_bounded_time() -> None:
    subject = StreamFilter(confidence=True)
    assert subject.feed("Confidence " + "x" * 100) == ""
    assert subject.feed("x" * 40).startswith("Confidence ")


def test_a_confidence_that_was_not_asked_for_stays() -> None:
    assert whole("42\nCONFIDENCE: 5", confidence=False) == "42\nCONFIDENCE: 5"
