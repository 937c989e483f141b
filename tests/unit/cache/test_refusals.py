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
    "Can I turn off the heating?",
    "turn off the heating for 4 hours",
    "I can't turn on my heating",
    "cancel my heating",
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
        rows = rng.sample(range(len(STORED)), rng.choice((0, 1, 2, 3, 6, 7)))
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


def test_it_is_remembered_in_which_order_stored_questions_are_near() -> None:
    rng, remembered = Random(1), Refusals(known_questions())
    said_otherwise = 0
    for _ in range(300):
        asked = read(rng.choice(ASKED))
        rows = rng.sample(range(len(STORED)), 6)
        said = []
        for order in (rows, rows[::-1]):
            guards_say = proposal_refusal(asked, [read(STORED[row]) for row in order], aliases=6)
            assert remembered.of(asked, list(map(str, order)), aliases=6) == guards_say
            said.append(guards_say)
        said_otherwise += said[0] != said[1]
    assert said_otherwise


def test_it_is_remembered_how_a_question_was_written() -> None:
    known = known_questions()
    known.learn(Question("lines", Scope("acme"), "p", "list these: nyc\n  paris", 1e12))
    remembered = Refusals(known)
    short, long = read("list these: nyc\n    paris"), read("list these: New York City\n    paris")
    assert short.normal == long.normal
    assert remembered.of(short, ["lines"], aliases=1).startswith("code")
    assert remembered.of(long, ["lines"], aliases=1) == ""
