"""Which texts are the same question without any evidence."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.entry import Entry, Scope
from services.cache.matching.condensed import is_complete
from services.cache.matching.known_questions import KNOWN_BYTES_EACH, KnownQuestions, same_words
from services.cache.matching.pair_features import IDF_BUCKETS
from services.cache.matching.sketches import (
    CONDENSED_BYTES,
    CONDENSED_TEXT_BYTES,
    SKETCH_BYTES,
    SKETCH_TEXT_BYTES,
    Sketches,
)
from tests.support.cache_parts import answer

IDF = np.full(IDF_BUCKETS, 3.0, np.float32)


def entry(key: str, question: str) -> Entry:
    return Entry(
        key=key,
        scope=Scope("acme"),
        answer=answer(),
        stored_at_unix_s=0.0,
        expires_at_unix_s=9.0,
        partition="p",
        vector=b"",
        embedding_model="m",
        question=question,
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I reset it?", "how do I  reset it"),
        ("  Explain the reset of a router. ", "explain the reset of a router"),
        ("What is in the cafe\u0301?", "what is in the caf\u00e9"),
    ],
)
def test_spaces_a_capital_that_is_no_name_and_the_mark_at_the_end_are_forgiven(a: str, b: str) -> None:
    assert same_words(a) == same_words(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is 10³ + 5?", "What is 103 + 5?"),
        ("What is 2⁵", "What is 25"),
        ("What is 5!?", "What is 5?"),
        ("What is .5 + 1?", "What is 5 + 1?"),
        ("What is f' at 2?", "What is f at 2?"),
        ("What is 1½ doubled?", "What is 11⁄2 doubled?"),
        ("profit after (500) plus 200", "profit after 500 plus 200"),
        ("Convert 5 M to km", "Convert 5 m to km"),
        ("turkey facts", "Turkey facts"),
        ("polish furniture", "Polish furniture"),
        ("may events", "May events"),
        ("what is us policy", "what is US policy"),
        ("What is this?\nif x:\n  a\n  b", "What is this?\nif x:\n  a\nb"),
        ("  return x", "return x\t"),
        ("What is 'a  b'", "What is 'a b'"),
        ("she left?", "she left."),
        ("What is 1,5?", "What is 15?"),
        ("What is .NET?", "What is NET?"),
    ],
)
def test_whatever_may_change_the_meaning_makes_another_question(a: str, b: str) -> None:
    assert same_words(a) != same_words(b)


def test_what_somebody_asks_never_stands_for_an_entrys_question() -> None:
    known = KnownQuestions(IDF, entries_max=10)
    key = "ab" * 32
    asked = known.read(key)
    assert known.sketch_of(key, "How do I reset it?").reading.words == ("how", "do", "i", "reset", "it")
    assert known.read(key) is asked


def test_questions_are_bounded_in_bytes_and_the_oldest_leave() -> None:
    known = KnownQuestions(IDF, entries_max=100)
    for index in range(100):
        known.learn(entry(f"{index}", "\u6c49" * 2_000))
    assert 100 * KNOWN_BYTES_EACH / 9_700 - 2 < len(known) <= 100 * KNOWN_BYTES_EACH / 4_000
    assert known.get("99") is not None
    assert known.get("0") is None
    for index in range(100):
        known.learn(entry(f"{index}", "short"))
    assert len(known) == 100


READ_EACH = SKETCH_BYTES + 7 * SKETCH_TEXT_BYTES
CONDENSED_EACH = CONDENSED_BYTES + 7 * CONDENSED_TEXT_BYTES


def test_sketches_are_bounded_in_bytes_and_the_newest_is_among_them() -> None:
    kept = Sketches(IDF, bytes_max=20 * READ_EACH, condensed_bytes_max=50 * CONDENSED_EACH)
    for number in range(200):
        text = f"say {number:03}"
        made = kept.of((False, text), text)
        assert kept.of((False, text), text) is made
        assert len(kept._read) == min(number + 1, 20)
        assert len(kept._condensed) == len(kept._sizes) == min(max(0, number + 1 - 20), 50)
    long = "word " * 20_000
    assert kept.of((True, "key"), long) is kept.of((True, "key"), long)
    assert len(kept._read) == 1
    assert kept.of((True, "k"), "short") is kept.of((True, "k"), "short")
    assert kept._condensed_bytes == sum(size for _, size in kept._sizes)
    assert kept._bytes == READ_EACH - 2 * SKETCH_TEXT_BYTES


def test_of_questions_in_turns_a_part_is_still_kept() -> None:
    kept = Sketches(IDF, bytes_max=READ_EACH, condensed_bytes_max=50 * CONDENSED_EACH)
    texts = [f"say {number:03}" for number in range(100)]
    for _ in range(5):
        for text in texts:
            kept.of((False, text), text)
    assert sum((False, text) in kept._condensed for text in texts[-80:]) > 8


def test_a_question_that_was_condensed_is_read_as_before_and_condensed_anew_when_more_of_it_was_read() -> None:
    kept = Sketches(IDF, bytes_max=READ_EACH)
    first = kept.of((True, "k"), "how do I pay by card").reading
    assert first.words
    kept.of((False, "another"), "another")
    assert not is_complete(kept._condensed[True, "k"])
    again = kept.of((True, "k"), "how do I pay by card").reading
    assert again is not first
    assert again == first
    for name in ("words", "frame", "questions", "order", "asking", "particulars"):
        assert getattr(again, name) == getattr(first, name)
        assert getattr(again.core, name) == getattr(first.core, name)
    kept.of((False, "another"), "another")
    assert is_complete(kept._condensed[True, "k"])
    assert len(kept._sizes) == 2
