"""What the guards said is remembered by all that it depends on."""

from __future__ import annotations

from random import Random

import pytest

from services.cache.entry import Question, Scope
from services.cache.matching import refusals as module
from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.proposal_guard import proposal_refusal
from services.cache.matching.reading import Reading, read
from services.cache.matching.refusals import Refusals
from tests.support.cache_parts import pair_model

STORED = (
    "How do I turn on the heating?",
    "How do I turn off the heating?",
    "Is there a way to turn on the heating?",
    "turn on my heating",
    "How do I bleed the heating?",
)
ASKED = (*STORED, "how can I turn the heating on", "How do I turn on the heating for 3 hours?", "turn down the heating")


def known_questions() -> KnownQuestions:
    known = KnownQuestions(pair_model().idf, entries_max=100)
    for number, text in enumerate(STORED):
        known.learn(Question(str(number), Scope("acme"), "p", text, 1e12))
    return known


def test_a_remembered_refusal_is_the_one_that_the_guards_give() -> None:
    rng, remembered = Random(5), Refusals(known_questions())
    for _ in range(300):
        asked = read(rng.choice(ASKED))
        rows = rng.sample(range(len(STORED)), rng.randint(0, 3))
        aliases = rng.randint(1, 4)
        guards_say = proposal_refusal(asked, [read(STORED[row]) for row in rows], aliases=aliases)
        assert remembered.of(asked, [str(row) for row in rows], aliases=aliases) == guards_say


def test_the_guards_are_asked_once_of_a_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of: list[tuple[str, int]] = []

    def count(asked: Reading, stored: list[Reading], *, aliases: int) -> str:
        asked_of.append((asked.exact, len(stored)))
        return ""

    monkeypatch.setattr(module, "proposal_refusal", count)
    known = known_questions()
    remembered = Refusals(known, refusals_max=2)
    for _ in range(3):
        remembered.of(read("a"), ["0", "1"], aliases=2)
    assert asked_of == [("a", 2)]
    known.forget("1")
    remembered.of(read("a"), ["0", "1"], aliases=2)
    assert asked_of == [("a", 2), ("a", 1)]
    remembered.of(read("a"), ["0"], aliases=3)
    assert len(asked_of) == 3
    assert len(remembered) == 2
