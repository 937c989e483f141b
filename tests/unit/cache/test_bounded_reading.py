"""What a question is read for is looked through a bounded number of times, and grows by a bounded length, whoever wrote
it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.cache.matching.close_words import closed_groups
from services.cache.matching.near_synonyms import FRAMES, NOUNS_OF_VERBS
from services.cache.matching.reading import read
from services.cache.matching.spelling import NAMES_MAX, in_one_spelling
from services.cache.matching.tokens import tokens_in, words_in

LOOKS_MAX = 8


class Counted(tuple[str, ...]):
    """Words that count how often they are gone through."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        self.looks += 1
        return super().__iter__()

    def __contains__(self, word: object) -> bool:
        self.looks += 1
        return super().__contains__(word)


def looks_at(words: list[str]) -> int:
    counted = Counted(words)
    closed_groups(counted)
    return counted.looks


FRAMED = sorted({word for frame in FRAMES for group in frame.groups for word in group.split("/")})
NOUNS = sorted({word for group in NOUNS_OF_VERBS for word in group.split("/")})


@pytest.mark.parametrize("word", [*FRAMED[::5], "fly", "close", *NOUNS[::25]])
def test_words_that_stand_for_others_in_a_frame_are_not_each_held_against_all(word: str) -> None:
    assert looks_at([word, "has", "been"] * 200) <= looks_at([word, "has", "been"]) <= LOOKS_MAX


def test_of_many_short_names_few_are_written_out() -> None:
    for name in ("DRC", "U.S.", "EU"):
        text = f"{name} " * 500
        written = in_one_spelling(text, words_in(text.lower()), tokens_in(text))
        assert len(text) < len(written) < len(text) + 40 * NAMES_MAX
    text = "DRC or EU?"
    written = in_one_spelling(text, words_in(text.lower()), tokens_in(text))
    assert written == "Democratic Republic of the Congo or European Union?"


def test_abbreviations_are_written_out_a_bounded_number_of_times() -> None:
    for text in ("uk ", "2fa ", "nyc "):
        assert len(read(text * 500).normal) < len(text * 500) + 40 * NAMES_MAX
